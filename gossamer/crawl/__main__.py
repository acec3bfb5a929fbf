"""`python -m gossamer.crawl`: the command line of one crawl's process. What a crawl does is in `run`.

Errors are one line on stderr that begins with `gossamer.crawl: error:`; `process` looks for it.
"""

import argparse
import logging
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import NoReturn

from gossamer.crawl.process import ERROR_PREFIX, INTERRUPTED, PAUSED
from gossamer.crawl.text import printable
from gossamer.errors import ConfigurationError, GossamerError, LakeAwayError, PartitionKeyError, SourceError
from gossamer.settings import Settings

#: How long the crawl may take to stop when its parent is gone.
ORPHAN_SECONDS = 5.0


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    options = _options(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        # Until `run` has its own: the first process of a container ignores what it has no handler for.
        signal.signal(number, lambda *_: os._exit(INTERRUPTED))
    parent = _Parent(options.scratch)
    if options.attached:
        threading.Thread(target=parent.follow, name="parent", daemon=True).start()
    code = _crawl(options)
    logging.shutdown()
    sys.stdout.flush()
    parent.clear()
    os._exit(code)  # sys.exit would wait for threads, Twisted's or a spider's own, and for ever


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m gossamer.crawl", description="Crawl one partition of one source.")
    parser.add_argument("--source", required=True, help="name of the source")
    parser.add_argument("--partition", required=True, help="partition key")
    parser.add_argument("--sources", help="folder of sources (default: GOSSAMER_SOURCES)")
    parser.add_argument("--lake", help="folder or s3:// (default: GOSSAMER_LAKE)")
    parser.add_argument("--run-id", default="", help="the run that asks for it, for the manifest")
    parser.add_argument("--root-run", default="", help="the run that it began with, where this one is a retry")
    parser.add_argument("--generation", type=int, help="which crawl of the partition (default: by the rules)")
    parser.add_argument("--fresh", action="store_true", help="begin a new crawl, though the last one is not over")
    parser.add_argument("--pages", type=int, help="at most so many pages")
    parser.add_argument("--attached", action="store_true", help="stop when stdin is closed: the parent is gone")
    parser.add_argument("--scratch", help="folder of the parent's, removed at the end if the parent is gone")
    options = parser.parse_args(arguments)
    if options.pages is not None and options.pages < 1:
        parser.error("--pages must be 1 or more")
    return options


def _crawl(options: argparse.Namespace) -> int:
    """The exit code of the crawl."""
    from gossamer.crawl.finish import SupersededError
    from gossamer.crawl.frontier import FencedError
    from gossamer.crawl.run import Ended, Interrupted, run
    from gossamer.crawl.spiders import UnusableSourceError

    try:
        settings = Settings.load(sources=options.sources, lake=options.lake)
        ended = run(
            settings,
            options.source,
            options.partition,
            generation=options.generation,
            run_id=options.run_id,
            root_run=options.root_run or options.run_id,
            pages=options.pages,
            fresh=options.fresh,
        )
    except (UnusableSourceError, SourceError, ConfigurationError, PartitionKeyError) as error:
        return _say(error, 2)
    except (FencedError, SupersededError, LakeAwayError) as error:
        return _say(error, INTERRUPTED)  # nothing is wrong with the crawl: another launch goes on
    except GossamerError as error:
        return _say(error, 1)
    except Interrupted:
        return INTERRUPTED
    except Exception:  # noqa: BLE001  (a fault of ours, shown whole; without this, threads would keep the process)
        traceback.print_exc()
        return 1
    codes: dict[Ended, int] = {Ended.OVER: 0, Ended.PAUSED: PAUSED, Ended.INTERRUPTED: INTERRUPTED}
    return codes[ended]


def _say(error: GossamerError, code: int) -> int:
    print(f"{ERROR_PREFIX}{printable(' '.join(str(error).splitlines()))}", file=sys.stderr, flush=True)
    return code


class _Parent:
    """The process that started this one: without it the crawl ends, and clears up what the parent cannot any more."""

    def __init__(self, scratch: str | None) -> None:
        self._scratch = scratch
        self._gone = False

    def follow(self) -> None:
        """Ends this process when the parent is gone, which closes stdin."""
        # Not sys.stdin: its lock, held by a thread that waits, would break the interpreter's exit.
        while os.read(0, 1024):
            pass
        self._gone = True
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_SECONDS)
        self.clear()
        os._exit(INTERRUPTED)

    def clear(self) -> None:
        """Removes the parent's temporary folder, if the parent is gone."""
        if self._gone and self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
