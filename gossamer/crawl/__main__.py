"""`python -m gossamer.crawl`: the command line of one crawl's process. What a crawl does is in `run`.

Errors are one line on stderr that begins with `gossamer.crawl: error:`; `process` looks for it.
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

from gossamer.crawl.process import ERROR_PREFIX, INTERRUPTED
from gossamer.errors import ConfigurationError, GossamerError, PartitionKeyError, SourceError
from gossamer.settings import Settings

#: How long the crawl may take to stop when its parent is gone.
ORPHAN_SECONDS = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m gossamer.crawl", description="Crawl one partition of one source.")
    parser.add_argument("--source", required=True, help="name of the source")
    parser.add_argument("--partition", required=True, help="partition key")
    parser.add_argument("--sources", help="folder of sources (default: GOSSAMER_SOURCES)")
    parser.add_argument("--lake", help="folder or s3:// (default: GOSSAMER_LAKE)")
    parser.add_argument("--run-id", default="", help="the run that asks for it, for the manifest")
    parser.add_argument("--pages", type=int, help="at most so many pages")
    parser.add_argument("--attached", action="store_true", help="stop when stdin is closed: the parent is gone")
    options = parser.parse_args(arguments)
    if options.pages is not None and options.pages < 1:
        parser.error("--pages must be 1 or more")
    if options.attached:
        threading.Thread(target=_die_with_parent, name="parent", daemon=True).start()

    from gossamer.crawl.run import Interrupted, run
    from gossamer.crawl.spiders import UnusableSourceError

    try:
        settings = Settings.load(sources=options.sources, lake=options.lake)
        run(settings, options.source, options.partition, run_id=options.run_id, pages=options.pages)
    except (UnusableSourceError, SourceError, ConfigurationError, PartitionKeyError) as error:
        return _say(error, 2)
    except GossamerError as error:
        return _say(error, 1)
    except Interrupted:
        return INTERRUPTED
    return 0


def _say(error: GossamerError, code: int) -> int:
    print(f"{ERROR_PREFIX}{' '.join(str(error).splitlines())}", file=sys.stderr, flush=True)
    return code


def _die_with_parent() -> None:
    # Not sys.stdin: its lock, held by a thread that waits, would break the interpreter's exit.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_SECONDS)
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
