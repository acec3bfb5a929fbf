"""What of a sound declaration only running its code can tell: spider, transform and suite are loaded for a look.

So are the models of Kubernetes, where it says something in their words, and the marts, by what makes assets of them.

Runs in processes of its own (`python -m gossamer.cli.inspection`), because a source's module may do anything when it
is imported: exit, hang, crash. One process looks at many sources; where one ends it, the next takes the rest.
"""

import contextlib
import inspect
import io
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gossamer.declarations import FILE, load
from gossamer.errors import ConfigurationError, GossamerError
from gossamer.settings import PROJECT, Settings
from gossamer.source import Source

#: Importing a spider takes milliseconds; Great Expectations, loaded once, takes seconds on a busy machine.
SECONDS = 60.0
#: dbt's own time-out, within it, is shorter.
MARTS_SECONDS = 180.0
PARTS = ("spider", "transform", "suite", "workers")

Findings = dict[str, list[str]]


def inspect_all(settings: Settings, names: Sequence[str]) -> Iterator[tuple[str, Findings]]:
    """For each source in order: part (of `PARTS`) -> what is wrong with it, empty where it is sound or not there."""
    left = list(names)
    while left:
        with tempfile.TemporaryFile() as noise:
            process = subprocess.Popen(
                [sys.executable, "-m", "gossamer.cli.inspection", str(settings.sources), *left],
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=noise,
                start_new_session=True,
            )
            try:
                for line in _lines(process):
                    yield left.pop(0), json.loads(line)
                if left:
                    yield left.pop(0), {"spider": [_end(process)]}
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def inspect_marts(settings: Settings, names: Sequence[str]) -> list[str]:
    """What is wrong with the dbt project, in dbt's words; what loads it needs Dagster, and runs in its own process."""
    command = [sys.executable, "-m", "assets.marts", *names]
    environ = {**os.environ, **settings.environ()}
    try:
        run = subprocess.run(
            command, cwd=PROJECT, env=environ, stdin=subprocess.DEVNULL, capture_output=True, timeout=MARTS_SECONDS
        )
    except subprocess.TimeoutExpired:
        return [f"marts: reading {settings.dbt_project} took longer than {MARTS_SECONDS:.0f} s."]
    said = (run.stdout if run.stdout.strip() else run.stderr).decode(errors="replace").strip()
    return [f"marts: {said}"] if run.returncode else []


def inspect_cluster(settings: Settings, sources: Sequence[Source]) -> list[str]:
    """What is wrong with how crawls are to run on a cluster, where they are to; one line a fault."""
    from gossamer.cluster.config import Cluster, faults_of_raw

    if settings.kubernetes is None or settings.launcher != "kubernetes":
        return []
    try:
        cluster = Cluster.load(settings.kubernetes)
    except ConfigurationError as error:
        return str(error).splitlines()
    faults = [f"{settings.kubernetes}: {fault}" for fault in faults_of_raw(cluster.kubernetes, "kubernetes")]
    for source in sources:
        try:
            cluster.needs(source)
        except ConfigurationError as error:
            faults += str(error).splitlines()
    return faults


def _lines(process: "subprocess.Popen[bytes]") -> Iterator[bytes]:
    """The lines of a process until it ends or is silent for too long."""
    assert process.stdout
    buffer, deadline = b"", time.monotonic() + SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            chunk = os.read(process.stdout.fileno(), 65_536)
            if not chunk:
                return
            *lines, buffer = (buffer + chunk).split(b"\n")
            if lines:
                deadline = time.monotonic() + SECONDS
            yield from lines


def _end(process: "subprocess.Popen[bytes]") -> str:
    try:
        code = process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return f"importing its code took longer than {SECONDS:.0f} s. A module must not crawl, wait or ask on import."
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"importing its code ended the process: it {how}. A module must not exit on import."


def look(source: Source) -> Findings:
    """What is wrong with a source's code and suite, by part."""
    return {
        "spider": list(_spider(source)),
        "transform": list(_transform(source)),
        "suite": list(_suite(source)),
        "workers": list(_workers(source)),
    }


def _spider(source: Source) -> Iterator[str]:
    from gossamer.crawl import spiders

    try:
        with _beside(source):
            spiders.load(source)
    except GossamerError as error:
        yield f"{source.folder / FILE}: {error}"


def _transform(source: Source) -> Iterator[str]:
    if source.transform_file is None:
        return
    from gossamer.records import transform

    path = source.transform_file
    try:
        with _beside(source):
            functions = {"clean": transform.function(source, "clean"), "enrich": transform.function(source, "enrich")}
    except GossamerError as error:
        yield str(error)
        return
    except SystemExit:
        yield f"{path}: ends the process when it is imported. A module must not exit on import."
        return
    if not any(functions.values()):
        yield f"{path}: has neither clean(frame, context) nor enrich(frame, upstream). Write one, or remove the file."
    for name, second in (("clean", "context"), ("enrich", "upstream")):
        function: Any = functions[name]
        if function is None:
            continue
        if not callable(function):
            yield f"{path}: {name} is no function. Write def {name}(frame, {second})."
            continue
        try:
            inspect.signature(function).bind(None, None)
        except TypeError:
            line = getattr(getattr(function, "__code__", None), "co_firstlineno", None)
            at = f"{path}:{line}" if line else str(path)
            yield f"{at}: {name}{inspect.signature(function)} cannot be called. Write {name}(frame, {second})."
        except ValueError:  # a built-in has no signature; calling it will tell
            continue


def _suite(source: Source) -> Iterator[str]:
    suites = [suite for suite in (source.suite_file, source.enriched_suite_file) if suite]
    if not suites:
        return
    from gossamer.quality.suite_file import validate_suite

    for suite in suites:
        yield from validate_suite(source, suite)


def _workers(source: Source) -> Iterator[str]:
    """What of its raw configuration Kubernetes does not know: crawls do without its models, and could not tell."""
    if source.spec.workers:
        from gossamer.cluster.config import faults_of_raw

        for fault in faults_of_raw(source.spec.workers.kubernetes, "workers.kubernetes"):
            yield f"{source.folder / FILE}: {fault}"


@contextlib.contextmanager
def _beside(source: Source) -> Iterator[None]:
    """Imports find the modules in the source's folder, and the next source does not find these instead of its own."""
    folder, path, before = source.folder, list(sys.path), set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(folder):
                del sys.modules[name]


def _main(sources: str, *names: str) -> None:
    # What the modules print must not get among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    declarations = load(Path(sources))
    for name in names:
        with contextlib.redirect_stdout(io.StringIO()):
            found = look(declarations[name])
        answers.write(json.dumps(found) + "\n")
        answers.flush()


if __name__ == "__main__":
    _main(*sys.argv[1:])
