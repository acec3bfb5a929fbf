"""Every expectation that ships with Great Expectations, on generated frames: Polars and GX on pandas agree.

Each case is a frame, an expectation and its arguments. Great Expectations gets the frame as its user would hand it over
(`to_pandas`), we get it as it is; results are compared as JSON. Where they differ on purpose, a `Deviation` says why,
and the docs list it.
"""

# ruff: noqa: RUF001 - letters that look like others are what is tested

import datetime as dt
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

# Python warns of `[a&&b]`, which it may read otherwise one day.
pytestmark = pytest.mark.filterwarnings("ignore:Possible set:FutureWarning")

DOCS = Path(__file__).parents[1] / "docs" / "great-expectations-deviations.md"
EXAMPLES = 8
BERLIN = ZoneInfo("Europe/Berlin")


class Kind(NamedTuple):
    """A kind of column: its type and values, few and close together, so that they meet bounds and repeat."""

    dtype: pl.DataType
    values: Sequence[Any]


WORDS = [
    "",
    "a",
    "a\n",
    "A",
    "b",
    "ab",
    "K",
    "ß",
    "ẞ",
    "é",
    "e\u0301",
    "١",
    "²",
    "\x1c",
    "\u2028",
    "\0",
    "12",
    "nan",
    "😀b",
]
MOMENTS = [dt.datetime(2024, 1, 1), dt.datetime(2024, 3, 31, 2, 30), dt.datetime(2024, 6, 1, 12, 0, 0, 500_000)]
KINDS = {
    "int": Kind(pl.Int64(), [-3, 0, 1, 1, 2, 7]),
    "small": Kind(pl.UInt8(), [0, 1, 2, 255]),
    "float": Kind(pl.Float64(), [-3.0, -0.0, 0.0, 0.1, 1.0, 2.5, 1e17, math.nan]),
    "bool": Kind(pl.Boolean(), [True, False]),
    "text": Kind(pl.String(), WORDS),
    "json": Kind(pl.String(), ['{"a": 1}', '{"a": "x"}', "[1, 2]", "1", "nan", "{", "", '"é"']),
    "dates": Kind(
        pl.String(), ["2024-01-31", "2024-02-30", "31.01.2024", "1 May", "", "noon", "2024-01-31\n", "٢٠٢٤-01-01"]
    ),
    "category": Kind(pl.Categorical(), ["a", "b", "ab", ""]),
    "enum": Kind(pl.Enum(["b", "a", "é"]), ["b", "a", "é"]),
    "date": Kind(pl.Date(), [dt.date(2024, 1, 1), dt.date(2024, 3, 31), dt.date(1899, 12, 31)]),
    "naive": Kind(pl.Datetime("us"), MOMENTS),
    "utc": Kind(pl.Datetime("us", "UTC"), [moment.replace(tzinfo=dt.UTC) for moment in MOMENTS]),
    "berlin": Kind(
        pl.Datetime("us", "Europe/Berlin"), [moment.replace(tzinfo=dt.UTC).astimezone(BERLIN) for moment in MOMENTS]
    ),
    "duration": Kind(pl.Duration("us"), [dt.timedelta(0), dt.timedelta(hours=1), dt.timedelta(days=-1)]),
    "time": Kind(pl.Time(), [dt.time(0), dt.time(12, 30), dt.time(23, 59, 59)]),
    "decimal": Kind(pl.Decimal(10, 2), [Decimal("0.00"), Decimal("0.50"), Decimal("1.00"), Decimal("-3.50")]),
    "list": Kind(pl.List(pl.Int64), [[], [1], [1, 2], [None]]),
    "struct": Kind(pl.Struct({"x": pl.Int64}), [{"x": 1}, {"x": None}]),
    "null": Kind(pl.Null(), [None]),
}
NUMBERS = ("int", "small", "float")
EXACT = (*NUMBERS, "decimal")
TEXTS = ("text", "category", "enum")
TIMES = ("date", "naive", "utc", "berlin")
ORDERED = (*EXACT, "bool", "text", *TIMES, "duration", "time")
HASHED = (*ORDERED, "category", "enum")
#: Kinds of which a suite, which is JSON, can hold values.
WRITTEN = (*EXACT, "bool", *TEXTS, *TIMES)
ANY = tuple(KINDS)


class Case(NamedTuple):
    """What both are given.

    Attributes:
        where: a column and the least it may be, for `row_condition`.
        form: a result format.
    """

    frame: pl.DataFrame
    kinds: tuple[str, ...]
    type_: str
    kwargs: dict[str, Any]
    where: tuple[str, int] | None = None
    form: str = "COMPLETE"


Arguments = Callable[[st.DrawFn, tuple[str, ...]], dict[str, Any]]


@dataclass(frozen=True)
class Expected:
    """How an expectation is tried: over how many columns of which kinds, with which arguments."""

    kinds: Sequence[str]
    arguments: Arguments = lambda draw, kinds: {}
    columns: int = 1
    alike: bool = True
    maps: bool = True


def given_value(draw: st.DrawFn, kind: str, *, text: bool = False) -> Any:
    """A value as a suite would write it; moments also in another time zone."""
    if kind in ("utc", "berlin"):
        kind = draw(st.sampled_from(["utc", "berlin"]))
    value = draw(st.sampled_from(KINDS[kind].values))
    return value.isoformat() if text and isinstance(value, dt.date) else value


def between(*kinds: str) -> Arguments:
    """Bounds among the values of the column, or of another kind."""

    def draw_bounds(draw: st.DrawFn, of: tuple[str, ...]) -> dict[str, Any]:
        kind = kinds[0] if kinds else of[0]
        low, high = (given_value(draw, kind, text=draw(st.booleans())) for _ in range(2))
        match draw(st.sampled_from(["low", "high", "both"])):
            case "low":
                high = None
            case "high":
                low = None
        if low is not None and high is not None and _key(low) > _key(high):
            low, high = high, low
        return {"min_value": low, "max_value": high, **strictness(draw)}

    return draw_bounds


def _key(value: Any) -> Any:
    if isinstance(value, str) and re.match(r"\d{4}-", value):
        value = dt.datetime.fromisoformat(value)
    if isinstance(value, dt.date):
        value = value if isinstance(value, dt.datetime) else dt.datetime(value.year, value.month, value.day)
        return (value if value.tzinfo else value.replace(tzinfo=dt.UTC)).timestamp()
    return value


def strictness(draw: st.DrawFn) -> dict[str, bool]:
    return {name: True for name in ("strict_min", "strict_max") if draw(st.integers(0, 3)) == 0}


def bounds(low: float, high: float) -> Arguments:
    """Bounds for what is measured."""

    def draw_bounds(draw: st.DrawFn, kinds: tuple[str, ...]) -> dict[str, Any]:
        one, other = sorted(draw(st.sampled_from([low, 0, 0.5, 1, 2, high])) for _ in range(2))
        return {"min_value": one, "max_value": other, **strictness(draw)}

    return draw_bounds


def members(draw: st.DrawFn, kinds: tuple[str, ...]) -> dict[str, Any]:
    text = draw(st.booleans())
    return {"value_set": [given_value(draw, kinds[0], text=text) for _ in range(draw(st.integers(1, 4)))]}


def objects(draw: st.DrawFn, kinds: tuple[str, ...]) -> dict[str, Any]:
    """A set without moments as text, for what GX itself compares."""
    return {"value_set": [given_value(draw, kinds[0]) for _ in range(draw(st.integers(1, 4)))]}


def one_of(name: str, *values: Any) -> Arguments:
    return lambda draw, kinds: {name: draw(st.sampled_from(values))}


def some_of(name: str, *values: Any) -> Arguments:
    return lambda draw, kinds: {name: draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))}


def all_of(*arguments: Arguments) -> Arguments:
    return lambda draw, kinds: {name: v for one in arguments for name, v in one(draw, kinds).items()}


def pairs(draw: st.DrawFn, kinds: tuple[str, ...]) -> dict[str, Any]:
    some = range(draw(st.integers(1, 3)))
    return {"value_pairs_set": [tuple(given_value(draw, kind) for kind in kinds) for _ in some]}


PATTERNS = ("a", "^a$", r"^\w+$", r"\d", r"\s", "(?i)k", "^1$", "[a&&b]", r"b\Z", "^(?!a)", r"\bb", "", "(?i)ß", ".")
DATE_FORMATS = ("%Y-%m-%d", "%d.%m.%Y", "%H:%M")
SCHEMAS: tuple[dict[str, Any], ...] = (
    {"type": "object", "properties": {"a": {"type": "integer"}}},
    {"type": "array"},
    {},
)
QUANTILES = (
    {"quantiles": [0.0, 0.5, 1.0], "value_ranges": [[0, 1], [0, 2], [None, 7]]},
    {"quantiles": [0.1, 0.33, 0.95], "value_ranges": [[None, 1], [0, None], [1, 7]]},
)
PAIR = one_of("ignore_row_if", "both_values_are_missing", "either_value_is_missing", "neither")
RECORD = one_of("ignore_row_if", "all_values_are_missing", "any_value_is_missing", "never")
AGGREGATE = Expected(NUMBERS, bounds(-3, 7), maps=False)

EXPECTED: dict[str, Expected] = {
    "expect_column_values_to_not_be_null": Expected(ANY),
    "expect_column_values_to_be_null": Expected(ANY),
    "expect_column_values_to_be_unique": Expected((*HASHED, "list", "struct")),
    "expect_column_values_to_be_in_set": Expected(WRITTEN, members),
    "expect_column_values_to_not_be_in_set": Expected(WRITTEN, members),
    "expect_column_values_to_be_between": Expected((*EXACT, *TIMES), between()),
    "expect_column_values_to_be_increasing": Expected((*EXACT, *TIMES), one_of("strictly", None, True, False)),
    "expect_column_values_to_be_decreasing": Expected((*EXACT, *TIMES), one_of("strictly", None, True, False)),
    "expect_column_value_lengths_to_be_between": Expected(TEXTS, bounds(0, 3)),
    "expect_column_value_lengths_to_equal": Expected(TEXTS, one_of("value", 0, 1, 2)),
    "expect_column_values_to_match_regex": Expected((*TEXTS, "int", "bool"), one_of("regex", *PATTERNS)),
    "expect_column_values_to_not_match_regex": Expected((*TEXTS, "int"), one_of("regex", *PATTERNS)),
    "expect_column_values_to_match_regex_list": Expected(
        TEXTS, all_of(some_of("regex_list", *PATTERNS), one_of("match_on", "any", "all"))
    ),
    "expect_column_values_to_not_match_regex_list": Expected(TEXTS, some_of("regex_list", *PATTERNS)),
    "expect_column_values_to_match_strftime_format": Expected(
        ("dates", "text"), one_of("strftime_format", *DATE_FORMATS)
    ),
    "expect_column_values_to_be_dateutil_parseable": Expected(("dates", "text")),
    "expect_column_values_to_be_json_parseable": Expected(("json", "text")),
    "expect_column_values_to_match_json_schema": Expected(("json",), one_of("json_schema", *SCHEMAS)),
    "expect_column_value_z_scores_to_be_less_than": Expected(
        NUMBERS, all_of(one_of("threshold", 0.5, 1, 2), one_of("double_sided", True, False))
    ),
    "expect_column_values_to_not_be_outliers": Expected(
        NUMBERS, all_of(one_of("method", "iqr", "std"), one_of("multiplier", 1.0, 1.5))
    ),
    "expect_column_pair_values_to_be_equal": Expected((*ORDERED,), PAIR, columns=2),
    "expect_column_pair_values_a_to_be_greater_than_b": Expected(
        (*EXACT, *TIMES), all_of(PAIR, one_of("or_equal", None, True, False)), columns=2
    ),
    "expect_column_pair_values_to_be_in_set": Expected(
        ("int", "float", "text", "bool"), all_of(PAIR, pairs), columns=2, alike=False
    ),
    "expect_compound_columns_to_be_unique": Expected(HASHED, RECORD, columns=2, alike=False),
    "expect_select_column_values_to_be_unique_within_record": Expected(HASHED, RECORD, columns=3),
    "expect_multicolumn_values_to_be_equal": Expected(HASHED, RECORD, columns=2),
    "expect_multicolumn_sum_to_equal": Expected(
        NUMBERS, all_of(RECORD, one_of("sum_total", 0, 1, 2)), columns=2, alike=False
    ),
    "expect_column_max_to_be_between": Expected((*NUMBERS, *TIMES), between(), maps=False),
    "expect_column_min_to_be_between": Expected((*NUMBERS, *TIMES), between(), maps=False),
    "expect_column_mean_to_be_between": AGGREGATE,
    "expect_column_median_to_be_between": AGGREGATE,
    "expect_column_sum_to_be_between": AGGREGATE,
    "expect_column_stdev_to_be_between": AGGREGATE,
    "expect_column_quantile_values_to_be_between": Expected(
        NUMBERS,
        all_of(
            one_of("quantile_ranges", *QUANTILES),
            one_of("allow_relative_error", "linear", "lower", "higher", "midpoint", "nearest"),
        ),
        maps=False,
    ),
    "expect_column_unique_value_count_to_be_between": Expected(HASHED, bounds(0, 3), maps=False),
    "expect_column_proportion_of_unique_values_to_be_between": Expected(HASHED, bounds(0, 1), maps=False),
    "expect_column_proportion_of_non_null_values_to_be_between": Expected(ANY, bounds(0, 1), maps=False),
    "expect_column_distinct_values_to_be_in_set": Expected(WRITTEN, members, maps=False),
    "expect_column_distinct_values_to_contain_set": Expected(WRITTEN, members, maps=False),
    "expect_column_distinct_values_to_equal_set": Expected(WRITTEN, members, maps=False),
    "expect_column_most_common_value_to_be_in_set": Expected(
        WRITTEN, all_of(objects, one_of("ties_okay", None, True)), maps=False
    ),
    "expect_table_row_count_to_be_between": Expected(("int",), bounds(0, 5), columns=0, maps=False),
    "expect_table_row_count_to_equal": Expected(("int",), one_of("value", 0, 1, 3), columns=0, maps=False),
    "expect_table_column_count_to_be_between": Expected(("int",), one_of("min_value", 0, 2, 9), columns=0, maps=False),
    "expect_table_column_count_to_equal": Expected(("int",), one_of("value", 0, 2, 3), columns=0, maps=False),
    "expect_table_columns_to_match_ordered_list": Expected(
        ("int",), one_of("column_list", ["k", "a"], ["a", "k"], ["k"], ["k", "a", "x"]), columns=0, maps=False
    ),
    "expect_table_columns_to_match_set": Expected(
        ("int",),
        all_of(one_of("column_set", ["a", "k"], ["a"], ["a", "x"]), one_of("exact_match", None, False)),
        columns=0,
        maps=False,
    ),
    "expect_column_to_exist": Expected(
        ("int",), all_of(one_of("column", "a", "x"), one_of("column_index", None, 1, 2)), columns=0, maps=False
    ),
}
#: Expectations that GX cannot evaluate on pandas frames, each with where it is tried instead.
ELSEWHERE = {
    "expect_column_values_to_match_like_pattern": "test_gx_regex: no pandas metric",
    "expect_column_values_to_not_match_like_pattern": "test_gx_regex: no pandas metric",
    "expect_column_values_to_match_like_pattern_list": "test_gx_regex: no pandas metric",
    "expect_column_values_to_not_match_like_pattern_list": "test_gx_regex: no pandas metric",
    "expect_query_results_to_match_comparison": "SQL only",
    "expect_table_row_count_to_equal_other_table": "SQL only",
    "unexpected_rows_expectation": "SQL only",
    "expect_column_kl_divergence_to_be_less_than": "GX's own pandas metric computes it",
    "expect_column_type_to_be": "test_gx_engine: names of types",
    "expect_column_values_to_be_of_type": "test_gx_engine: names of types",
    "expect_column_values_to_be_in_type_list": "test_gx_engine: names of types",
    "expect_column_bootstrapped_ks_test_p_value_to_be_greater_than": "not implemented by GX itself",
    "expect_column_chisquare_test_p_value_to_be_greater_than": "not implemented by GX itself",
    "expect_column_pair_cramers_phi_value_to_be_less_than": "not implemented by GX itself",
    "expect_column_parameterized_distribution_ks_test_p_value_to_be_greater_than": "not implemented by GX itself",
    "expect_multicolumn_values_to_be_unique": "an old name of expect_select_column_values_to_be_unique_within_record",
}


@st.composite
def cases(draw: st.DrawFn, type_: str) -> Case:
    expected = EXPECTED[type_]
    height = draw(st.integers(0, 7))
    first = draw(st.sampled_from(list(expected.kinds)))
    kinds = tuple(
        first if number == 0 or expected.alike else draw(st.sampled_from(list(expected.kinds)))
        for number in range(max(expected.columns, 1))
    )
    names = "abc"[: len(kinds)]
    columns: dict[str, pl.Series] = {"k": pl.Series(range(height), dtype=pl.Int64)}
    for name, kind in zip(names, kinds, strict=True):
        held = st.sampled_from(KINDS[kind].values)
        values = draw(st.lists(held | held | held | st.none(), min_size=height, max_size=height))
        columns[name] = pl.Series(values, dtype=KINDS[kind].dtype, strict=False)
    kwargs = {name: value for name, value in expected.arguments(draw, kinds).items() if value is not None}
    if expected.columns == 1:
        kwargs["column"] = "a"
    elif expected.columns == 2 and "pair" in type_:
        kwargs |= {"column_A": "a", "column_B": "b"}
    elif expected.columns:
        kwargs["column_list"] = list(names)
    if expected.maps and draw(st.integers(0, 3)) == 0:
        kwargs["mostly"] = 0.5
    where = ("k", 2) if expected.columns and draw(st.integers(0, 4)) == 0 else None
    form = draw(st.sampled_from(FORMATS)) if expected.maps else "COMPLETE"
    return Case(pl.DataFrame(columns), kinds, type_, kwargs, where, form)


# ---- both evaluations


class Verdict(NamedTuple):
    """A result, comparable: as JSON, without what is a matter of wording."""

    success: bool
    raised: str
    result: dict[str, Any]


def expectation(case: Case) -> Any:
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.row_conditions import Column

    kwargs = dict(case.kwargs)
    if case.where:
        column, least = case.where
        kwargs["row_condition"] = Column(column) >= least
    return ExpectationConfiguration(type=case.type_, kwargs=kwargs).to_domain_obj()


FORMATS = ("COMPLETE", "COMPLETE by k", "SUMMARY", "BASIC")


def result_format(case: Case) -> dict[str, Any]:
    name, _, by = case.form.partition(" by ")
    return {"result_format": name, "partial_unexpected_count": 5} | (
        {"unexpected_index_column_names": [by]} if by else {}
    )


def by_polars(case: Case) -> Verdict:
    import great_expectations as gx

    from gossamer.quality import CompiledSuite

    suite = gx.ExpectationSuite(name="suite", expectations=[expectation(case)])
    return verdict(CompiledSuite(suite, result_format(case)).run(case.frame).results[0])


@pytest.fixture(scope="module")
def by_pandas() -> Callable[[Case], Verdict]:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("frames")
    definition = asset.add_batch_definition_whole_dataframe("whole")

    def run(case: Case) -> Verdict:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pandas and numpy, about what their callers do
            batch = definition.get_batch(batch_parameters={"dataframe": case.frame.to_pandas()})
            return verdict(batch.validate(expectation(case), result_format=result_format(case)))

    return run


def verdict(result: Any) -> Verdict:
    try:
        document = result.to_json_dict()
    except TypeError as error:
        return Verdict(bool(result.success), f"not JSON: {error}", {})
    info = document["exception_info"]
    # one object, or one for each metric that failed
    raised = info if "raised_exception" in info else next(iter(info.values()), {})
    said = str(raised.get("exception_message") or "unnamed") if raised.get("raised_exception") else ""
    found = {name: plain(value) for name, value in document["result"].items() if name not in _WORDED}
    for name in _UNORDERED & found.keys():
        found[name] = sorted(found[name], key=repr) if isinstance(found[name], list) else found[name]
    return Verdict(bool(document["success"]), said, {} if said else found)


#: A query is text of pandas or of Polars.
_WORDED = {"unexpected_index_query"}
#: Lists made from sets, in no order of their own.
_UNORDERED = {"partial_missing_list", "partial_unexpected_counts", "observed_value"}


def plain(value: Any) -> Any:
    """JSON with one notation for what is missing, and for a moment."""
    match value:
        case dict():
            return {name: plain(inner) for name, inner in value.items()}
        case list() | tuple():
            return [plain(inner) for inner in value]
        case float() if math.isnan(value):
            return None
        case str() if value == "NaT":
            return None
        case str() if re.match(r"\d{4}-\d\d-\d\d", value):
            return _moment(value)
    return value


def _moment(text: str) -> str:
    try:
        return dt.datetime.fromisoformat(text).isoformat()
    except ValueError:
        return text


def same(ours: Any, theirs: Any) -> bool:
    """Equal, but for the last digits of a number; 1, 1.0 and True are one."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[name], theirs[name]) for name in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, int | float) and isinstance(theirs, int | float):
        return math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-9)
    return bool(ours == theirs)


def agree(ours: Verdict, theirs: Verdict) -> bool:
    raised = bool(ours.raised) == bool(theirs.raised)
    return ours.success == theirs.success and raised and same(ours.result, theirs.result)


# ---- where they differ on purpose


@dataclass(frozen=True)
class Deviation:
    """A difference that is meant.

    Attributes:
        title: its heading in the docs, where the reason stands.
        shows: a case that shows it; the test fails once it does not.
        applies: to which generated cases.
        other: what pandas is given instead, so that the rest can be compared.
        level: what is left to compare of a verdict of either; None if nothing is.
    """

    title: str
    shows: Case
    applies: Callable[[Case], bool] = lambda case: False
    other: Callable[[Case], Case] = lambda case: case
    level: Callable[[Verdict], Verdict] | None = lambda verdict: verdict


def frame_of(kind: str, *values: Any) -> pl.DataFrame:
    """A frame with a column `a` of this kind."""
    numbers = pl.Series(range(len(values)), dtype=pl.Int64)
    return pl.DataFrame({"k": numbers, "a": pl.Series(values, dtype=KINDS[kind].dtype, strict=False)})


def case_of(type_: str, kind: str, values: Sequence[Any], **kwargs: Any) -> Case:
    return Case(frame_of(kind, *values), (kind,), type_, {"column": "a", **kwargs})


def has_nulls(case: Case) -> bool:
    values = case.frame.drop("k").with_columns(pl.selectors.float().fill_nan(None))
    return any(column.null_count() for column in values)


def without(*names: str) -> Callable[[Verdict], Verdict]:
    def level(verdict: Verdict) -> Verdict:
        return verdict._replace(result={name: v for name, v in verdict.result.items() if name not in names})

    return level


def as_naive(case: Case) -> Case:
    """Moments without a time zone, in UTC; dates as their midnights."""
    plain_moments = {
        name: column.cast(pl.Datetime("us"))
        if column.dtype == pl.Date
        else column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        for name, column in case.frame.to_dict().items()
        if column.dtype == pl.Date or getattr(column.dtype, "time_zone", None)
    }
    return case._replace(frame=case.frame.with_columns(**plain_moments), kwargs=_naive(case.kwargs))


def _naive(value: Any) -> Any:
    match value:
        case dict():
            return {name: _naive(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_naive(inner) for inner in value]
        case dt.datetime():
            return value.astimezone(dt.UTC).replace(tzinfo=None) if value.tzinfo else value
        case dt.date():
            return dt.datetime(value.year, value.month, value.day)
        case str() if re.match(r"\d{4}-\d\d-\d\d", value):
            return _naive(dt.datetime.fromisoformat(value))
    return value


def in_utc(verdict: Verdict) -> Verdict:
    def level(value: Any) -> Any:
        match value:
            case dict():
                return {name: level(inner) for name, inner in value.items()}
            case list():
                return [level(inner) for inner in value]
            case str() if re.match(r"\d{4}-\d\d-\d\dT", value):
                return _naive(dt.datetime.fromisoformat(value)).isoformat()
        return value

    return verdict._replace(result=level(verdict.result))


def in_seconds(case: Case) -> Case:
    durations = pl.selectors.duration()
    return case._replace(frame=case.frame.with_columns(durations.dt.total_microseconds() / 1e6))


def as_text(case: Case) -> Case:
    categories = pl.selectors.categorical() | pl.selectors.enum()
    return case._replace(frame=case.frame.with_columns(categories.cast(pl.String)))


#: Where a result lists values.
LISTED = (
    *("unexpected_list", "partial_unexpected_list", "partial_unexpected_counts"),
    *("unexpected_index_list", "partial_unexpected_index_list"),
)


def lists_as_text(case: Case) -> Case:
    column = pl.col("a").map_elements(lambda value: str(list(value)), return_dtype=pl.String)
    return case._replace(frame=case.frame.with_columns(column))


def signed(case: Case) -> Case:
    return case._replace(frame=case.frame.with_columns(pl.selectors.unsigned_integer().cast(pl.Int64)))


ZONED = ("utc", "berlin")
DEVIATIONS = [
    Deviation(
        "Null values in `partial_unexpected_counts`",
        case_of("expect_column_values_to_not_be_null", "float", [None, math.nan, 1.0]),
        has_nulls,
        level=without("partial_unexpected_counts"),
    ),
    Deviation(
        "Dates",
        case_of("expect_column_values_to_be_between", "date", [dt.date(2024, 1, 1)], min_value="2023-01-01"),
        lambda case: "date" in case.kinds,
        other=as_naive,
    ),
    Deviation(
        "Time zones",
        case_of(
            "expect_column_most_common_value_to_be_in_set",
            "berlin",
            KINDS["berlin"].values[:1],
            value_set=KINDS["berlin"].values,
        ),
        lambda case: not {*case.kinds}.isdisjoint(ZONED),
        other=as_naive,
        level=in_utc,
    ),
    Deviation(
        "Durations",
        case_of("expect_column_values_to_be_null", "duration", [dt.timedelta(hours=1)]),
        lambda case: "duration" in case.kinds,
        other=in_seconds,
    ),
    Deviation(
        "Categories beside other categories",
        Case(
            frame_of("category", "a", "b").with_columns(b=pl.Series(["b", None], dtype=pl.Categorical)),
            ("category", "category"),
            "expect_column_pair_values_to_be_equal",
            {"column_A": "a", "column_B": "b"},
        ),
        lambda case: len(case.kinds) > 1 and not {*case.kinds}.isdisjoint(["category", "enum"]),
        other=as_text,
    ),
    Deviation(
        "Whole numbers with nulls",
        case_of("expect_column_values_to_match_regex", "int", [1, None], regex="^1$"),
        lambda case: "regex" in case.type_ and case.kinds[0] in NUMBERS and has_nulls(case),
        level=None,
    ),
    Deviation(
        "Moments as text in a set",
        case_of("expect_column_values_to_be_in_set", "naive", MOMENTS[:1], value_set=[MOMENTS[0].isoformat()]),
        lambda case: "naive" in case.kinds,
        other=as_naive,
    ),
    Deviation(
        "Moments as text",
        case_of("expect_column_value_lengths_to_equal", "naive", MOMENTS[:1], value=19),
    ),
    Deviation(
        "Small numbers as text",
        case_of("expect_column_values_to_match_regex", "float", [0.00001], regex="^1e-05$"),
    ),
    Deviation(
        "Decimals",
        case_of("expect_column_values_to_be_between", "decimal", [Decimal("0.10")], min_value=Decimal("0.10")),
    ),
    Deviation(
        "POSIX classes in patterns",
        case_of("expect_column_values_to_match_regex", "text", ["a"], regex="[[:alpha:]]"),
    ),
    Deviation(
        "Lists",
        case_of("expect_column_values_to_be_unique", "list", [[], []]),
        lambda case: "list" in case.kinds and "unique" in case.type_,
        other=lists_as_text,
        level=without(*LISTED),
    ),
    Deviation(
        "Unsigned numbers in order",
        case_of("expect_column_values_to_be_increasing", "small", [2, 0]),
        lambda case: "small" in case.kinds and case.type_.endswith("creasing"),
        other=signed,
    ),
]


def compare(case: Case, by_pandas: Callable[[Case], Verdict]) -> tuple[Verdict, Verdict] | None:
    """Both verdicts, of which the deviations that apply are levelled; None if nothing is left to compare."""
    applying = [deviation for deviation in DEVIATIONS if deviation.applies(case)]
    if any(deviation.level is None for deviation in applying):
        return None
    other = case
    for deviation in applying:
        other = deviation.other(other)
    ours, theirs = by_polars(case), by_pandas(other)
    for deviation in applying:
        assert deviation.level
        ours, theirs = deviation.level(ours), deviation.level(theirs)
    return ours, theirs


# ---- the tests


@pytest.mark.parametrize("type_", EXPECTED)
def test_polars_and_pandas_agree(type_: str, by_pandas: Callable[[Case], Verdict]) -> None:
    @settings(max_examples=EXAMPLES, phases=[Phase.explicit, Phase.reuse, Phase.generate])
    @given(cases(type_))
    def agrees(case: Case) -> None:
        if both := compare(case, by_pandas):
            ours, theirs = both
            assert agree(ours, theirs), f"{case}\nours   {ours}\ntheirs {theirs}"

    agrees()


@pytest.mark.parametrize("deviation", DEVIATIONS, ids=lambda deviation: deviation.title)
def test_every_deviation_is_still_one_and_in_the_docs(
    deviation: Deviation, by_pandas: Callable[[Case], Verdict]
) -> None:
    assert not agree(by_polars(deviation.shows), by_pandas(deviation.shows)), "GX does the same by now: remove it"
    assert f"## {deviation.title}\n" in DOCS.read_text(encoding="utf-8")


def test_no_shipped_expectation_is_left_out() -> None:
    from great_expectations.expectations import core

    shipped = {kind.expectation_type for kind in vars(core).values() if hasattr(kind, "expectation_type")} - {""}
    assert shipped <= EXPECTED.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize("bounds", [{"max_value": math.nan}, {"min_value": math.nan}, {"min_value": 0.0}], ids=str)
def test_no_number_lies_within_a_bound_that_is_none(bounds: Any, by_pandas: Callable[[Case], Verdict]) -> None:
    case = case_of("expect_column_values_to_be_between", "float", [2.5, math.nan, -1.0], **bounds)
    ours, theirs = (judge(case) for judge in (by_polars, by_pandas))
    assert agree(without("partial_unexpected_counts")(ours), without("partial_unexpected_counts")(theirs))


# ---- row conditions: which rows count

ROW_FRAME: dict[str, tuple[pl.DataType, Sequence[Any]]] = {
    "i": (pl.Int64(), [0, 1, 2]),
    "j": (pl.Int64(), [0, 1, 2]),
    "f": (pl.Float64(), [0.0, 1.0, 1.5, math.nan]),
    "s": (pl.String(), ["a", "b", "a&b"]),
    "odd name": (pl.String(), ["a", "b", "a|b"]),
    "c": (pl.Categorical(), ["a", "b"]),
    "b": (pl.Boolean(), [True, False]),
    "t": (pl.Datetime("us"), MOMENTS),
    "u": (pl.Datetime("us"), MOMENTS),
    "z": (pl.Null(), [None]),
}
#: Columns whose values have an order, beside which others they can stand, and constants of their kind.
COMPARABLE = {
    **dict.fromkeys(["i", "j", "f"], (("i", "j", "f"), ["0", "1", "1.5"])),
    **dict.fromkeys(["s", "`odd name`"], (("s", "`odd name`"), ["'a'", '"a&b"', "'a|b'"])),
    **dict.fromkeys(["t", "u"], (("t", "u"), [])),
}
#: Those whose values only equal each other or do not.
DISTINGUISHED = {"c": ["'a'", "'b'"], "b": ["True", "False"], "z": ["1", "'a'"]}
#: What conditions compare columns with, which take Python's objects.
CONSTANTS: dict[str, Sequence[Any]] = {
    "i": [0, 1, 1.5],
    "f": [0, 1, 1.5],
    "s": ["a", "a&b"],
    "odd name": ["a", "b"],
    "c": ["a", "b"],
    "b": [True, False],
}
SIGNS = ("==", "!=", "<", "<=", ">", ">=")


@st.composite
def row_frames(draw: st.DrawFn) -> pl.DataFrame:
    height = draw(st.integers(1, 8))
    columns = {"k": pl.Series(range(height), dtype=pl.Int64), "whole": pl.Series([True, False] * 4)[:height]}
    for name, (dtype, held) in ROW_FRAME.items():
        values = draw(st.lists(st.none() | st.sampled_from(held), min_size=height, max_size=height))
        columns[name] = pl.Series(values, dtype=dtype, strict=False)
    return pl.DataFrame(columns)


@st.composite
def comparisons(draw: st.DrawFn) -> str:
    """One comparison of a pandas query, such as pandas takes."""
    name = draw(st.sampled_from([*COMPARABLE, *DISTINGUISHED]))
    others, constants = COMPARABLE.get(name) or ((name,), DISTINGUISHED[name])
    shapes = ["null", "pair", *(["set", "constant", "swapped"] if constants else [])]
    shape = draw(st.sampled_from([*shapes, "whole", *(["chain"] if name in "ijf" else [])]))
    sign = draw(st.sampled_from(SIGNS if name in COMPARABLE else SIGNS[:2]))
    match shape:
        case "null":
            return f"{name}.{draw(st.sampled_from(['isnull', 'notnull']))}()"
        case "pair":
            return f"{name} {sign} {draw(st.sampled_from(others))}"
        case "constant":
            return f"{name} {sign} {draw(st.sampled_from(constants))}"
        case "swapped":
            return f"{draw(st.sampled_from(constants))} {sign} {name}"
        case "set":
            among = draw(st.lists(st.sampled_from([*constants, "None"]), max_size=2))
            return f"{name} {draw(st.sampled_from(['in', 'not in']))} [{', '.join(among)}]"
        case "chain":
            return f"0 {draw(st.sampled_from(SIGNS))} {name} {sign} {draw(st.sampled_from(others))}"
    return "whole"


def queries() -> st.SearchStrategy[str]:
    def longer(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        joined = st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or", "&", "|"]), inner)
        return joined | st.builds("not ({})".format, inner)

    return st.recursive(comparisons(), longer, max_leaves=5)


@st.composite
def conditions(draw: st.DrawFn) -> Any:
    """A condition as Great Expectations' own classes write it."""
    from great_expectations.expectations.row_conditions import Column

    def leaf() -> Any:
        name = draw(st.sampled_from(list(CONSTANTS)))
        column, value = Column(name), draw(st.sampled_from(CONSTANTS[name]))
        signs = SIGNS[:2] if name in DISTINGUISHED else SIGNS
        shapes = [
            lambda: getattr(column, _DUNDERS[draw(st.sampled_from(signs))])(value),
            column.is_null,
            column.is_not_null,
        ]
        if name != "b":  # which Great Expectations takes in no set
            shapes += [lambda: column.is_in([value]), lambda: column.is_not_in([value]), lambda: column.is_not_in([])]
        return draw(st.sampled_from(shapes))()

    def both() -> Any:
        return leaf() & leaf() if draw(st.booleans()) else leaf()

    return both() | both() if draw(st.booleans()) else both()


_DUNDERS = dict(zip(SIGNS, ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"), strict=True))

#: Rows where a column is null and another is too: a rule for what is not sold is for these as well.
UNSOLD = pl.DataFrame(
    {
        "k": [0, 1, 2, 3],
        "s": ["a", None, "b", "a"],
        "odd name": ["a", None, "b", None],
        "i": [1, None, 2, 1],
        "j": [1, None, None, 2],
        "f": [1.0, math.nan, None, 2.0],
        "b": [True, None, False, None],
    }
)


def counted_rows(frame: pl.DataFrame, condition: Any) -> Case:
    """A case of which the result lists the rows that count."""
    parser = {"condition_parser": "pandas"} if isinstance(condition, str) else {}
    kwargs = {"column": "k", "row_condition": condition, **parser}
    return Case(frame, ("int",), "expect_column_values_to_be_null", kwargs)


CONDITIONS_WARN = pytest.mark.filterwarnings("ignore:.*row_condition|.*condition_parser:DeprecationWarning")


@CONDITIONS_WARN
def test_a_query_keeps_the_rows_that_pandas_keeps(by_pandas: Callable[[Case], Verdict]) -> None:
    @settings(max_examples=30, phases=[Phase.explicit, Phase.reuse, Phase.generate])
    @given(row_frames(), queries())
    @example(UNSOLD, "s != 'a'")
    @example(UNSOLD, "not (s == 'a')")
    @example(UNSOLD, "s not in ['a']")
    @example(UNSOLD, "s not in ['a', None]")
    @example(UNSOLD, "i != j")
    @example(UNSOLD, "not (i == j)")
    @example(UNSOLD, "not (0 < f <= 1)")
    @example(UNSOLD, "f != 1 and not (i > 1 or s == 'a')")
    @example(UNSOLD, "b != True and 'b' != `odd name`")
    @example(UNSOLD, "s != 'a&b' and s != '`' and k in (1, 2)")
    def agrees(frame: pl.DataFrame, query: str) -> None:
        ours, theirs = (judge(counted_rows(frame, query)) for judge in (by_polars, by_pandas))
        assert not ours.raised, f"{query}: {ours.raised}"
        assert agree(ours, theirs), f"{query}\n{frame}\nours   {ours}\ntheirs {theirs}"

    agrees()


@CONDITIONS_WARN
def test_a_condition_keeps_the_rows_that_pandas_keeps(by_pandas: Callable[[Case], Verdict]) -> None:
    from great_expectations.expectations.row_conditions import Column

    @settings(max_examples=20, phases=[Phase.explicit, Phase.reuse, Phase.generate])
    @given(row_frames(), conditions())
    @example(UNSOLD, Column("s") != "a")
    @example(UNSOLD, Column("s").is_not_in(["a"]))
    @example(UNSOLD, Column("i") != 2)
    @example(UNSOLD, Column("f") != 1)
    @example(UNSOLD, (Column("f") != 1) & Column("s").is_not_in(["b"]) | Column("i").is_null())
    def agrees(frame: pl.DataFrame, condition: Any) -> None:
        ours, theirs = (judge(counted_rows(frame, condition)) for judge in (by_polars, by_pandas))
        assert not ours.raised, f"{condition!r}: {ours.raised}"
        assert agree(ours, theirs), f"{condition!r}\n{frame}\nours   {ours}\ntheirs {theirs}"

    agrees()


def test_rows_that_do_not_count_are_not_judged(by_pandas: Callable[[Case], Verdict]) -> None:
    """A text that is no JSON ends in an error where it counts, and must not where `row_condition` leaves it out."""
    case = case_of(
        "expect_column_values_to_match_json_schema", "json", ["1", "{", "[]", "1"], json_schema={"type": "array"}
    )
    left_out = case._replace(where=("k", 2))
    assert by_polars(case).raised
    assert by_polars(left_out) == by_pandas(left_out)
    assert by_polars(left_out).result["unexpected_list"] == ["1"]
