"""The store of a launch on this machine: found, taken over from an earlier launch, and cleared away.

Every launch works on a file of its own, so that an older process that was thought dead can change nothing of it. Which
crawl and launch it is belongs to `life`, the store's copy in the lake to `parking`.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from gossamer.crawl.life import Crawl
from gossamer.crawl.parking import Parking
from gossamer.errors import CrawlError
from gossamer.partition import SEPARATOR

_FILE = "frontier.sqlite"


def prepare(crawls: Path, crawl: Crawl, launch: int, parking: Parking) -> Path:
    """The path of this launch's store, with what the newest earlier launch committed: on this machine, or parked.

    Raises:
        CrawlError: there is no room for it.
        LakeError: the parked one cannot be read.
    """
    home = crawls / crawl.source / crawl.key.replace(SEPARATOR, "~") / f"{crawl.generation:06}"
    own = home / f"{launch:06}"
    path = own / _FILE
    try:
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir(parents=True)
        before = _newest(home, launch)
        parked = parking.parked()
        if before is not None and (parked is None or int(before.name) >= parked[0]):
            _copy(before / _FILE, path)
        elif parked is not None:
            parking.restore(path)
    except (OSError, sqlite3.Error) as error:
        raise CrawlError(
            f"The crawl's store cannot be made in {own}: {error}. Make room, or set GOSSAMER_CRAWLS."
        ) from error
    # Not those of newer launches: this process may be slow, and overtaken already.
    for folder in (*_numbered(home, launch), *_numbered(home.parent, crawl.generation)):
        shutil.rmtree(folder, ignore_errors=True)
    return path


def clear(path: Path, crawls: Path) -> None:
    """Removes a launch's store from this machine, and the folders that are empty then."""
    shutil.rmtree(path.parent, ignore_errors=True)
    for folder in path.parent.parents:
        if folder == crawls.parent or not folder.is_relative_to(crawls):
            break
        try:
            folder.rmdir()
        except OSError:  # another crawl's are in it, or it is gone
            break


def _newest(home: Path, launch: int) -> Path | None:
    return next((folder for folder in reversed(_numbered(home, launch)) if (folder / _FILE).exists()), None)


def _numbered(folder: Path, below: int) -> list[Path]:
    """The folders in it that are named by smaller numbers, in order."""
    found = [inner for inner in folder.iterdir() if inner.name.isdigit() and int(inner.name) < below]
    return sorted(found, key=lambda inner: int(inner.name))


def _copy(old: Path, new: Path) -> None:
    """What is committed in a store that another process may still have open, even in the middle of a transaction."""
    unfinished = new.with_name(f"{new.name}.part")  # cut short, it must not pass for the newest store
    with closing(sqlite3.connect(old)) as source, closing(sqlite3.connect(unfinished)) as target:
        source.backup(target)
    unfinished.replace(new)
