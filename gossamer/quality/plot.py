"""Plots as inline SVG: no script, nothing from the network.

`trace` draws values over partitions, for the pages of `report` and `source_report`, whose styles it takes. `render` is
a page of its own: the pages and records of a crawl over its time.
"""

from collections.abc import Sequence
from html import escape

#: The plane of a trace: wide enough for 400 partitions in whole numbers, which keep a page small. It is stretched to
#: the place that the page has for it; lines keep their width.
_ACROSS, _DOWN = 800, 100

_WIDTH, _HEIGHT = 720, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 16, 30, 30

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ --ink: #1d1f23; --soft: #5d626b; --line: #e2e2dc; --page: #fff; --mark: #1f5fae; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e7e8ea; --soft: #a0a6b0; --line: #2e323a; --page: #1b1e24; --mark: #8ab8f5; }}
}}
body {{ margin: 0 auto; max-width: 760px; padding: 24px 20px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }}
h1 {{ font-size: 20px; overflow-wrap: anywhere; }}
svg {{ display: block; width: 100%; height: auto; margin-bottom: 12px; }}
text {{ fill: var(--soft); font-size: 12px; }} .name {{ fill: var(--ink); font-weight: 600; font-size: 13px; }}
line {{ stroke: var(--line); }} polyline {{ fill: none; stroke: var(--mark); stroke-width: 2; }}
</style>
</head>
<body>
<h1>{title}</h1>
{panels}
</body>
</html>
"""


def trace(values: Sequence[float | None], label: str, low: float, high: float, marks: Sequence[int] = ()) -> str:
    """A line through values, one step each; where there is none, the line has a gap.

    Args:
        label: what it shows, in words.
        low, high: the values at the lower and the upper edge; what lies beyond is drawn at the edge.
        marks: places in `values` that are marked by an upright line.
    """
    step = _ACROSS / max(len(values) - 1, 1)
    span = high - low
    points: list[str] = []
    pen_up = True
    for place, value in enumerate(values):
        if value is None:
            pen_up = True
            continue
        down = _DOWN * (high - value) / span if span > 0 else _DOWN / 2
        down = 0 if down < 0 else _DOWN if down > _DOWN else down
        point = f"{place * step:.0f} {down:.0f}"
        # a point alone is drawn as a line of no length, with round ends
        points.append(f"M{point}h0" if pen_up else f"L{point}")
        pen_up = False
    upright = "".join(f"M{round(place * step)} 0V{_DOWN}" for place in marks)
    marked = f'<path class="mark" d="{upright}"/>' if upright else ""
    return (
        f'<svg class="trace" viewBox="0 0 {_ACROSS} {_DOWN}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{marked}<path d="{"".join(points)}"/></svg>'
    )


def render(title: str, series: Sequence[tuple[float, int, int]]) -> str:
    """The page.

    Args:
        series: seconds since the crawl began, pages and records by then; in the order of time.
    """
    seconds = [point[0] for point in series]
    panels = [
        _panel("pages", seconds, [point[1] for point in series]),
        _panel("records", seconds, [point[2] for point in series]),
    ]
    return _PAGE.format(title=escape(title), panels="\n".join(panels))


def _panel(name: str, seconds: Sequence[float], counts: Sequence[int]) -> str:
    """One curve with its axes, which begin at nought."""
    end, most = max(seconds, default=0.0), max(counts, default=0)
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x(second: float) -> float:
        return _LEFT + (right - _LEFT) * second / (end or 1)

    def y(count: float) -> float:
        return bottom - (bottom - _TOP) * count / (most or 1)

    points = " ".join(f"{x(second):.1f},{y(count):.1f}" for second, count in zip(seconds, counts, strict=True))
    rules = "".join(
        f'<line x1="{_LEFT}" x2="{right}" y1="{y(count):.1f}" y2="{y(count):.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{y(count) + 4:.1f}" text-anchor="end">{count:,}</text>'
        for count in sorted({0, most // 2, most})
    )
    times = "".join(
        f'<text x="{x(second):.1f}" y="{bottom + 18}" text-anchor="{anchor}">{_time(second)}</text>'
        for second, anchor in ((0.0, "start"), (end / 2, "middle"), (end, "end"))
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{name} over time: {most:,} in {_time(end)}">'
        f'<text class="name" x="{_LEFT}" y="16">{name}: {most:,}</text>{rules}{times}'
        f'<polyline points="{points}"/></svg>'
    )


def _time(seconds: float) -> str:
    """`90 s`, `12 min`, `3.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
