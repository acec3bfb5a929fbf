"""The life cycle of a crawl: which one a run is given, whether a process works on it, and how it stands.

Everything is read from the lake, so that all machines agree: the objects that `identity` describes, the last progress,
and the manifests, which alone say that a crawl is over. Processes are started and followed by `process`. No Scrapy is
imported here.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from gossamer.crawl import deaths, identity
from gossamer.crawl.identity import (
    Control,
    Crawl,
    Wish,
    Worker,
    ask,
    claim_launch,
    newest_launch,
    read_control,
)
from gossamer.crawl.progress import Progress, last_word
from gossamer.errors import CrawlError
from gossamer.lake import INCOMPLETE, Lake
from gossamer.manifest import Manifest

__all__ = [
    "Action",
    "Control",
    "Crawl",
    "CrawlState",
    "Found",
    "Standing",
    "Wish",
    "ask",
    "cancel",
    "claim_launch",
    "find",
    "is_cancelled",
    "is_live",
    "is_over",
    "newest_launch",
    "read_control",
    "remove",
    "remove_older",
    "result",
    "standing",
    "wake",
]

#: Why a crawl was stopped whose run was cancelled.
CANCELLED = "cancelled"
_CONNECTIONS = 8


class CrawlState(StrEnum):
    """How a crawl stands.

    new: begun, and no process has worked on it. interrupted: its process went before it was over; the next one goes on.
    paused, failed: likewise, but nobody goes on by himself. complete, stopped: it is over.
    """

    NEW = "new"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    PAUSED = "paused"
    COMPLETE = "complete"
    STOPPED = "stopped"
    FAILED = "failed"


class Action(StrEnum):
    """What a run does with the crawl that it was given.

    begin, resume: start a process for it. attach: wait for the process that works on it. result: nothing, it is over.
    """

    BEGIN = "begin"
    RESUME = "resume"
    ATTACH = "attach"
    RESULT = "result"


@dataclass(frozen=True)
class Found:
    """The crawl that a run is given.

    Attributes:
        manifest: of a result.
        is_closing: it was stopped before this run asked: its books are to be closed, and then this run asks again.
    """

    action: Action
    crawl: Crawl
    manifest: Manifest | None = None
    is_closing: bool = False


def find(lake: Lake, source: str, key: str, root_run: str = "", fresh: bool = False) -> Found:
    """The crawl of a partition for a run; from then on the crawl is this run's, among others.

    Args:
        root_run: the run that asks, or the one that it repeats: it is given the same crawl again. "" is no run.
        fresh: begin a new crawl although the last one is not over; once for a root run.

    Raises:
        ConfigurationError: `root_run` cannot be an id.
        CrawlError: a new crawl was asked for while a process works on the last one.
        LakeError: the lake cannot be read or written.
    """
    while True:
        last = _newest(lake, source, key)
        found = _judge(lake, last, root_run, fresh)
        if found.action is Action.BEGIN and not identity.begin(lake, found.crawl, root_run):
            continue  # another run was faster: its crawl is this run's too
        if found.action is Action.RESUME and is_over(lake, found.crawl):
            continue  # it ended while it was looked at
        if not found.is_closing and found.action is not Action.RESULT:
            began_afresh = fresh and found.action is Action.BEGIN
            identity.mark_asked(lake, found.crawl, root_run, fresh=began_afresh)
        return found


@dataclass(frozen=True)
class _Newest:
    """The newest crawl of a partition, None where there is none, and its manifest if it is over."""

    crawl: Crawl | None
    manifest: Manifest | None
    next: Crawl


def _newest(lake: Lake, source: str, key: str) -> _Newest:
    found = [lake.manifest(layer, source, key) for layer in ("raw", INCOMPLETE)]
    over = {manifest.generation: manifest for manifest in found if manifest}
    begun = identity.generations(lake, source, key)
    generation = max([*begun, *over], default=0)
    crawl = Crawl(source, key, generation) if generation else None
    return _Newest(crawl, over.get(generation), Crawl(source, key, generation + 1))


def _judge(lake: Lake, last: _Newest, root_run: str, fresh: bool) -> Found:
    crawl, manifest = last.crawl, last.manifest
    if crawl is None:
        return Found(Action.BEGIN, last.next)
    is_mine = _is_for(lake, crawl, manifest, root_run, fresh)
    if manifest:
        if is_mine and not is_cancelled(lake, crawl, manifest):
            return Found(Action.RESULT, crawl, manifest)
        return Found(Action.BEGIN, last.next)
    control = read_control(lake, crawl)
    is_closing = control is not None and control.wish is Wish.STOP and not (is_mine and control.why != CANCELLED)
    begins_anew = fresh and not is_mine
    if is_live(lake, crawl):
        if begins_anew and not is_closing:
            raise CrawlError(
                f"{crawl.id} is being crawled: it cannot be begun afresh. Stop it first, or do not ask for a new crawl."
            )
        return Found(Action.ATTACH, crawl, is_closing=is_closing)
    if begins_anew:
        return Found(Action.BEGIN, last.next)
    return Found(Action.RESUME, crawl, is_closing=is_closing)


def _is_for(lake: Lake, crawl: Crawl, manifest: Manifest | None, root_run: str, fresh: bool) -> bool:
    if identity.was_asked(lake, crawl, root_run, fresh=fresh):
        return True
    # Crawls of older versions have a manifest only.
    return bool(manifest and root_run and manifest.run_id == root_run and not fresh)


def result(lake: Lake, crawl: Crawl) -> Manifest | None:
    """The manifest of this crawl if it is over, whose `layer` says where the rows are; None while it is not.

    Raises:
        LakeError: the lake cannot be read, or holds other rows than the manifest's.
    """
    manifest = _manifest(lake, crawl)
    return lake.current(manifest.layer, crawl.source, crawl.key) if manifest else None


def is_over(lake: Lake, crawl: Crawl) -> bool:
    """Whether the crawl has a manifest, which is all that its end needs.

    Raises:
        LakeError: the lake cannot be read.
    """
    return _manifest(lake, crawl) is not None


def _manifest(lake: Lake, crawl: Crawl) -> Manifest | None:
    found = (lake.manifest(layer, crawl.source, crawl.key) for layer in ("raw", INCOMPLETE))
    return next((manifest for manifest in found if manifest and manifest.generation == crawl.generation), None)


# -- liveness ---------------------------------------------------------------------------------------------------------


def is_live(lake: Lake, crawl: Crawl) -> bool:
    """Whether a process works on the crawl, or is about to.

    Its newest launch was heard of in the last seconds; a process of this machine must exist, too, so that a kill is
    known at once.

    Raises:
        LakeError: the lake cannot be read.
    """
    launch = newest_launch(lake, crawl)
    return _is_live(identity.read_worker(lake, crawl, launch), launch, _said_by(lake, crawl, launch))


def _is_live(worker: Worker | None, launch: int, said: Progress | None) -> bool:
    if worker is None or worker.is_gone or (said and not said.is_live):
        return False
    if launch == 0 and worker.is_this:  # it begins the crawl, and asks because the process that it started is gone
        return False
    return identity.is_recent(said.told_at if said else worker.started_at)


def _said_by(lake: Lake, crawl: Crawl, launch: int) -> Progress | None:
    said = last_word(lake, crawl.source, crawl.key)
    return said if said and (said.generation, said.launch) == (crawl.generation, launch) else None


@dataclass(frozen=True)
class Standing:
    """How the newest crawl of a partition stands.

    Attributes:
        crawl: the first one, NEW, where none was begun.
        launch: its newest launch, 0 where none was claimed.
        progress: the last word of that launch.
        control: the wish that holds.
        since: when it came to stand so, as far as that is known.
        death: how its last process ended without a result, where the crawl rests for that.
    """

    state: CrawlState
    crawl: Crawl
    launch: int
    progress: Progress | None
    control: Control | None
    since: datetime | None
    death: deaths.Death | None = None


def standing(lake: Lake, source: str, key: str) -> Standing:
    """How the newest crawl of a partition stands.

    Raises:
        LakeError: the lake cannot be read.
    """
    last = _newest(lake, source, key)
    crawl = last.crawl or last.next
    launch = newest_launch(lake, crawl)
    worker, said = identity.read_worker(lake, crawl, launch), _said_by(lake, crawl, launch)
    control = read_control(lake, crawl)
    began = _time(worker.started_at) if worker else None
    is_live = _is_live(worker, launch, said)
    if manifest := last.manifest or (None if is_live else _manifest(lake, crawl)):  # it may have ended just now
        return Standing(_state_of(manifest), crawl, launch, said, control, manifest.written_at)
    if is_live:
        return Standing(CrawlState.RUNNING if launch else CrawlState.NEW, crawl, launch, said, control, began)
    state = _state_at_rest(launch, said, control)
    died = deaths.noted(lake, crawl) if state in (CrawlState.INTERRUPTED, CrawlState.FAILED, CrawlState.NEW) else []
    since = _time(said.told_at) if said else began
    return Standing(state, crawl, launch, said, control, since, died[-1] if died else None)


def _state_at_rest(launch: int, said: Progress | None, control: Control | None) -> CrawlState:
    """How a crawl stands that is not over and that no process works on."""
    if said and said.state == CrawlState.FAILED:
        return CrawlState.FAILED
    # What is wanted counts: a process may be killed before it has paused, or before it has gone on.
    is_paused = control.wish is Wish.PAUSE if control else said is not None and said.state == CrawlState.PAUSED
    if is_paused:
        return CrawlState.PAUSED
    return CrawlState.INTERRUPTED if launch else CrawlState.NEW


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _state_of(manifest: Manifest) -> CrawlState:
    is_stopped = manifest.notes.get("books", {}).get("state") == CrawlState.STOPPED
    return CrawlState.STOPPED if is_stopped else CrawlState.COMPLETE


def wake(lake: Lake, crawl: Crawl, by: str) -> None:
    """Has a crawl go on that was paused; of others nothing is asked.

    Raises:
        LakeError: the lake cannot be read or written.
    """
    control = read_control(lake, crawl)
    if control and control.wish is Wish.PAUSE:
        ask(lake, crawl, Wish.RESUME, by=by)


# -- ends -------------------------------------------------------------------------------------------------------------


def cancel(lake: Lake, crawl: Crawl, run: str, wish: Wish = Wish.STOP) -> bool:
    """A run that waited for the crawl was cancelled; the crawl is ended if no other waits. Returns whether it is.

    Args:
        run: as it was attached.
        wish: what is asked of it: to stop, or to pause.

    Raises:
        LakeError: the lake cannot be read or written.
    """
    identity.detach(lake, crawl, run)
    if identity.attached(lake, crawl):
        return False
    ask(lake, crawl, wish, by=f"run {run}", why=CANCELLED)
    return True


def is_cancelled(lake: Lake, crawl: Crawl, manifest: Manifest) -> bool:
    """Whether the crawl, which is over, was stopped because its run was cancelled: then it is nobody's result."""
    if _state_of(manifest) is not CrawlState.STOPPED:
        return False
    control = read_control(lake, crawl)
    return control is not None and (control.wish, control.why) == (Wish.STOP, CANCELLED)


def remove(lake: Lake, crawl: Crawl) -> None:
    """Removes what a crawl keeps in its folder; its rows and manifests stay. Cut short, it can be done again.

    Raises:
        LakeError: the lake cannot be read or written.
    """
    begun = f"{crawl.folder}/crawl.json"  # last: a crawl without it is not known any more
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        list(pool.map(lake.delete, [path for path in lake.paths(f"{crawl.folder}/") if path != begun]))
    lake.delete(begun)


def remove_older(lake: Lake, crawl: Crawl) -> None:
    """Removes the folders of the crawls before this one, which is over.

    Raises:
        LakeError: the lake cannot be read or written.
    """
    for generation in identity.generations(lake, crawl.source, crawl.key):
        if generation < crawl.generation:
            remove(lake, Crawl(crawl.source, crawl.key, generation))
