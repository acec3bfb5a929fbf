"""Reading declarations: from a folder of sources to `Source` objects, with every fault named by file, line and field.

One broken source takes nothing from the others: `load` returns the sound ones and, beside them, an error for each
broken one. What a single declaration means is in `gossamer.source`.
"""

import contextlib
import difflib
import re
import reprlib
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from gossamer.errors import ConfigurationError, Problem, SourceError
from gossamer.source import Source, SourceSpec

FILE = "source.yaml"
#: More than any declaration needs; a bigger file is a mistake (a page saved under that name, say).
MAX_BYTES = 250_000
MAX_DEPTH = 20
#: Characters that no field can mean: controls (a NUL ends a path), and halves of a pair, which no file can hold.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


class _Loader(yaml.SafeLoader):
    """YAML as people expect it: text unless it is plainly true, false, null or a number; a key stands once.

    Dates stay text until their field reads them, so that a wrong one is named. What only generated files need (aliases,
    tags, deep nesting) is refused: with it, a small file can stand for gigabytes.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML declares it so)
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refusal(f"`*{event.anchor}` is an alias, which declarations do without", event)
        if event.tag:
            raise _refusal(f"`{event.tag}` is a tag, which declarations do without", event)
        if self.depth == MAX_DEPTH:
            raise _refusal(f"it is nested more than {MAX_DEPTH} deep", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        if isinstance(node, yaml.ScalarNode) and UNPRINTABLE.search(node.value):
            raise _refusal("a control character or half a character is in it", node)
        return super().construct_scalar(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise _refusal("a field's name is not text (is it meant to be in quotes?)", key)
            if key.value in seen:
                raise _refusal(f"`{key.value}` stands twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _refusal(problem: str, where: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)


for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"|~|null", ["", "~", "n"]),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,17})", "-+0123456789"),
    (
        "float",
        r"[-+]?(?=[0-9]*[.eE])(?:[0-9]{1,18}\.?[0-9]{0,18}|\.[0-9]{1,18})(?:[eE][-+]?[0-9]{1,3})?",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


@dataclass(frozen=True)
class Declarations:
    """What a folder of sources declares: the sound sources by name, and the faults of the broken ones."""

    folder: Path
    sources: Mapping[str, Source]
    errors: Sequence[SourceError] = field(default_factory=tuple)

    def __getitem__(self, name: str) -> Source:
        """The source of that name; raises `ConfigurationError` naming the closest ones, or why it is broken."""
        if source := self.sources.get(name):
            return source
        for error in self.errors:
            if error.name == name:
                raise error
        near = difflib.get_close_matches(name, self.sources, n=1)
        hint = f"Did you mean `{near[0]}`?" if near else f"Declared: {', '.join(self.sources) or 'none'}."
        raise ConfigurationError(f"No source `{name}` in {self.folder}. {hint}")

    def select(self, patterns: Iterable[str]) -> "Declarations":
        """The sources whose names match one of the patterns (`*` and `?` as in a shell)."""
        wanted = tuple(patterns)
        chosen = {n: s for n, s in self.sources.items() if any(fnmatch(n, pattern) for pattern in wanted)}
        return Declarations(self.folder, chosen, self.errors)


def load(folder: Path) -> Declarations:
    """Reads every `<folder>/*/source.yaml`.

    Raises:
        ConfigurationError: there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"No folder of sources at {folder}. Make it, or name another with GOSSAMER_SOURCES.")
    try:
        files = list(_files(folder))
    except OSError as error:
        raise ConfigurationError(f"The folder of sources {folder} cannot be read: {error.strerror}.") from error
    found: list[Source] = []
    errors: list[SourceError] = []
    for path in files:
        try:
            found.append(read(path))
        except SourceError as error:
            errors.append(error)
    names = {source.name for source in found} | {error.name for error in errors}
    # A sound source keeps its name when a broken one claims it too (a copy that is being written, say).
    duplicates = _duplicates(found)
    errors += duplicates
    duplicated = {error.name for error in duplicates}
    sources = {s.name: s for s in found if s.name not in duplicated}
    for check in (_dangling, _partitions_differ, _cycles):
        faults = check(sources, names)
        errors += faults
        sources = {name: source for name, source in sources.items() if name not in {e.name for e in faults}}
    return Declarations(folder, sources, tuple(errors))


def _files(folder: Path) -> Iterator[Path]:
    """Every declaration, those included that cannot be read: a source does not vanish without a word."""
    for sub in sorted(folder.iterdir()):
        path = sub / FILE
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            pass  # `read` says why
        yield path


def read(path: Path) -> Source:
    """One declaration; raises `SourceError` with every fault that can be seen in it alone."""
    fallback = path.parent.name

    def broken(message: str, remedy: str, line: int | None = None, where: str = "") -> SourceError:
        return SourceError(fallback, [Problem(path, where, message, remedy, line)])

    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):  # a pipe would be waited for
            raise broken("is not a file", "Make it a readable UTF-8 file.")
        if state.st_size > MAX_BYTES:
            remedy = "A declaration is a few dozen lines: is this the right file? Many seeds go into `seeds.file`."
            raise broken(f"the file is larger than {MAX_BYTES // 1000} KB", remedy)
        node, data = _parse(path)
    except (OSError, UnicodeDecodeError) as error:
        raise broken(f"cannot be read: {error}", "Make it a readable UTF-8 file.") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise broken(f"wrong YAML: {error.problem}", "Mend the line.", line) from error
    except yaml.YAMLError as error:
        raise broken(f"wrong YAML: {str(error).splitlines()[0]}", "Mend the file.") from error
    if not isinstance(data, dict):
        raise broken("is not a mapping of fields", "Begin with `name: ...`; `gossamer new` writes an example.")
    if isinstance(data.get("name"), str):
        fallback = data["name"]
    try:
        spec = SourceSpec.model_validate(data, by_alias=True, by_name=False)
    except ValidationError as error:
        problems = [_problem(path, node, fault) for fault in _causes(error.errors())]
        raise SourceError(fallback, sorted(problems, key=lambda problem: problem.line or 0)) from error
    source = Source(spec, path.parent)
    if faults := [*_missing_files(source, path, node), *_unknown_placeholders(source, path, node)]:
        raise SourceError(spec.name, faults)
    return source


def _parse(path: Path) -> tuple[yaml.Node | None, Any]:
    """The file's nodes, which know their lines, and what they mean."""
    loader = _Loader(path.read_text(encoding="utf-8"))
    try:
        node = loader.get_single_node()
        return node, None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _causes(faults: Sequence[Any]) -> list[Any]:
    """The faults without those that only follow from one further inside (a list is too short for its wrong entry)."""
    places = [fault["loc"] for fault in faults]
    return [f for f in faults if not any(len(p) > len(f["loc"]) and p[: len(f["loc"])] == f["loc"] for p in places)]


#: What pydantic says in Python's words.
_PLAIN = {
    "model_type": ("is not a mapping of fields", "Write `field: value`, one a line, or remove it."),
    "dict_type": ("is not a mapping", "Write `name: value`, one a line."),
    "tuple_type": ("is not a list", "Write [one, two], or `- one`, one a line."),
    "too_short": ("is empty", "Name at least one."),
    "string_type": ("is not text", "Write text, in quotes where it looks like something else."),
    "missing": ("is missing", "Add it; docs/sources.md shows every field."),
}


def _problem(path: Path, node: yaml.Node | None, fault: Any) -> Problem:
    loc = fault["loc"]
    value = fault.get("input")
    shown = f" (it is {reprlib.repr(value)})" if isinstance(value, str | int | float | bool) else ""
    message = str(fault.get("ctx", {}).get("error") or fault["msg"])
    remedy = ""
    if fault["type"] == "extra_forbidden":
        known = _fields_at(loc[:-1])
        near = difflib.get_close_matches(str(loc[-1]), known, n=1)
        message = "unknown field"
        remedy = f"Did you mean `{near[0]}`?" if near else f"Known here: {', '.join(known)}."
    elif fault["type"] == "literal_error":
        allowed = re.findall(r"'([^']+)'", fault["ctx"]["expected"])
        near = difflib.get_close_matches(str(value), allowed, n=1)
        message = f"is none of {', '.join(allowed)}{shown}"
        remedy = f"Did you mean `{near[0]}`?" if near else "Choose one of them."
    elif fault["type"] in _PLAIN:
        message, remedy = _PLAIN[fault["type"]]
        message += shown
    elif "; " in message:
        message, _, rest = message.partition("; ")
        remedy = rest[:1].upper() + rest[1:] + "."
    else:
        message += "" if fault["type"] == "value_error" else shown
        remedy = "docs/sources.md shows what it may be."
    return Problem(path, ".".join(str(part)[:80] for part in loc), message.rstrip("."), remedy, _line(node, loc))


def _fields_at(loc: Sequence[str | int]) -> list[str]:
    """The fields that a declaration knows at a place such as ("enrich", "join", 0)."""
    schema: dict[str, Any] = SourceSpec.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    here: dict[str, Any] = schema
    for part in loc:
        here = here["items"] if isinstance(part, int) else here.get("properties", {}).get(part, {})
        here = next((option for option in here.get("anyOf", []) if option.get("type") != "null"), here)
        if "$ref" in here:
            here = definitions[here["$ref"].rsplit("/", 1)[1]]
    return [name for name in here.get("properties", {}) if not _refused(here["properties"][name])]


def _refused(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "null" or schema.get("const") is False


def _line(node: yaml.Node | None, loc: Sequence[str | int]) -> int | None:
    """The line (from 1) of the deepest part of `loc` that stands in the file."""
    line = None
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            entry = next(((k, v) for k, v in node.value if k.value == part), None)
            if entry is None:
                break
            line, node = entry[0].start_mark.line + 1, entry[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _maps(node: yaml.Node | None, field: str) -> bool:
    """Whether a field of the file is a mapping, not a value alone."""
    entries = node.value if isinstance(node, yaml.MappingNode) else []
    return any(key.value == field and isinstance(value, yaml.MappingNode) for key, value in entries)


def _missing_files(source: Source, path: Path, node: yaml.Node | None) -> list[Problem]:
    spec = source.spec
    faults = []

    def missing(where: tuple[str, ...], file: str, remedy: str) -> None:
        faults.append(Problem(path, ".".join(where), f"there is no file `{file}`", remedy, _line(node, where)))

    if not _is_file(source.spider_file):
        missing(("spider",), source.spider_file.name, f"Write it in {source.folder}, or name another module.")
    clean = ("checks", "clean") if _maps(node, "checks") else ("checks",)
    files = {("seeds", "file"): spec.seeds.file, clean: spec.checks.clean, ("checks", "enriched"): spec.checks.enriched}
    for where, name in files.items():
        if name is None:
            continue
        if not _is_inside(source.folder, name):
            faults.append(
                Problem(
                    path, ".".join(where), f"{name} is outside the source's folder", "Move it in.", _line(node, where)
                )
            )
        elif not _is_file(source.folder / name):
            missing(where, name, f"Write it in {source.folder}, or remove the field.")
    return faults


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long, or a folder that may not be read
        return False


def _is_inside(folder: Path, name: str) -> bool:
    try:
        return (folder / name).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a name too long, or links in a circle: no file, but no escape either
        return True


def _unknown_placeholders(source: Source, path: Path, node: yaml.Node | None) -> Iterator[Problem]:
    spec = source.spec
    known = [
        "partition",
        *(["period"] if spec.partitions.period else []),
        *(["segment"] if spec.partitions.segments else []),
    ]
    urls: list[tuple[tuple[str | int, ...], str]] = [
        (("seeds", "urls", n), u) for n, u in enumerate(spec.seeds.urls or ())
    ]
    if spec.seeds.sitemap:
        urls.append((("seeds", "sitemap"), spec.seeds.sitemap))
    for where, url in urls:
        for name in re.findall(r"\{(\w*)\}", url):
            if name not in known:
                remedy = (
                    f"These partitions have {', '.join(f'{{{k}}}' for k in known)}; write other braces as %7B and %7D."
                )
                field = ".".join(str(part) for part in where)
                yield Problem(path, field, f"nothing fills in {{{name}}}", remedy, _line(node, where))


def _fault(source: Source, where: str, message: str, remedy: str) -> SourceError:
    path = source.folder / FILE
    node = None
    with contextlib.suppress(OSError, UnicodeDecodeError, yaml.YAMLError):  # read a moment ago: without a line, then
        node, _ = _parse(path)
    loc = [int(part) if part.isdigit() else part for part in where.split(".")]
    return SourceError(source.name, [Problem(path, where, message, remedy, _line(node, loc))])


def _duplicates(found: Sequence[Source]) -> list[SourceError]:
    by_name: dict[str, list[Source]] = {}
    for source in found:
        by_name.setdefault(source.name, []).append(source)
    return [
        _fault(
            same[0],
            "name",
            f"`{name}` is declared {len(same)} times: {', '.join(str(s.folder) for s in same)}",
            "Rename all but one.",
        )
        for name, same in by_name.items()
        if len(same) > 1
    ]


def _references(source: Source) -> Iterable[tuple[str, str, bool]]:
    """Each source that this one names: field, name, and whether both must be cut into the same partitions."""
    if chain := source.spec.seeds.upstream:
        yield "seeds.from.source", chain.source, True
    for number, join in enumerate(source.spec.enrich.join):
        yield f"enrich.join.{number}.source", join.source, join.partition == "same"


def _dangling(sources: Mapping[str, Source], names: set[str]) -> list[SourceError]:
    errors = []
    for source in sources.values():
        for where, name, _ in _references(source):
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                remedy = f"Did you mean `{near[0]}`?" if near else f"Declared: {', '.join(sorted(names))}."
                errors.append(_fault(source, where, f"there is no source `{name}`", remedy))
    return errors


def _partitions_differ(sources: Mapping[str, Source], _names: set[str]) -> list[SourceError]:
    errors = []
    for source in sources.values():
        for where, name, same in _references(source):
            other = sources.get(name)
            if same and other and other.spec.partitions != source.spec.partitions:
                remedy = "Declare the same partitions" + (", or join `partition: latest`." if "join" in where else ".")
                errors.append(_fault(source, where, f"`{name}` is cut into other partitions than this source", remedy))
            elif not same and other and other.spec.partitions.period is None:
                what = f"`{name}` has segments only, none of them is the latest"
                errors.append(_fault(source, where, what, "Join `partition: same`, with the same segments in both."))
    return errors


def _cycles(sources: Mapping[str, Source], _names: set[str]) -> list[SourceError]:
    """Sources that wait for themselves: a chain or join leads from each back to it."""
    errors = []
    for source in sources.values():
        if trail := _trail_back(source.name, sources):
            errors.append(
                _fault(
                    source,
                    "seeds.from" if source.spec.seeds.upstream else "enrich.join",
                    f"waits for itself: {' -> '.join(trail)}",
                    "Cut one of these chains or joins.",
                )
            )
    return errors


def _trail_back(name: str, sources: Mapping[str, Source]) -> list[str] | None:
    stack = [(name, [name])]
    seen: set[str] = set()
    while stack:
        here, trail = stack.pop()
        for upstream in sorted(sources[here].upstreams & sources.keys()):
            if upstream == name:
                return [*trail, name]
            if upstream not in seen:
                seen.add(upstream)
                stack.append((upstream, [*trail, upstream]))
    return None


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `source.yaml`, for editors; shipped as docs/source.schema.json."""
    model: type[BaseModel] = SourceSpec
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **model.model_json_schema(by_alias=True),
    }
