"""A new source's folder: declaration, spider, suite, saved page and test, from the templates beside this module.

The templates are a working source themselves; making a new one replaces its name, class, address and date. What the
files mean belongs in the files.
"""

import ipaddress
import json
import os
import re
import runpy
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from gossamer import declarations
from gossamer.declarations import FILE
from gossamer.errors import ConfigurationError
from gossamer.settings import PROJECT
from gossamer.source import NAME

TEMPLATE = Path(__file__).parent / "templates" / "source"
SCHEMA = PROJECT / "docs" / "source.schema.json"
MAX_PAGE_BYTES = 1_000_000
FETCH_SECONDS = 10.0


@dataclass(frozen=True)
class Scaffold:
    """A new source's folder, and why its fixture is a sample page (empty: the page itself was saved)."""

    folder: Path
    files: tuple[str, ...]
    why_sample: str


def scaffold(sources: Path, name: str, url: str, today: date) -> Scaffold:
    """Writes `<sources>/<name>/`, whole or not at all, with the page at `url` as its fixture where it can be had.

    Raises:
        ConfigurationError: the name or the URL is none, the source exists already, or the folder cannot be written.
    """
    host = _host(url)
    _check_name(sources, name)
    # The date is the first partition's, so that placeholders lead to a page that its crawl will see.
    page_url = re.sub(r"\{(period|partition)\}", today.isoformat(), url)
    page, why_sample = _fetch(page_url)
    try:
        sources.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=sources) as scratch:
            folder = Path(scratch) / name
            shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns("__pycache__"))
            _fill(folder / "spider.py", _words(name, page_url, host))
            record, links = _parse(folder, name, page_url, page)
            if page is not None and record is None:
                page, why_sample = None, "the page has no HTML that the spider understands"
                record, links = _parse(folder, name, page_url, None)
            assert record is not None
            if page is not None:
                (folder / "fixtures" / "page.html").write_bytes(page)
            _fill(folder / "expectations.json", _words(name, url, host))
            _fill(folder / "test_spider.py", _words(name, page_url, host) | _expected(record, links))
            _fill(folder / FILE, _words(name, url, host) | _declared(sources / name, host, today))
            folder.rename(sources / name)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot write {sources / name}: {error.strerror}. Make {sources} writable, or name another with --sources."
        ) from error
    files = sorted(str(p.relative_to(sources / name)) for p in (sources / name).rglob("*") if p.is_file())
    return Scaffold(sources / name, tuple(files), why_sample)


def class_name(name: str) -> str:
    """The spider's class: `book_prices` -> `BookPricesSpider`."""
    return "".join(part.capitalize() for part in name.split("_")) + "Spider"


def _check_name(sources: Path, name: str) -> None:
    if not NAME.fullmatch(name):
        near = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_0123456789")[:63]
        hint = f" Perhaps `{near}`?" if NAME.fullmatch(near) else ""
        raise ConfigurationError(
            f"{name!r} is not a source's name: use lower-case letters, digits and '_', a letter first.{hint}"
        )
    if sources.exists() and not sources.is_dir():
        raise ConfigurationError(f"{sources} is a file, not a folder of sources. Name another with --sources.")
    if os.path.lexists(sources / name):
        raise ConfigurationError(f"{sources / name} exists already. Choose another name, or remove it first.")
    if sources.is_dir() and (twin := declarations.load(sources).sources.get(name)):
        raise ConfigurationError(f"{twin.folder / FILE} declares a source `{name}` already. Choose another name.")


def _host(url: str) -> str:
    """The host name as requests carry it (lower case, IDNA)."""
    example = "write it whole, like https://example.com/"
    parts = urlsplit(url) if url.isprintable() and not re.search(r"\s", url) else None
    if parts is None:
        raise ConfigurationError(f"{url!r} has spaces or control characters in it: quote them as %20, %0A.")
    if parts.scheme not in ("http", "https"):
        plausible = re.fullmatch(r"[\w-]+(\.[\w-]+)+(:\d+)?(/.*)?", url)
        hint = f"perhaps https://{url}" if plausible else example
        raise ConfigurationError(f"{url!r} is not a web address: {hint}.")
    try:
        host = (parts.hostname or "").encode("idna").decode() if ":" not in (parts.hostname or "") else parts.hostname
        port_is_fine = parts.port != 0
    except (ValueError, UnicodeError) as error:
        raise ConfigurationError(f"{url!r} is not a web address ({error}): {example}.") from error
    if not host or not port_is_fine:
        raise ConfigurationError(f"{url!r} is not a web address: {example}.")
    return host


def _is_private(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def _fetch(url: str) -> tuple[bytes | None, str]:
    """The page's bytes, or None and why not. Never longer than `FETCH_SECONDS`, never more than `MAX_PAGE_BYTES`."""
    deadline = time.monotonic() + FETCH_SECONDS
    try:
        headers = {"User-Agent": "gossamer (new source)", "Accept": "text/html"}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310  (http or https: `_host` saw to it)
        with urllib.request.urlopen(request, timeout=FETCH_SECONDS) as answer:  # noqa: S310
            kind = answer.headers.get_content_type()
            if kind not in ("text/html", "application/xhtml+xml"):
                return None, f"it is {kind}, not HTML"
            body = b""
            while chunk := answer.read1(65_536):
                body += chunk
                if len(body) > MAX_PAGE_BYTES:
                    return None, "it is larger than 1 MB"
                if time.monotonic() > deadline:
                    return None, f"it took longer than {FETCH_SECONDS:.0f} s"
            return body, ""
    except urllib.error.HTTPError as error:
        return None, f"the site answered {error.code} {error.reason}"
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        return None, str(getattr(reason, "strerror", None) or reason or type(error).__name__)


def _parse(folder: Path, name: str, url: str, page: bytes | None) -> tuple[dict[str, object] | None, int]:
    """What the new spider makes of the page (None: of the sample): its record, and how many links it follows."""
    from scrapy.http import HtmlResponse

    body = (folder / "fixtures" / "page.html").read_bytes() if page is None else page
    spider = runpy.run_path(str(folder / "spider.py"))[class_name(name)]()
    try:
        outputs = list(spider.parse(HtmlResponse(url, body=body)))
    except ValueError:  # what Scrapy and lxml raise for links and markup that are none
        return None, 0
    records = [output for output in outputs if isinstance(output, dict)]
    return (records[0] if records else None), len(outputs) - len(records)


def _words(name: str, url: str, host: str) -> dict[str, str]:
    """What stands in the templates -> what stands in the new files."""
    return {
        '"https://example.com/"': json.dumps(url, ensure_ascii=False),
        '"example.com"': json.dumps(host.removeprefix("www.")),
        "ExampleSourceSpider": class_name(name),
        "example_source": name,
        "  # noqa: RUF012  (Scrapy's own form)": "",
        "  # noqa: RUF012": "",
    }


def _expected(record: Mapping[str, object], links: int) -> dict[str, str]:
    texts = {field: "None" if text is None else json.dumps(text, ensure_ascii=False) for field, text in record.items()}
    lines = "".join(f'    "{field}": {text},\n' for field, text in texts.items())
    return {'{"url": URL, "title": "Sample page"}': f"{{\n{lines}}}", "len(requests) == 2": f"len(requests) == {links}"}


def _declared(folder: Path, host: str, today: date) -> dict[str, str]:
    # Relative inside the project, so that a clone elsewhere finds it; absolute for sources that lie elsewhere.
    inside = folder.is_relative_to(PROJECT)
    schema = os.path.relpath(SCHEMA, folder) if inside else str(SCHEMA)
    words = {"../../docs/source.schema.json": schema, "2026-01-01": today.isoformat()}
    if not _is_private(host):
        words["fetch: {allow_private: true} # the site is on this machine or in a private network\n"] = ""
    return words


def _fill(path: Path, words: Mapping[str, str]) -> None:
    """Replaces the templates' words in one pass, so that no replacement is replaced again."""
    text = path.read_text(encoding="utf-8")
    pattern = re.compile("|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)))
    path.write_text(pattern.sub(lambda match: words[match[0]], text), encoding="utf-8")
