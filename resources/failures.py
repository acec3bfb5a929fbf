"""How the engine's errors reach a run: in their own words."""

import contextlib
from collections.abc import Iterator

import dagster as dg

from gossamer.errors import GossamerError


@contextlib.contextmanager
def named() -> Iterator[None]:
    """What a user can mend fails the step with its own words, at once: trying again would give the same."""
    try:
        yield
    except GossamerError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
