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
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import Future
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
            if page is not None and not _understands(folder, name, page_url, page):
                page, why_sample = None, "the page has no HTML that the spider understands"
            if page is not None:
                (folder / "fixtures" / "page.html").write_bytes(page)
            _fill(folder / "expectations.json", _words(name, url, host))
            # Named like the source: without a package, pytest takes two files of one name for the same module.
            test = (folder / "test_spider.py").rename(folder / f"test_{name}.py")
            _fill(test, _words(name, page_url, host) | _today(today))
            _fill(folder / FILE, _words(name, url, host) | _today(today) | _declared(sources / name, host))
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
    answer: Future[tuple[bytes | None, str]] = Future()
    # In a thread that may be left behind: name servers, redirects and headers that trickle in have no common time-out.
    threading.Thread(target=lambda: answer.set_result(_download(url)), daemon=True).start()
    try:
        return answer.result(FETCH_SECONDS)
    except TimeoutError:
        return None, f"it took longer than {FETCH_SECONDS:.0f} s"


def _download(url: str) -> tuple[bytes | None, str]:
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
            return body, ""
    except urllib.error.HTTPError as error:
        return None, f"the site answered {error.code} {error.reason}"
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        return None, str(getattr(reason, "strerror", None) or reason or type(error).__name__)


def _understands(folder: Path, name: str, url: str, page: bytes) -> bool:
    """Whether the new spider makes a record of the page."""
    from scrapy.http import HtmlResponse

    spider = runpy.run_path(str(folder / "spider.py"))[class_name(name)]()
    try:
        return any(isinstance(output, dict) for output in spider.parse(HtmlResponse(url, body=page)))
    except ValueError:  # what Scrapy and lxml raise for links and markup that are none
        return False


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


def _today(today: date) -> dict[str, str]:
    return {"2026-01-01": today.isoformat()}


def _declared(folder: Path, host: str) -> dict[str, str]:
    # Relative, so that a clone or a move of both finds it; places with nothing but the root in common move alone.
    together = Path(os.path.commonpath([folder, PROJECT])) != Path(folder.anchor)
    modeline = "# yaml-language-server: $schema="
    if together:
        words = {f"{modeline}../../docs/source.schema.json": modeline + os.path.relpath(SCHEMA, folder)}
    else:
        elsewhere = "# Editors complete the fields by docs/source.schema.json in Gossamer's folder, a JSON Schema."
        words = {f"{modeline}../../docs/source.schema.json": elsewhere}
    if not _is_private(host):
        words["fetch: {allow_private: true} # the site is on this machine or in a private network\n"] = ""
    return words


def _fill(path: Path, words: Mapping[str, str]) -> None:
    """Replaces the templates' words in one pass, so that no replacement is replaced again."""
    text = path.read_text(encoding="utf-8")
    pattern = re.compile("|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)))
    path.write_text(pattern.sub(lambda match: words[match[0]], text), encoding="utf-8")
