"""Whether a partition's data can be trusted: the source's expectations, evaluated, and a report that people read.

`suite` evaluates, `words` says it in words, `report` draws the page. Whether a partition is published is `publish`'s.
"""
