"""Crawls that are killed, stopped and robbed of their disk, and that must end as if nothing had happened.

`site` is the site, `source` an ordinary source with an ordinary spider that uses all that Scrapy offers, `crawls` the
crawls of it and how they are compared, `__main__` the long run (`make torture`). What CI runs is `tests/test_kills.py`.
"""
