"""The demo shop: a small web shop of our own, shared by `make demo`, the tests and the documentation.

`catalogue` says what is true on a date, `pages` turns that into HTML, `shop` serves it. Nothing of the platform belongs
here (the shop knows nothing of who crawls it), except `__main__`, which runs the demo.
"""
