"""A run's step as a process of its own, which can be told to end, or killed: it launches a crawl and waits for it.

It does what the asset of raw rows does, without Dagster around it.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gossamer import declarations
from gossamer.crawl.step import run_crawl
from gossamer.settings import PROJECT, Settings
from resources.kubernetes import KubernetesLauncher
from tests.k8s.crawls import ClusterTrial
from tests.torture.crawls import KEY, NAME

CANCELLED = 3


class StepProcess:
    """One step; it runs until it is told to end, or its crawl is over."""

    def __init__(self, crawl: ClusterTrial, run: str, key: str = KEY) -> None:
        places = [str(crawl.settings.sources), crawl.settings.lake, str(crawl.config)]
        self.run = run
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the step)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.k8s.steps", *places, key, run],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )

    def __enter__(self) -> "StepProcess":
        """Waits until it is about to launch its crawl."""
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n", self.said()
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()
        self._said.close()

    def cancel(self) -> None:
        """Its run is cancelled: it is told to end."""
        self._process.terminate()

    def kill(self) -> None:
        """It goes without a word."""
        self._process.kill()
        self._process.wait()

    def ended(self, seconds: float = 60) -> int:
        """Its exit code."""
        return self._process.wait(seconds)

    def said(self) -> str:
        """Its log, the crawl's among it."""
        self._said.seek(0)
        return self._said.read()


class _Interrupted(BaseException):
    """As Dagster's, no `Exception`."""


def _interrupt(*_: Any) -> None:
    raise _Interrupted


def main(sources: str, lake: str, config: str, key: str, run: str) -> int:
    settings = Settings.load(Path(sources), lake)
    source = declarations.load(settings.sources)[NAME]
    launcher = KubernetesLauncher(sources=sources, lake=lake, kubernetes=config)
    host = launcher.host(settings, source)
    try:
        signal.signal(signal.SIGTERM, _interrupt)
        print("ready", flush=True)
        run_crawl(settings, source, key, run_id=run, on_cancel=launcher.on_cancel(), host=host)
    except _Interrupted:
        return CANCELLED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
