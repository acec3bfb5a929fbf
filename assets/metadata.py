"""What a materialisation and a check show in Dagster: counts, schema, a sample table, links."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from gossamer.lake import Lake
from gossamer.manifest import CheckResult

SAMPLE_ROWS = 10
_SAMPLE_COLUMNS = 14
_CELL = 80


def of_rows(frame: pl.LazyFrame, rows: int) -> dict[str, Any]:
    """Row count, column schema and a sample of a frame."""
    schema = frame.collect_schema()
    columns = [dg.TableColumn(name, str(dtype)) for name, dtype in schema.items()]
    return {
        "dagster/row_count": rows,
        "dagster/column_schema": dg.TableSchema(columns=columns),
        "sample": dg.MetadataValue.md(sample_table(frame)),
    }


def sample_table(frame: pl.LazyFrame) -> str:
    """The first rows as a Markdown table; cells are cut and cannot break out of it."""
    names = [n for n in frame.collect_schema().names() if not n.startswith("_")][:_SAMPLE_COLUMNS]
    rows = frame.select(names).head(SAMPLE_ROWS).collect()
    if rows.is_empty():
        return "*no rows*"
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    lines += [" | ".join(_cell(value) for value in row) for row in rows.iter_rows()]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: object) -> str:
    # Values come from the web: no markup, no links, no new cells or lines.
    text = "" if value is None else " ".join(str(value).split())
    text = text if len(text) <= _CELL else text[: _CELL - 1] + "…"
    for character in "\\`*_[]()<>|!#&":
        text = text.replace(character, f"&#{ord(character)};")
    return text


def place(lake: Lake, path: str) -> dg.MetadataValue:
    """Where an object of the lake is: a path on this machine, or its s3:// address."""
    return dg.MetadataValue.path(Path(lake.url(path))) if lake.is_local else dg.MetadataValue.text(lake.url(path))


def check_result(key: dg.AssetKey, check: CheckResult, links: Mapping[str, Any]) -> dg.AssetCheckResult:
    """A check's outcome for Dagster: the summary in words, details as JSON, failed expectations as a table."""
    details = {name: _metadata(value) for name, value in check.details.items()}
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=check.name,
        passed=check.passed,
        severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
        description=check.summary,
        metadata={**details, **links},
    )


def _metadata(value: Any) -> Any:
    return dg.MetadataValue.json(value) if isinstance(value, dict | list | tuple) else value
