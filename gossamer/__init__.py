"""Gossamer's engine: declarations, crawls, records, quality, publication, the lake and the command line.

Nothing in this package imports Dagster, so that each part can be used and tested alone. What turns it into assets,
checks and sensors stands beside it: `assets/`, `resources/`, `sensors/`, `partitions/` and `definitions.py`.
"""

__version__ = "0.1.0"
