"""From crawled rows to clean and enriched frames: declared types, duplicates, a source's own transforms, joins.

`values` turns text into values, `transform` runs a source's own code, `clean` and `enrich` are the two layers. Frames
are lazy throughout; what reads or writes the lake is the caller's.
"""
