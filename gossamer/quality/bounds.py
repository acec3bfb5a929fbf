"""What is usual, and how far from it is still usual: bounds around a short series of numbers.

They are robust (a median and deviations from it, so that one odd partition moves nothing), follow a steady growth and a
new level, and are never narrower than what the caller says is noise. What the numbers are is in `defaults`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

#: So many deviations from the usual are still usual; with seven values, their own spread is known badly.
_DEVIATIONS = 5.0
#: From the median of absolute deviations to a standard deviation, of normal noise.
_MAD = 1.4826
#: So many accepted values in a row that agree are a new level, whatever was before.
_NEW_LEVEL = 3


@dataclass(frozen=True)
class Bounds:
    """`usual`: the median; `low`, `high`: what is held against."""

    usual: float
    low: float
    high: float

    def hold(self, value: float) -> bool:
        return self.low <= value <= self.high


def around(points: Sequence[tuple[float, float]], at: float, slack: Callable[[float], float]) -> Bounds:
    """The bounds at a place of a series.

    Args:
        points: places and values; at least one.
        at: the place that is judged; it may lie after, before or between the points.
        slack: the usual value -> the least distance of a bound from it.
    """
    values = [value for _, value in points]
    usual = median(values)
    slope = _slope(points)
    level = median(value - slope * place for place, value in points)
    deviation = _MAD * median(abs(value - level - slope * place) for place, value in points)
    room = max(_DEVIATIONS * deviation, slack(usual))
    expected = level + slope * at
    if not (math.isfinite(expected) and math.isfinite(room)):  # numbers at the end of what a float can hold
        return Bounds(usual, -math.inf, math.inf)
    bounds = Bounds(usual, min(usual, expected) - room, max(usual, expected) + room)
    return _with_new_level(bounds, [value for place, value in points if place < at][-_NEW_LEVEL:], slack)


def _with_new_level(bounds: Bounds, newest: Sequence[float], slack: Callable[[float], float]) -> Bounds:
    """The bounds widened to the newest values, where several in a row were accepted that agree: that is usual now."""
    if len(newest) < _NEW_LEVEL:
        return bounds
    level = median(newest)
    room = slack(level)
    if any(abs(value - level) > room for value in newest):
        return bounds
    return Bounds(bounds.usual, min(bounds.low, level - room), max(bounds.high, level + room))


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes between all pairs of points (Theil and Sen)."""
    slopes = [
        (second - first) / (there - here)
        for number, (here, first) in enumerate(points)
        for there, second in points[number + 1 :]
        if there != here
    ]
    return median(slopes) if slopes else 0.0
