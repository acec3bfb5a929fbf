"""The documentation against what it speaks of: fields of the declaration, links, `make` targets, commands and options.

Whether the prose is true, no test can tell; here is what can be looked up.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from gossamer import settings
from gossamer.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MAX_LINES = 120

page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def declared_fields(schema: dict[str, Any], node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every field of the declaration as a dotted path, with its default as the documentation writes it."""
    for name, field in node.get("properties", {}).items():
        path = prefix + name
        default = field.get("default")
        required = name in node.get("required", [])
        yield path, "required" if required else f"`{written(default)}`" if default not in (None, []) else "none"
        for option in (field, *field.get("anyOf", []), field.get("items", {})):
            if "$ref" in option:
                yield from declared_fields(schema, schema["$defs"][option["$ref"].rsplit("/", 1)[1]], f"{path}.")


def written(default: object) -> str:
    return default if isinstance(default, str) else json.dumps(default)


def fields_pages() -> str:
    """The pages that explain the fields of a declaration."""
    return "\n".join((ROOT / "docs" / name).read_text("utf-8") for name in ("sources-workers.md", "sources.md"))


def documented_fields() -> dict[str, str]:
    text = fields_pages()
    rows = re.findall(r"^\| `([A-Za-z_.]+)` \| (.+?) \|", text, re.MULTILINE)
    return dict(rows)


def code(text: str) -> str:
    """What a page gives as code: fenced blocks and code spans, one a line."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*fenced, *re.findall(r"`([^`\n]+)`", rest)])


def headings(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_field_of_a_declaration_is_explained_with_its_default() -> None:
    schema = json.loads((ROOT / "docs" / "source.schema.json").read_text("utf-8"))
    text = fields_pages()
    fields = dict(declared_fields(schema, schema))
    later = text[text.index("## Not available yet") :]
    explained = documented_fields()

    assert len(fields) > 40
    assert {path for path in fields if path not in explained and f"`{path}`" not in later} == set()
    assert {path: fields.get(path) for path in explained} == explained


@page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in headings(file)):
            dead.append(target)
    assert dead == []


@page
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z][a-z0-9-]*)", code(page.read_text("utf-8"))))
    assert named - targets == set()


@page
def test_every_gossamer_command_and_option_that_is_named_exists(page: Path) -> None:
    group = typer.main.get_command(app)
    known = {name: {o for p in c.params for o in p.opts} for name, c in group.commands.items()}  # type: ignore[attr-defined]
    wrong = []
    for line in code(page.read_text("utf-8")).splitlines():
        for command, rest in re.findall(r"\bgossamer ([a-z]+)((?: [^&|;#]*)?)", line):
            options = re.findall(r"(?<!\S)--?[a-z][a-z-]*", re.sub(r'"[^"]*"', "", rest))
            if command not in known or set(options) - known[command]:
                wrong.append(f"gossamer {command}{rest}")
    assert wrong == []


def test_every_variable_of_the_settings_is_explained() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    read = set(re.findall(r'"(GOSSAMER_[A-Z_]+|DAGSTER_HOME)"', Path(settings.__file__).read_text("utf-8")))
    assert len(read) > 4
    assert {name for name in read if f"`{name}`" not in text} == set()


def test_every_check_of_the_assets_is_explained() -> None:
    from assets.specs import _CHECKS

    text = (ROOT / "docs" / "checks.md").read_text("utf-8")
    assert {name for name in _CHECKS if f"`{name}`" not in text} == set()


@page
def test_a_page_is_short_and_names_no_place_of_the_machine_it_was_written_on(page: Path) -> None:
    text = page.read_text("utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    assert re.findall(r"(?<![\w.~])/(?:work|root|home|Users)/\S*", text) == []


@pytest.mark.parametrize(
    "picture", [ROOT / "docs" / "lineage.svg", ROOT / "docs" / "ui-checks.png"], ids=lambda p: p.name
)
def test_a_picture_of_the_readme_is_small_and_says_in_words_what_it_shows(picture: Path) -> None:
    assert picture.stat().st_size <= 150_000
    assert re.search(rf"!\[[^\]]{{5,}}\]\(docs/{picture.name}\)", (ROOT / "README.md").read_text("utf-8"))
