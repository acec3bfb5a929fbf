"""A source's own code for its rows: `transform.py` with `clean(frame, context)` and `enrich(frame, upstream)`.

Both take and give LazyFrames. What they raise reaches the user as a `TransformError` that names the file and line, also
when Polars raises it later, while the frame is computed.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from gossamer import user_code
from gossamer.errors import GossamerError
from gossamer.source import Source


class TransformError(GossamerError):
    """A source's `transform.py` (or the data it was given) failed."""


@dataclass(frozen=True)
class Context:
    """What a source's `clean` is told besides the rows."""

    source: str
    partition: str
    period: str | None
    segment: str | None


def function(source: Source, name: Literal["clean", "enrich"]) -> Callable[..., Any] | None:
    """The source's own function of that name, None where it ships none.

    Raises:
        TransformError: the file cannot be imported.
    """
    path = source.transform_file
    if path is None:
        return None
    try:
        return getattr(user_code.load(source, path), name, None)
    except user_code.UserCodeError as error:
        raise TransformError(str(error)) from error


def apply(source: Source, name: Literal["clean", "enrich"], frame: pl.LazyFrame, argument: object) -> pl.LazyFrame:
    """The frame after the source's own function, or as it came where there is none.

    Raises:
        TransformError: the function raised, gave no LazyFrame, or lost the record's key.
    """
    call = function(source, name)
    if call is None:
        return frame
    path = source.transform_file
    assert path
    try:
        result = call(frame, argument)
        if not isinstance(result, pl.LazyFrame):
            raise TransformError(f"{path}: {name}() gave {type(result).__name__}. Return the LazyFrame.")
        kept = result.collect_schema().names()
    except TransformError:
        raise
    except Exception as error:  # a user's function may raise anything; all of it is theirs to mend
        raise TransformError(f"{path}: {name}() failed: {user_code.where(error, source.folder)}") from error
    if lost := [key for key in source.spec.record.key if key not in kept]:
        raise TransformError(f"{path}: {name}() dropped the key column {', '.join(lost)}. Keep the record's key.")
    return result


@contextlib.contextmanager
def computing(source: Source) -> Iterator[None]:
    """Names what goes wrong while a frame of the source is computed."""
    try:
        yield
    except GossamerError:
        raise
    except Exception as error:  # expressions of a transform may call any Python
        path = source.transform_file or source.folder
        raise TransformError(f"{path}: {type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")
