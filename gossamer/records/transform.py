"""A source's own code for its rows: `transform.py` with `clean(frame, context)` and `enrich(frame, upstream)`.

Both take and give LazyFrames. What they raise reaches the user as a `TransformError` that names the file and line, also
when Polars raises it later, while the frame is computed.
"""

import contextlib
import importlib.util
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

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
    spec = importlib.util.spec_from_file_location(f"_gossamer_transform_{source.name}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's module may raise anything; all of it is the user's to mend
        raise _named(source, path, error) from error
    return getattr(module, name, None)


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
    except Exception as error:  # as above
        raise _named(source, path, error) from error
    if lost := [key for key in source.spec.record.key if key not in kept]:
        raise TransformError(f"{path}: {name}() dropped the key column {', '.join(lost)}. Keep the record's key.")
    return result


@contextlib.contextmanager
def computing(source: Source) -> Iterator[None]:
    """Names what goes wrong while a frame of the source is computed."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        path = source.transform_file or source.folder
        raise TransformError(f"{path}: {type(error).__name__}: {_first_line(error)}") from error


def _named(source: Source, path: Path, error: Exception) -> TransformError:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
    line = error.lineno if isinstance(error, SyntaxError) else (frames[-1].lineno if frames else None)
    place = f"{path}:{line}" if line else str(path)
    return TransformError(f"{place}: {type(error).__name__}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")
