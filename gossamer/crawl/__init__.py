"""One crawl: from a partition's seeds to its raw records, its dead letters and the verdict on its books.

Here belong the crawl's process (`python -m gossamer.crawl`, started and watched by `process`), its seeds, the guards
around its requests, the accounts of every request and record, and the named reasons of what failed. A complete crawl's
rows become `raw`, an incomplete one's `incomplete`, beside the `raw` of the last complete one. What the records
mean (types, duplicates, checks) does not: `gossamer.records` and `gossamer.quality` begin where the raw rows lie in the
lake. Only `process` and `progress` may be imported by others; they import no Scrapy.

Exit codes of the process: 0 the partition is committed (its verdict may still say that it is incomplete), 2 the source
or the request cannot be used as written, 75 interrupted and nothing committed, any other: the machine or the lake.
"""
