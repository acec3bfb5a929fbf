"""Reading declarations: from a folder of sources to `Source` objects, with every fault named by file, line and field.

One broken source takes nothing from the others: `load` returns the sound ones and, beside them, an error for each
broken one. What a single declaration means is in `gossamer.source`.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
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
MAX_BYTES = 1_000_000


class _Loader(yaml.SafeLoader):
    """YAML as people expect it: only true and false are booleans (`on:` is a name), and a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"`{key.value}` stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))


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
    found: list[Source] = []
    errors: list[SourceError] = []
    for path in sorted(folder.glob(f"*/{FILE}")):
        try:
            found.append(read(path))
        except SourceError as error:
            errors.append(error)
    names = {source.name for source in found} | {error.name for error in errors}
    errors += _duplicates(found)
    duplicated = {error.name for error in errors}
    sources = {s.name: s for s in found if s.name not in duplicated}
    for check in (_dangling, _partitions_differ, _cycles):
        faults = check(sources, names)
        errors += faults
        sources = {name: source for name, source in sources.items() if name not in {e.name for e in faults}}
    return Declarations(folder, sources, tuple(errors))


def read(path: Path) -> Source:
    """One declaration; raises `SourceError` with every fault that can be seen in it alone."""
    fallback = path.parent.name

    def broken(message: str, remedy: str, line: int | None = None, where: str = "") -> SourceError:
        return SourceError(fallback, [Problem(path, where, message, remedy, line)])

    try:
        if path.stat().st_size > MAX_BYTES:
            raise broken("the file is larger than 1 MB", "A declaration is a few dozen lines: is this the right file?")
        node = yaml.compose(text := path.read_text(encoding="utf-8"), _Loader)
        data = yaml.load(text, _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise broken(f"cannot be read: {error}", "Make it a readable UTF-8 file.") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise broken(f"is not YAML: {error.problem}", "Mend the line.", line) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise broken(f"is not YAML: {error}", "Mend the file.") from error
    if not isinstance(data, dict):
        raise broken("is not a mapping of fields", "Begin with `name: ...`; `gossamer new` writes an example.")
    if isinstance(data.get("name"), str):
        fallback = data["name"]
    try:
        spec = SourceSpec.model_validate(data)
    except ValidationError as error:
        raise SourceError(fallback, [_problem(path, node, data, fault) for fault in error.errors()]) from error
    source = Source(spec, path.parent)
    if faults := _missing_files(source, path, node):
        raise SourceError(spec.name, faults)
    return source


def _problem(path: Path, node: yaml.Node | None, data: Any, fault: Any) -> Problem:
    loc = tuple(part for part in fault["loc"] if part not in ("function-before", "[key]"))
    message = str(fault.get("ctx", {}).get("error") or fault["msg"])
    remedy = ""
    if fault["type"] == "extra_forbidden":
        known = _fields_at(loc[:-1])
        near = difflib.get_close_matches(str(loc[-1]), known, n=1)
        message = "unknown field"
        remedy = f"Did you mean `{near[0]}`?" if near else f"Known here: {', '.join(known)}."
    elif fault["type"] == "missing":
        message, remedy = "is missing", "Add it; docs/sources.md shows every field."
    elif "; " in message:
        message, _, rest = message.partition("; ")
        remedy = rest[:1].upper() + rest[1:] + "."
    else:
        value = fault.get("input")
        message = f"{message} (it is {value!r})" if isinstance(value, str | int | float | bool) else message
        remedy = "docs/sources.md shows what it may be."
    return Problem(path, ".".join(str(part) for part in loc), message.rstrip("."), remedy, _line(node, loc))


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


def _missing_files(source: Source, path: Path, node: yaml.Node | None) -> list[Problem]:
    spec = source.spec
    faults = []

    def missing(where: tuple[str, ...], file: str, remedy: str) -> None:
        faults.append(Problem(path, ".".join(where), f"there is no file {file}", remedy, _line(node, where)))

    if not source.spider_file.is_file():
        missing(("spider",), source.spider_file.name, f"Write it in {source.folder}, or name another module.")
    for where, name in ((("seeds", "file"), spec.seeds.file), (("checks",), spec.checks)):
        if name is None:
            continue
        target = (source.folder / name).resolve()
        if not target.is_relative_to(source.folder.resolve()):
            faults.append(
                Problem(
                    path, ".".join(where), f"{name} is outside the source's folder", "Move it in.", _line(node, where)
                )
            )
        elif not target.is_file():
            missing(where, name, f"Write it in {source.folder}, or remove the field.")
    return faults


def _fault(source: Source, where: str, message: str, remedy: str) -> SourceError:
    return SourceError(source.name, [Problem(source.folder / FILE, where, message, remedy)])


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
