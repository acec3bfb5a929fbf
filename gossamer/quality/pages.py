"""What the pages for people share: values as text, links, the templates, and how a page's file is called.

The pages are files: they need no network and run no script, so that they can be kept, mailed and printed. Their values
come from the web: a template escapes all of them, and here they lose what could make a text look like another one.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from gossamer.lake import object_path
from gossamer.quality import words

if TYPE_CHECKING:
    from jinja2 import Environment, Template

#: Where pages lie in the lake.
REPORTS = "reports"
#: A source's own page; beside it lie those of its partitions.
INDEX = "index.html"

_WEB = re.compile("https?://", re.IGNORECASE)
_BLANK = re.compile(r"[\x00-\x20]")
#: Numbers from here on are told by their magnitude.
_HUGE = 10**15
#: Control characters, marks that turn the direction of what follows, and line ends that are none in HTML.
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\ufeff]")


def page_path(source: str, key: str) -> str:
    """Where a partition's page lies in the lake."""
    return object_path(REPORTS, source, key, ".html")


def source_page_path(source: str) -> str:
    """Where a source's page lies in the lake."""
    return f"{REPORTS}/{source}/{INDEX}"


def neighbour(key: str) -> str:
    """The address of a partition's page, from another page of its source."""
    return quote(page_path("", key).rpartition("/")[2])


def address(value: object) -> str | None:
    """The address if it is one of http or https that may become a link, else None."""
    if not isinstance(value, str) or not _WEB.match(value) or _BLANK.search(value):
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    return value if parts.netloc else None


def text(value: object, length: int = words.TEXT) -> str:
    """A value as a page shows it: of bounded length, whole numbers with their thousands apart.

    What cannot be seen, and could make a text look like another, becomes a replacement character.
    """
    if isinstance(value, str):
        is_plain = len(value) <= length and value.isascii() and value.isprintable()
        return value if is_plain else seen(words.clip(value, length))
    match words.plain(value):
        case None:
            return ""
        case bool(flag):
            return "true" if flag else "false"
        case int(number) if abs(number) >= _HUGE:
            return f"{Decimal(number):.3e}"
        case int(number):
            return f"{number:,}"
        case float(number) if abs(number) >= _HUGE or 0 < abs(number) < 1e-4:
            return f"{number:.3e}"
        case float(number):
            return f"{number:,.4g}" if abs(number) < 10 else f"{number:,.2f}"
        case str(plain):
            return seen(plain)
        case other:
            return seen(words.clip(words.value(other), length))


def seen(plain: str) -> str:
    """A text without what cannot be seen."""
    return _UNSEEN.sub("\ufffd", plain)


def titled(name: object) -> str:
    """A name of a program as a person writes it: `without key` for `without_key`."""
    return str(name).replace("_", " ")


def moment(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def template(name: str) -> "Template":
    """A template of this package, with everything above as filters."""
    return _environment().get_template(name)


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("gossamer.quality"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {"address": address, "text": text, "percent": words.percent, "title": titled}
    environment.filters |= filters | {"neighbour": neighbour}
    return environment
