"""Whether a partition's data can be trusted: the source's expectations, evaluated, and a report that people read.

`suite` evaluates, `words` says it in words, `report` draws the page. Whether a partition is published is `publish`'s.
`gx` evaluates Great Expectations in Polars and is of use alone: what it offers is imported from here, and loaded (with
Great Expectations, which takes seconds) only when it is named.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer.quality.gx.compiled import CompiledSuite
    from gossamer.quality.gx.datasource import PolarsDatasource, PolarsFrameAsset, PolarsParquetAsset
    from gossamer.quality.gx.engine import PolarsExecutionEngine
    from gossamer.quality.gx.proof import Proof

_OFFERED = {
    "CompiledSuite": "compiled",
    "PolarsDatasource": "datasource",
    "PolarsExecutionEngine": "engine",
    "PolarsFrameAsset": "datasource",
    "PolarsParquetAsset": "datasource",
    "Proof": "proof",
}

__all__ = [
    "CompiledSuite",
    "PolarsDatasource",
    "PolarsExecutionEngine",
    "PolarsFrameAsset",
    "PolarsParquetAsset",
    "Proof",
]


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"gossamer.quality.gx.{_OFFERED[name]}"), name)
