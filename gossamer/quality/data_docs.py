"""Great Expectations' Data Docs as files: a static site of the validation results that the lake keeps.

Built on request and as a whole, by Great Expectations' own renderer; the page around it is ours (`templates/page.j2`
and the other `.j2` files), because Great Expectations' loads its styles and scripts from other people's servers. The
pages need no network and run no script. Great Expectations writes sampled values into its pages as they are; here
they cannot become markup, whatever its version escapes.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any

from gossamer import __version__
from gossamer.lake import Lake
from gossamer.partition import SEPARATOR
from gossamer.quality import pages

RESULTS = "validations"
FOLDER = "data_docs"
LIMIT = 100
#: Longest text, and most entries of a list, that go into a page.
_TEXT = 1000
_ITEMS = 100
_LEFT_OUT = "(left out)"

#: What has a meaning in HTML, or in Great Expectations' templates, passes through its renderer under another name:
#: a character of the private use area, where no text has any.
_GUISE = dict(zip("<>&\"'$", map(chr, range(0xF8D0, 0xF8D6)), strict=True))
_DISGUISE = str.maketrans({**dict.fromkeys(_GUISE.values(), "\ufffd"), **_GUISE})
_UNMASK = {guise: escape(character) for character, guise in _GUISE.items()}
#: Where Great Expectations writes a list as Python does, such a character stands as its number.
_GUISES = re.compile("[\uf8d0-\uf8d5]|\\\\uf8d[0-5]")
#: Its link to the page of the suite, which this site does not have.
_SUITE_LINK = re.compile(r"<a [^>]*href=.?[./]*expectations/[^>]*>")


@dataclass(frozen=True)
class Built:
    """What was made.

    Attributes:
        left_out: results that could not be shown, with the reason.
    """

    pages: int
    bytes: int
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Result:
    """A stored validation result: `validations/<source>/<key>.<layer>.json`."""

    source: str
    name: str

    @property
    def key(self) -> str:
        return self.name.rpartition(".")[0].replace("~", SEPARATOR)

    @property
    def layer(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def path(self) -> str:
        return f"{RESULTS}/{self.source}/{self.name}.json"

    @property
    def page(self) -> str:
        return f"{self.source}/{self.name}.html"


def build(lake: Lake, sources: Sequence[str], limit_per_source: int = LIMIT) -> Built:
    """Writes the site of the newest results of these sources to `data_docs/` of the lake, its index last.

    Pages of older results are removed. `data_docs/index.html` lists what was built, of these sources only.

    Raises:
        LakeError: the lake cannot be read or written.
    """
    render = _renderer()
    entries: dict[str, list[dict[str, Any]]] = {}
    left_out: list[str] = []
    size = 0
    for source in sorted(set(sources)):
        made = entries[source] = []
        for result in _stored(lake, source, limit_per_source):
            found = lake.get_json(result.path)
            try:
                page = render(found, result).encode()
                made.append(_entry(result, found))
            except (AttributeError, KeyError, TypeError, ValueError) as error:  # what another version wrote
                left_out.append(f"{result.path}: {type(error).__name__}: {error}")
                continue
            lake.put(f"{FOLDER}/{result.page}", page)
            size += len(page)
        _sweep(lake, source, {f"{FOLDER}/{entry['page']}" for entry in made})
    index = _index(entries, left_out, limit_per_source).encode()
    lake.put(f"{FOLDER}/{pages.INDEX}", index)
    return Built(sum(map(len, entries.values())) + 1, size + len(index), tuple(left_out))


def _stored(lake: Lake, source: str, limit: int) -> Iterator[_Result]:
    """The results of the newest partitions, newest first."""
    folder = f"{RESULTS}/{source}/"
    names = (path.removeprefix(folder) for path in lake.paths(folder))
    results = [_Result(source, name.removesuffix(".json")) for name in names if name.endswith(".json")]
    newest = sorted({result.key for result in results}, reverse=True)[:limit]
    yield from sorted((r for r in results if r.key in set(newest)), key=lambda r: (r.key, r.layer), reverse=True)


def _sweep(lake: Lake, source: str, kept: set[str]) -> None:
    for path in list(lake.paths(f"{FOLDER}/{source}/")):
        if path not in kept:
            lake.delete(path)


def _renderer() -> Callable[[Any, _Result], str]:
    """How a result becomes a page; loads Great Expectations, which takes seconds."""
    # Great Expectations promises none of these three names; checked with 1.24.1.
    from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResultSchema
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view.view import DefaultJinjaPageView
    from jinja2 import ChoiceLoader, PackageLoader

    schema: Any = ExpectationSuiteValidationResultSchema()
    renderer: Any = ValidationResultsPageRenderer()
    view: Any = DefaultJinjaPageView()
    view.env.loader = ChoiceLoader([PackageLoader("gossamer.quality"), view.env.loader])

    def render(found: Any, result: _Result) -> str:
        document = renderer.render(schema.load(_disguised(_told(found))))
        said = {"source": result.source, "partition": result.key, "layer": result.layer}
        page: str = view.render(document, about={name: escape(pages.text(value)) for name, value in said.items()})
        return _GUISES.sub(_unmasked, _SUITE_LINK.sub("<a>", page))

    return render


def _unmasked(found: re.Match[str]) -> str:
    guise = found[0] if len(found[0]) == 1 else chr(int(found[0][2:], 16))
    return _UNMASK[guise]


def _told(found: Mapping[str, Any]) -> dict[str, Any]:
    """A result without the paths of the machine that made it."""
    results = [{**one, "exception_info": _without_traces(one.get("exception_info"))} for one in found["results"]]
    return {**found, "results": results}


def _without_traces(info: Any) -> Any:
    if not isinstance(info, Mapping):
        return info
    return {
        name: _LEFT_OUT if name == "exception_traceback" else _without_traces(value) for name, value in info.items()
    }


def _disguised(thing: Any) -> Any:
    """The same, in bounded size, with nothing in its texts that means anything to a template or a browser."""
    if isinstance(thing, str):
        return pages.text(thing, _TEXT).translate(_DISGUISE)
    if isinstance(thing, Mapping):
        return {_disguised(str(name)): _disguised(value) for name, value in thing.items()}
    if isinstance(thing, list):
        return [_disguised(value) for value in thing[:_ITEMS]]
    return thing


def _entry(result: _Result, found: Mapping[str, Any]) -> dict[str, Any]:
    statistics = found.get("statistics") or {}
    return {
        "key": result.key,
        "layer": result.layer,
        "page": result.page,
        "passed": bool(found["success"]),
        "evaluated": statistics.get("evaluated_expectations"),
        "successful": statistics.get("successful_expectations"),
    }


def _index(entries: Mapping[str, Sequence[Mapping[str, Any]]], left_out: Sequence[str], limit: int) -> str:
    return pages.template("data_docs.html.jinja").render(
        entries=entries,
        left_out=left_out,
        limit=limit,
        written=pages.moment(datetime.now(UTC)),
        gossamer=__version__,
    )
