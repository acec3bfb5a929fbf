"""A site that misbehaves on demand, on loopback: what a page does is in its path. A thread a connection.

/page/<n>            a page with the record <n>      /status/<code>     that status
/slow/<seconds>      an answer after so long         /reset             the connection is reset
/truncated           a body shorter than announced   /huge/<bytes>      so many bytes
/bomb/<bytes>        so many bytes, gzipped small    /binary            bytes that are no text
/to?<url>            a redirect                      /loop              a redirect to itself
/endless/<n>         a redirect to <n + 1>           /robots.txt        forbids /private/
/list?<n>            links to /page/1..<n>           /private/...       a page like others
/files/<name>        what the test put into `files` /wall/<n>           a redirect to /page/1
/swap?b&a            a redirect to /swap?a&b, which is the page "swapped"
/shaky/<n>           503, and when it is asked for again a redirect to /page/<n>; of "loop" to itself

A POST is answered by a redirect to its own address.
"""

import contextlib
import gzip
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class MockSite:
    """A running site: its address, what it was asked for, when (`time.monotonic`), and the files of the test."""

    url: str
    requests: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


@contextlib.contextmanager
def serve() -> Iterator[MockSite]:
    """The site, until the block ends."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that go away are what these tests are about."""

    server = Server(("127.0.0.1", 0), _Handler)
    site = MockSite(f"http://127.0.0.1:{server.server_port}")
    server.site = site  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True  # or the body waits 40 ms for the acknowledgement of the headers

    def log_message(self, *_: object) -> None:
        """Silent: `MockSite.requests` has it."""

    def do_GET(self) -> None:
        site: MockSite = self.server.site  # type: ignore[attr-defined]
        site.requests.append(self.path)
        site.times.append(time.monotonic())
        parts = urlsplit(self.path)
        _, name, *rest = parts.path.split("/")
        argument = rest[0] if rest else unquote(parts.query)
        behaviour = getattr(self, f"_{name.replace('.', '_')}", None)
        if name == "files" and argument in site.files:
            self._answer(200, site.files[argument], "application/xml")
        elif behaviour:
            behaviour(argument)
        else:
            self._answer(404, b"gone")

    def do_POST(self) -> None:
        """Whatever is sent is seen by a GET of the same address."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(303, b"", Location=self.path)

    def _answer(self, status: int, body: bytes, kind: str = "text/html; charset=utf-8", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for header, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(header.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _page(self, number: str) -> None:
        self._answer(200, f"<html><h1>page {number}</h1></html>".encode())

    def _private(self, number: str) -> None:
        self._page(number)

    def _list(self, count: str) -> None:
        links = "".join(f'<a href="/page/{n}">{n}</a>' for n in range(1, int(count) + 1))
        self._answer(200, f"<html>{links}</html>".encode())

    def _robots_txt(self, _: str) -> None:
        self._answer(200, b"User-agent: *\nDisallow: /private/\n", "text/plain")

    def _status(self, code: str) -> None:
        self._answer(int(code), f"status {code} on demand".encode())

    def _slow(self, seconds: str) -> None:
        time.sleep(float(seconds))
        self._page("slow")

    def _reset(self, _: str) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _truncated(self, _: str) -> None:
        self._answer(200, b"<html>only", Content_Length="1000")
        self.close_connection = True

    def _huge(self, size: str) -> None:
        self._answer(200, b"x" * int(size))

    def _bomb(self, size: str) -> None:
        self._answer(200, gzip.compress(b"0" * int(size)), Content_Encoding="gzip")

    def _binary(self, _: str) -> None:
        self._answer(200, b"\x00\x01\xff" * 100, "application/octet-stream")

    def _to(self, url: str) -> None:
        self._answer(302, b"", Location=url)

    def _wall(self, _: str) -> None:
        self._answer(302, b"", Location="/page/1")

    def _loop(self, _: str) -> None:
        self._answer(302, b"", Location="/loop")

    def _swap(self, query: str) -> None:
        if query == "b&a":
            self._to("/swap?a&b")
        else:
            self._page("swapped")

    def _shaky(self, number: str) -> None:
        site: MockSite = self.server.site  # type: ignore[attr-defined]
        if site.requests.count(self.path) == 1:
            self._status("503")
        else:
            self._answer(302, b"", Location=self.path if number == "loop" else f"/page/{number}")

    def _endless(self, number: str) -> None:
        self._answer(302, b"", Location=f"/endless/{int(number) + 1}")
