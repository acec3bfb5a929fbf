"""What a browser would make of a page: its elements, its links, and what it would load. For tests of pages."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

_SOURCES = {"src", "srcset", "data", "poster", "background", "action", "formaction", "xlink:href"}


@dataclass
class Markup:
    """What is in a page.

    Attributes:
        links: the addresses of its links.
        loads: what it would fetch by itself.
        handlers: attributes that are scripts.
        text: what a person reads, on one line.
    """

    elements: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    handlers: list[str] = field(default_factory=list)
    text: str = ""


def read(page: str) -> Markup:
    parser = _Parser()
    parser.feed(page)
    parser.found.text = " ".join("".join(parser.said).split())
    return parser.found


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found, self.said = Markup(), list[str]()
        self.is_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.elements.add(tag)
        self.is_style = tag == "style"
        self.said.append(" ")
        for name, value in attrs:
            if name == "href" and tag == "a":
                self.found.links.append(value or "")
            elif name in _SOURCES or name == "href":
                self.found.loads.append(value or "")
            elif name.startswith("on"):
                self.found.handlers.append(value or "")
            elif name == "style":
                self._style(value or "")

    def handle_endtag(self, tag: str) -> None:
        self.is_style = False
        self.said.append(" ")

    def handle_data(self, data: str) -> None:
        if self.is_style:
            self._style(data)
        else:
            self.said.append(data)

    def _style(self, text: str) -> None:
        self.found.loads += re.findall(r"url\([^)]*\)|@import[^;]*", text)
