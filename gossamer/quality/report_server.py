"""A small server of the lake's pages: reports, plots and Data Docs, read-only, from a folder or S3 alike.

    python -m gossamer.quality.report_server --lake PLACE --port 3070

It serves files that were written before and never looks at data: rows, manifests and everything else of the lake are
not to be had from it. It has no users and no passwords; it listens on this machine unless told otherwise.
"""

import argparse
import contextlib
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from gossamer.errors import ConfigurationError, GossamerError, LakeError
from gossamer.lake import Lake
from gossamer.quality import pages
from gossamer.settings import Settings

#: What of the lake is served.
FOLDERS = (pages.REPORTS, "plots", "data_docs")
PORT = 3070
#: Answers as long as the server lives, and asks no lake.
HEALTH = "/healthz"
#: Entries of a list of pages.
LISTED = 1000

#: A name in a path, as the platform writes them: it begins with no dot, so that no path leads upwards.
_NAME = re.compile(r"[A-Za-z0-9_~][A-Za-z0-9_.~ -]{0,199}")
_PAGE = ".html"
#: Pages carry a policy of their own; this one holds whatever lies in the lake.
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
#: A client that says nothing for so long is left.
_PATIENCE_S = 30


def report_url(base: str, source: str, key: str) -> str:
    """The address of a partition's page on a server at `base`, e.g. `http://127.0.0.1:3070`."""
    return f"{base.rstrip('/')}/{quote(pages.page_path(source, key))}"


def source_url(base: str, source: str) -> str:
    """The address of a source's page on a server at `base`."""
    return f"{base.rstrip('/')}/{quote(pages.source_page_path(source))}"


@dataclass(frozen=True)
class Answer:
    """What is sent: a page, or the place where it is."""

    status: HTTPStatus
    body: bytes = b""
    location: str = ""


def answer(lake: Lake, target: str) -> Answer:
    """The answer to a GET of `target`, a path as it stands in a request.

    Raises:
        LakeError: the lake cannot be read.
    """
    path = unquote_to_bytes(target.partition("?")[0].partition("#")[0]).decode("utf-8", "replace")
    names = path.removeprefix("/").split("/")
    is_folder = names[-1] == ""
    if is_folder:
        names.pop()
    if not names:
        return _start(lake)
    if not path.startswith("/") or not all(_NAME.fullmatch(name) for name in names):
        return _missing(path, "This is not the address of a page.")
    if names[0] not in FOLDERS:
        return _missing(path, f"Of the lake, only {', '.join(FOLDERS)} are served here.")
    if is_folder:
        return _folder(lake, names)
    return _file(lake, names)


def _file(lake: Lake, names: Sequence[str]) -> Answer:
    place = "/".join(names)
    if len(names) < 3 and not names[-1].endswith(_PAGE):  # the links of a folder's page need its slash
        return Answer(HTTPStatus.MOVED_PERMANENTLY, location=f"/{quote(place)}/")
    content = lake.get(place) if names[-1].endswith(_PAGE) else None
    if content is None and names[0] == "data_docs":
        return _missing(f"/{place}", "There is no such page. Materialise quality/data_docs in Dagster: it writes them.")
    if content is None:
        return _missing(f"/{place}", "There is no such page. The partition was not checked yet, or it was removed.")
    return Answer(HTTPStatus.OK, content)


def _folder(lake: Lake, names: Sequence[str]) -> Answer:
    """A folder's own page; without one, a list of what is in it."""
    place = "/".join(names)
    content = lake.get(f"{place}/{pages.INDEX}") if len(names) > 1 or names[0] == "data_docs" else None
    if content is not None:
        return Answer(HTTPStatus.OK, content)
    folders, files = _entries(lake, place)
    files = [name for name in files if name.endswith(_PAGE)]
    entries = [f"{name}/" for name in folders] + sorted(files, reverse=True)
    if not entries:
        return _missing(f"/{place}/", "There are no pages here yet.")
    return _page(" / ".join(names), [(name, quote(name)) for name in entries[:LISTED]], len(entries) > LISTED)


def _start(lake: Lake) -> Answer:
    """The first page: every source that has reports, plots or Data Docs."""
    links = [(name, f"{pages.REPORTS}/{quote(name)}/") for name in _entries(lake, pages.REPORTS)[0]]
    links += [(f"plots of {name}'s crawls", f"plots/{quote(name)}/") for name in _entries(lake, "plots")[0]]
    if lake.get(f"data_docs/{pages.INDEX}") is not None:
        links.append(("Great Expectations Data Docs", f"data_docs/{pages.INDEX}"))
    return _page("Reports", links[:LISTED], len(links) > LISTED)


def _entries(lake: Lake, place: str) -> tuple[list[str], list[str]]:
    """The names of the folders and files directly below a place."""
    import obstore
    from obstore.exceptions import BaseError

    try:
        found = obstore.list_with_delimiter(lake.store, f"{place}/")
    except (BaseError, OSError, ValueError) as error:
        raise LakeError(f"Cannot list {lake.url(place)}: {error}. Check that it exists and may be used.") from error
    folders = sorted(prefix.rstrip("/").rpartition("/")[2] for prefix in found["common_prefixes"])
    return folders, sorted(meta["path"].rpartition("/")[2] for meta in found["objects"])


def _page(title: str, links: Sequence[tuple[str, str]], is_cut: bool = False) -> Answer:
    return _rendered(
        HTTPStatus.OK, title, [] if links else ["There are no pages yet: no partition was checked."], links, is_cut
    )


def _missing(path: str, why: str) -> Answer:
    return _message(HTTPStatus.NOT_FOUND, "There is no page here", [path, why])


def _message(status: HTTPStatus, title: str, lines: Sequence[str]) -> Answer:
    return _rendered(status, title, lines, [("all reports", "/")])


def _rendered(
    status: HTTPStatus, title: str, lines: Sequence[str], links: Sequence[tuple[str, str]], is_cut: bool = False
) -> Answer:
    """A small page; what is in a path or a list may come from anywhere, and the template escapes it."""
    page = pages.template("list.html.jinja").render(title=title, lines=lines, links=links, is_cut=is_cut)
    return Answer(status, page.encode())


class ReportServer(ThreadingHTTPServer):
    """Serves one lake's pages until it is shut down; `port` 0 takes a free one."""

    daemon_threads = True

    def __init__(self, lake: Lake, port: int = PORT, host: str = "127.0.0.1") -> None:
        self.lake = lake
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise ConfigurationError(
                f"Nothing can listen on {host}, port {port}: {error.strerror}. Choose another with --port."
            ) from error

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that went away is none of ours
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE_S

    def version_string(self) -> str:
        return "gossamer"

    def do_GET(self) -> None:
        sent = self._answer()
        self._send_head(sent)
        with contextlib.suppress(ConnectionError):  # the browser has gone on
            self.wfile.write(sent.body)

    def do_HEAD(self) -> None:
        self._send_head(self._answer())

    def _answer(self) -> Answer:
        # A body is not read; on a connection that a proxy shares, it would be taken for the next request.
        self.close_connection |= "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        if self.path == HEALTH:
            return Answer(HTTPStatus.OK, b"")
        try:
            return answer(self.server.lake, self.path)
        except LakeError as error:
            self.log_error("%s", error)  # its words name places of this installation
            return _message(HTTPStatus.BAD_GATEWAY, "The lake cannot be read", ["The log of this server says why."])

    def _send_head(self, sent: Answer) -> None:
        self.send_response(sent.status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        if sent.location:
            self.send_header("Location", sent.location)
        self.send_header("Content-Length", str(len(sent.body)))
        self.end_headers()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m gossamer.quality.report_server", description="Serve the reports of a lake, read-only."
    )
    parser.add_argument("--lake", help="a folder, or s3://bucket/prefix; GOSSAMER_LAKE if it is not given")
    parser.add_argument("--port", type=int, default=PORT, help=f"{PORT} if it is not given; 0: any that is free")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for every network of this machine")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as process 1 of a container it would be deaf to it
    try:
        with ReportServer(Lake(Settings.load(lake=chosen.lake).lake), chosen.port, chosen.host) as server:
            print(f"Reports of {server.lake.uri}: {server.url}", file=sys.stderr, flush=True)
            server.serve_forever()
    except KeyboardInterrupt:
        return 0
    except GossamerError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
