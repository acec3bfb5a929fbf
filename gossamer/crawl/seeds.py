"""Where a crawl begins: a declaration's seeds become URLs for one partition.

URLs, files and upstream rows are resolved before the crawl starts; a sitemap is fetched by the crawl itself, with its
politeness and its guards, before the spider's `start()` runs.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

import polars as pl
from lxml.etree import LxmlError  # type: ignore[import-untyped]
from scrapy.http import Response
from scrapy.utils.gz import gunzip, gzip_magic_number
from scrapy.utils.sitemap import Sitemap

from gossamer.crawl.spiders import UnusableSourceError
from gossamer.lake import Lake
from gossamer.partition import Slice
from gossamer.source import Source, Upstream

MAX_SITEMAPS = 1_000
MAX_SITEMAP_URLS = 1_000_000
MAX_SITEMAP_BYTES = 50 * 1024 * 1024  # the protocol's own bound, uncompressed

Fetch = Callable[[str], Awaitable[Response]]


@dataclass(frozen=True)
class Seeds:
    """The seeds of one crawl: URLs (none, where no upstream row matches), or the sitemap that holds them.

    Attributes:
        rows: URL -> the upstream row that it comes from, as JSON.
    """

    urls: tuple[str, ...] = ()
    sitemap: str | None = None
    rows: Mapping[str, str] = field(default_factory=dict)


def resolve(source: Source, part: Slice, lake: Lake) -> Seeds:
    """The seeds of a partition.

    Raises:
        UnusableSourceError: they cannot be made out; the text names the field.
        LakeError: the upstream's rows cannot be read.
    """
    declared = source.spec.seeds
    if declared.urls:
        return Seeds(tuple(_fill(url, part, source, "seeds.urls") for url in declared.urls))
    if declared.sitemap:
        return Seeds(sitemap=_fill(declared.sitemap, part, source, "seeds.sitemap"))
    if declared.file:
        return Seeds(_from_file(source, declared.file, part))
    if declared.upstream:
        rows = _from_upstream(source, declared.upstream, part.key, lake)
        return Seeds(tuple(rows), rows=rows)
    raise UnusableSourceError(f"{source.name}: seeds: nothing is declared. Give urls, file, sitemap or from.")


def _fill(url: str, part: Slice, source: Source, field: str) -> str:
    for name, value in (("partition", part.key), ("period", part.period), ("segment", part.segment)):
        if f"{{{name}}}" not in url:
            continue
        if value is None:
            raise UnusableSourceError(
                f"{source.name}: {field}: {url} has a {{{name}}}, and its partitions have none. "
                f"Remove it, or declare partitions by {name}."
            )
        url = url.replace(f"{{{name}}}", quote(value, safe=":"))
    return url


def _from_file(source: Source, name: str, part: Slice) -> tuple[str, ...]:
    path = source.folder / name
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableSourceError(f"{source.name}: seeds.file: {path} cannot be read: {error}.") from error
    urls = [_fill(line, part, source, f"seeds.file ({path})") for line in lines if line and not line.startswith("#")]
    if not urls:
        raise UnusableSourceError(f"{source.name}: seeds.file: {path} has no URLs. Write one a line.")
    return _checked(urls, source, f"seeds.file: {path}")


def _from_upstream(source: Source, upstream: Upstream, key: str, lake: Lake) -> dict[str, str]:
    rows = lake.scan_published(upstream.source, key)
    if rows is None or not lake.is_published(upstream.source, key):
        raise UnusableSourceError(
            f"{source.name}: seeds.from: {upstream.source} has published no partition {key}. Publish it first."
        )
    try:
        chosen = pl.SQLContext(rows=rows).execute(upstream.select).collect()
        urls = chosen.to_series(0).cast(pl.String).to_list()
    except (pl.exceptions.PolarsError, IndexError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise UnusableSourceError(
            f"{source.name}: seeds.from.select: `{upstream.select}` cannot be answered from the rows of "
            f"{upstream.source} (columns: {', '.join(rows.collect_schema())}): {first_line}"
        ) from error
    found: dict[str, str] = {}
    for url, row in zip(urls, chosen.iter_rows(named=True), strict=True):
        if url is not None and url not in found:
            found[url] = json.dumps(row, ensure_ascii=False, default=str)
    _checked(list(found), source, f"seeds.from.select: `{upstream.select}`")
    return found


def _checked(urls: list[str], source: Source, field: str) -> tuple[str, ...]:
    for url in urls:
        if not _is_web_address(url):
            raise UnusableSourceError(f"{source.name}: {field} gives {url!r}, which is not a web address.")
    return tuple(urls)


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


class SitemapError(Exception):
    """A sitemap that could not be read; `url` is the one, of an index and its parts."""

    def __init__(self, url: str, cause: Exception, status: int | None = None) -> None:
        super().__init__(str(cause) or type(cause).__name__)
        self.url = url
        self.cause = cause
        self.status = status


async def pages_of(sitemap: str, fetch: Fetch) -> AsyncIterator[str]:
    """The pages that a sitemap, or an index of sitemaps, names, each once.

    Raises:
        SitemapError: one of them could not be fetched or is no sitemap, or they are too many.
    """
    waiting, known, pages = [sitemap], {sitemap}, set[str]()
    while waiting:
        url = waiting.pop(0)
        is_index, entries = await _entries(url, fetch)
        for entry in entries:
            if is_index and entry not in known:
                known.add(entry)
                waiting.append(entry)
            elif not is_index and entry not in pages:
                pages.add(entry)
                yield entry
        if len(known) > MAX_SITEMAPS or len(pages) > MAX_SITEMAP_URLS:
            raise SitemapError(url, ValueError(f"more than {MAX_SITEMAPS} sitemaps or {MAX_SITEMAP_URLS} pages"))


async def _entries(url: str, fetch: Fetch) -> tuple[bool, list[str]]:
    try:
        response = await fetch(url)
    except Exception as error:
        raise SitemapError(url, error) from error
    if response.status != 200:
        raise SitemapError(url, ValueError(f"HTTP {response.status}"), response.status)
    try:
        body = response.body
        if gzip_magic_number(response):
            body = gunzip(body, max_size=MAX_SITEMAP_BYTES)
        sitemap = Sitemap(body)
        entries = [entry["loc"] for entry in sitemap]
    except (LxmlError, StopIteration, ValueError, OSError, EOFError) as error:
        raise SitemapError(url, ValueError(f"it is not a sitemap ({type(error).__name__}: {error})")) from error
    if sitemap.type not in ("urlset", "sitemapindex"):
        raise SitemapError(url, ValueError(f"it is not a sitemap (its root is <{sitemap.type}>)"))
    return sitemap.type == "sitemapindex", [entry for entry in entries if _is_web_address(entry)]
