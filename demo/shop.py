"""The demo shop as a site: which path answers what, its server, and `python -m demo.shop`.

What is for sale, and the list of what is broken on purpose, is in `catalogue` (re-exported here, so that tests need one
import); the HTML is in `pages`. Paths:

    /                                  what this is         /{date}/                          home, categories
    /robots.txt                        no /*/private/       /{date}/category/<slug>?page=N    20 entries a page
    /sitemap.xml                       today's products     /{date}/product/<sku>             one product
    /{date}/private/staff-prices       not for robots       /{date}/product/<sku>/reviews     5 reviews a page
                                                            /{date}/rates                     euros for each currency

`today` is the date in UTC. The server is the standard library's: HTTP/1.1 with keep-alive, a thread a connection.
"""

import argparse
import datetime as dt
import re
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TextIO
from urllib.parse import parse_qs, unquote, urlsplit

from demo import pages
from demo.catalogue import (
    CATEGORIES,
    CHF_SKUS,
    DEAD_SKUS,
    FLAKY_SKU,
    MOVED_SKUS,
    Product,
    Review,
    price_in_euros,
    products,
    products_by_sku,
    rate_records,
    rates,
    review_records,
    reviews,
    shop_records,
)

__all__ = [
    "CHF_SKUS",
    "DEAD_SKUS",
    "FLAKY_SKU",
    "MOVED_SKUS",
    "PORT",
    "Product",
    "Review",
    "price_in_euros",
    "products",
    "rate_records",
    "rates",
    "review_records",
    "reviews",
    "serve",
    "shop_records",
]

PORT = 8765  # the seeds in `sources/` name it

_HTML = "text/html; charset=utf-8"
_DATED = re.compile(r"/(\d{4}-\d{2}-\d{2})(/.*)?")


@contextmanager
def serve(port: int = 0, *, host: str = "127.0.0.1", delay: float = 0.0, log: Path | None = None) -> Iterator[str]:
    """Serve the shop from a thread while the block runs; gives the base URL, such as `http://127.0.0.1:8765`.

    Args:
        port: 0 takes a free one.
        delay: seconds that each answer waits, for tests that need time to interrupt a crawl.
        log: a file to which each request is appended, as `<time> <status> <method> <path>`.

    Raises:
        OSError: the address cannot be used, or the log not be written.
    """
    with ExitStack() as stack:
        log_file = stack.enter_context(log.open("a", encoding="utf-8", buffering=1)) if log else None
        server = stack.enter_context(_Server((host, port), delay, log_file))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="demo shop")
        thread.start()
        try:
            yield f"http://{host}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class _Answer:
    status: int
    body: str
    content_type: str = _HTML
    location: str | None = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], delay: float, log: TextIO | None) -> None:
        self._lock = threading.Lock()
        self._failures: Counter[dt.date] = Counter()
        self._connections: set[socket.socket] = set()
        self._delay = delay
        self._log = log
        super().__init__(address, _Handler)

    def answer(self, method: str, target: str, base_url: str) -> _Answer:
        """The answer to one request, after the delay and with its line in the log."""
        if self._delay:
            time.sleep(self._delay)
        answer = self._route(target, base_url)
        if self._log:
            with self._lock, suppress(ValueError):  # the log closes before the last connections do
                self._log.write(f"{dt.datetime.now(dt.UTC):%FT%T.%fZ} {answer.status} {method} {target}\n")
        return answer

    def _route(self, target: str, base_url: str) -> _Answer:
        url = urlsplit(target)
        path = unquote(url.path)
        today = dt.datetime.now(dt.UTC).date()
        if path == "/":
            return _Answer(200, pages.welcome(today))
        if path == "/robots.txt":
            return _Answer(200, pages.robots(base_url), "text/plain; charset=utf-8")
        if path == "/sitemap.xml":
            return _Answer(200, pages.sitemap(base_url, today), "application/xml; charset=utf-8")
        if match := _DATED.fullmatch(path):
            with suppress(ValueError):  # of a date such as 2026-02-31
                return self._route_dated(dt.date.fromisoformat(match[1]), match[2], parse_qs(url.query))
        return _error(404)

    def _route_dated(self, date: dt.date, path: str | None, query: dict[str, list[str]]) -> _Answer:
        page = query.get("page", ["1"])[0]
        match (path or "").split("/")[1:]:
            case []:
                return _moved(f"/{date}/")
            case [""]:
                return _Answer(200, pages.home(date))
            case ["rates"]:
                return _Answer(200, pages.rates_page(date))
            case ["private", "staff-prices"]:
                return _Answer(200, pages.private_page(date))
            case ["category", slug]:
                category = next((c for c in CATEGORIES if c.slug == slug), None)
                return _found(pages.category_page(date, category, _number(page)) if category else None)
            case ["product", sku] if sku in MOVED_SKUS:
                return _moved(f"/{date}/product/{MOVED_SKUS[sku]}")
            case ["product", sku] if sku == FLAKY_SKU and self._fails(date):
                return _error(500)
            case ["product", sku]:
                product = products_by_sku(date).get(sku)
                return _found(pages.product_page(date, product) if product else None)
            case ["product", sku, "reviews"]:
                product = products_by_sku(date).get(sku)
                return _found(pages.reviews_page(date, product, _number(page)) if product else None)
        return _error(404)

    def _fails(self, date: dt.date) -> bool:
        with self._lock:
            self._failures[date] += 1
            return self._failures[date] <= 2

    # Connections that a client keeps alive would be answered after the end: a stopped shop must be down.

    def process_request(self, request: socket.socket, client_address: tuple[str, int]) -> None:  # type: ignore[override]
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away (a killed crawl) is no error of the shop."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "DemoShop"
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: two wait for each other's acknowledgement (40 ms a page)
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        host, port = self.server.server_address[:2]
        base_url = f"http://{self.headers.get('Host') or f'{host}:{port}'}"  # type: ignore[str-bytes-safe]
        answer = self.server.answer(self.command, self.path, base_url)
        body = answer.body.encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(body)))
        if answer.location:
            self.send_header("Location", answer.location)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class names it
        """Silent: `serve(log=...)` is the log."""


def _found(html: str | None) -> _Answer:
    return _error(404) if html is None else _Answer(200, html)


def _moved(location: str) -> _Answer:
    return _Answer(301, pages.error_page("This page has moved"), location=location)


def _error(status: int) -> _Answer:
    return _Answer(status, pages.error_page(f"{status} {HTTPStatus(status).phrase}"))


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,4}", text) else 0


def main() -> int:
    """Serve until SIGINT or SIGTERM. Exit code 2 where that cannot begin."""
    parser = argparse.ArgumentParser(prog="python -m demo.shop", description="Serve the demo shop until Ctrl-C.")
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}, as in `sources/`; 0: a free one")
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only")
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS", help="wait before each answer")
    parser.add_argument("--log", type=Path, metavar="FILE", help="append a line for each request")
    options = parser.parse_args()
    # Blocked before the server's threads begin, so that only `sigwait` takes them.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        with serve(options.port, host=options.host, delay=options.delay, log=options.log) as base_url:
            print(f"The demo shop is open at {base_url}/ (Ctrl-C closes it)", flush=True)
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        where = getattr(error, "filename", None) or f"{options.host}:{options.port}"
        print(f"demo shop: cannot open: {where}: {reason}; try another --port, --host or --log", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
