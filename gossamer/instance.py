"""Dagster's instance folder: made ready before a Dagster process starts, without importing Dagster."""

import shutil
from pathlib import Path

from gossamer.errors import ConfigurationError
from gossamer.settings import PROJECT, Settings


def prepare_home(settings: Settings) -> Path:
    """Makes DAGSTER_HOME and puts the shipped `dagster.yaml` there, unless the user has one of their own.

    Raises:
        ConfigurationError: the folder cannot be made or written.
    """
    target = settings.dagster_home / "dagster.yaml"
    try:
        settings.dagster_home.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copyfile(PROJECT / "dagster.yaml", target)
    except OSError as error:
        raise ConfigurationError(
            f"Dagster's folder {settings.dagster_home} cannot be used: {error.strerror}. "
            "Make it writable, or name another with DAGSTER_HOME."
        ) from error
    return settings.dagster_home
