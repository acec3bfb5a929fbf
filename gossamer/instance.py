"""Dagster's instance folder: made ready before a Dagster process starts, without importing Dagster."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from gossamer.errors import ConfigurationError
from gossamer.settings import PROJECT, Settings

_CREATE_SECONDS = 120


def prepare_home(settings: Settings) -> Path:
    """Makes DAGSTER_HOME with the shipped `dagster.yaml`, unless the user has one of their own there.

    Raises:
        ConfigurationError: the folder cannot be made or written, or Dagster refuses it.
    """
    home = settings.dagster_home
    try:
        home.mkdir(parents=True, exist_ok=True)
        with (home / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (home / "dagster.yaml").exists():
                _create_storage(home)
                shutil.copyfile(PROJECT / "dagster.yaml", home / "dagster.yaml")
    except OSError as error:
        raise ConfigurationError(
            f"Dagster's folder {home} cannot be used: {error.strerror}. "
            "Make it writable, or name another with DAGSTER_HOME."
        ) from error
    return home


def _create_storage(home: Path) -> None:
    """Lets one process make the SQLite files: webserver, daemon and runs that start at once would do it together."""
    command = [sys.executable, "-m", "dagster", "instance", "info"]
    environ = {**os.environ, "DAGSTER_HOME": str(home), "PYTHONWARNINGS": "ignore", "DAGSTER_DISABLE_TELEMETRY": "1"}
    made = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_CREATE_SECONDS, check=False)
    if made.returncode:
        said = "\n".join(made.stderr.strip().splitlines()[-3:])
        raise ConfigurationError(f"Dagster cannot use its folder {home}: {said}")
