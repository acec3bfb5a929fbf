"""Scrapy under an own loop: one response, its records and its requests are one unit of commit.

`engine` is the loop, `desk` lies between it and the frontier's store, `unit` is the work under way, `requests` writes
requests down, `seam` holds what is private in Scrapy, `memory` keeps cookies and `spider.state`. Which crawl it is, and
where its rows go, does not belong here.
"""
