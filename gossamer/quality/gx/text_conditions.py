"""What text should be like: Great Expectations' map metrics on patterns, dates, JSON and lengths.

As in `conditions`; what Python has to judge is judged once per distinct text.
"""

import datetime as dt
import json
from collections.abc import Callable

import polars as pl

from gossamer.quality.gx.conditions import between
from gossamer.quality.gx.plan import Asked, condition
from gossamer.quality.gx.regex import like, matches, per_distinct

_TEXT_ONLY = (
    "Values passed to {} must be of type string.\nIf you want to validate a column of dates or timestamps, please call "
    "the expectation before converting from string format."
)


@condition("column_values.match_regex")
def _match(asked: Asked) -> pl.Expr:
    return matches(asked.text, asked.get("regex"))


@condition("column_values.not_match_regex")
def _not_match(asked: Asked) -> pl.Expr:
    return ~matches(asked.text, asked.get("regex"))


def _some_or_all(asked: Asked, found: list[pl.Expr]) -> pl.Expr:
    how = asked.get("match_on", "any")
    if how not in ("any", "all"):
        raise ValueError("match_on must be either 'any' or 'all'")
    return pl.all_horizontal(found) if how == "all" else pl.any_horizontal(found)


@condition("column_values.match_regex_list")
def _match_list(asked: Asked) -> pl.Expr:
    return _some_or_all(asked, [matches(asked.text, each) for each in asked.get("regex_list")])


@condition("column_values.not_match_regex_list")
def _not_match_list(asked: Asked) -> pl.Expr:
    return ~pl.any_horizontal([matches(asked.text, each) for each in asked.get("regex_list")])


# Great Expectations has these for SQL only.
@condition("column_values.match_like_pattern")
def _like(asked: Asked) -> pl.Expr:
    return like(asked.text, asked.get("like_pattern"), asked.get("escape"))


@condition("column_values.not_match_like_pattern")
def _not_like(asked: Asked) -> pl.Expr:
    return ~like(asked.text, asked.get("like_pattern"), asked.get("escape"))


@condition("column_values.match_like_pattern_list")
def _like_list(asked: Asked) -> pl.Expr:
    return _some_or_all(asked, [like(asked.text, each, asked.get("escape")) for each in asked.get("like_pattern_list")])


@condition("column_values.not_match_like_pattern_list")
def _not_like_list(asked: Asked) -> pl.Expr:
    found = [like(asked.text, each, asked.get("escape")) for each in asked.get("like_pattern_list")]
    return ~pl.any_horizontal(found)


def _judged(asked: Asked, judge: Callable[[str], bool], expectation: str = "") -> pl.Expr:
    """Text that Python has to judge, once per distinct value."""
    if asked.dtype == pl.Null:
        return pl.lit(None, pl.Boolean)
    if expectation and asked.dtype not in (pl.String, pl.Categorical, pl.Enum):
        raise TypeError(_TEXT_ONLY.format(expectation))
    # Polars runs filters together: a judge that raises must not see the rows that do not count.
    keep = asked.domain.keep
    return per_distinct(asked.text if keep is None else pl.when(keep).then(asked.text), judge)


@condition("column_values.match_strftime_format")
def _strftime(asked: Asked) -> pl.Expr:
    form = asked.get("strftime_format")

    def parses(value: str) -> bool:
        try:
            dt.datetime.strptime(value, form)
        except ValueError:
            return False
        return True

    return _judged(asked, parses, "expect_column_values_to_match_strftime_format")


@condition("column_values.dateutil_parseable")
def _dateutil(asked: Asked) -> pl.Expr:
    from dateutil.parser import parse

    def parses(value: str) -> bool:
        try:
            parse(value)
        except (ValueError, OverflowError):
            return False
        return True

    return _judged(asked, parses, "expect_column_values_to_be_dateutil_parseable")


@condition("column_values.json_parseable")
def _json(asked: Asked) -> pl.Expr:
    if asked.dtype not in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        return pl.lit(False)  # as in pandas: json.loads takes text only

    def parses(value: str) -> bool:
        try:
            json.loads(value)
        except (ValueError, RecursionError):
            return False
        return True

    return _judged(asked, parses)


@condition("column_values.match_json_schema", alone=True)
def _json_schema(asked: Asked) -> pl.Expr:
    from jsonschema.validators import validator_for

    schema = asked.get("json_schema")
    kind = validator_for(schema)
    kind.check_schema(schema)
    valid = kind(schema).is_valid

    def judge(value: str) -> bool:
        try:
            document = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{value[:100]!r} is not JSON: {error}") from error
        return bool(valid(document))

    return _judged(asked, judge)


@condition("column_values.value_length.between")
def _length_between(asked: Asked) -> pl.Expr:
    low, high = asked.get("min_value"), asked.get("max_value")
    return between(asked.text.str.len_chars(), low, high, asked.get("strict_min"), asked.get("strict_max"))


@condition("column_values.value_length.equals")
def _length_equals(asked: Asked) -> pl.Expr:
    return asked.text.str.len_chars().eq(asked.get("value"))
