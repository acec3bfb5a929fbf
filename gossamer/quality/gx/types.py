"""What types of Polars may be called in a suite: as Polars calls them, and as Python, numpy, pandas and SQL do."""

import re
from collections.abc import Mapping

import polars as pl

ALIASES: Mapping[str, set[str]] = {
    "Int8": {"int8"},
    "Int16": {"int16"},
    "Int32": {"int32"},
    "Int64": {"int64", "int", "int_", "INTEGER", "BIGINT"},
    "UInt8": {"uint8"},
    "UInt16": {"uint16"},
    "UInt32": {"uint32"},
    "UInt64": {"uint64"},
    "Float32": {"float32"},
    "Float64": {"float64", "float", "float_", "double", "FLOAT", "DOUBLE"},
    "String": {"str", "string", "object", "object_", "O", "Utf8", "TEXT", "VARCHAR"},
    "Boolean": {"bool", "bool_", "boolean", "BOOLEAN"},
    "Date": {"date", "DATE"},
    "Datetime": {"datetime", "datetime64", "Timestamp", "TIMESTAMP"},
    "Duration": {"timedelta", "timedelta64", "Timedelta"},
    "Categorical": {"category"},
    "List": {"list"},
    "Struct": {"dict"},
    "Decimal": {"decimal"},
}


def type_names(dtype: pl.DataType) -> set[str]:
    """What a type may be called."""
    base = dtype.base_type().__name__
    names = {str(dtype), base} | ALIASES.get(base, set())
    if isinstance(dtype, pl.Datetime):
        zone = f", {dtype.time_zone}" if dtype.time_zone else ""
        names.add(f"datetime64[{dtype.time_unit}{zone}]")
    return names


def is_known(name: str) -> bool:
    """Whether a name stands for any type."""
    family = re.split(r"[(\[]", name)[0]
    return family in ALIASES or any(family in aliases for aliases in ALIASES.values()) or hasattr(pl, family)
