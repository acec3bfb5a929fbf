"""A site of about 1,100 addresses on loopback, in a process of its own; what a page is follows from its number.

It answers a repeated request alike, but for `/flaky/<n>` (503 the first time) and pages that ask for a cookie.
Nothing in a page depends on the time, the port or the order of requests, so that two crawls can be compared. Every
request is logged, with its time, before it is answered. What becomes of the pages is `source/spider.py`'s.
"""

import asyncio
import contextlib
import hashlib
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_LISTED = 22
#: Kinds of numbered pages, by number modulo KINDS, that the spider and the site have to agree on.
KINDS = 20
FLAKY, REDIRECTED, CHAINED = 2, 1, 11
#: Answers come after so long, by path; half of it to one and a half of it.
LATENCY_SECONDS = 0.012


@dataclass(frozen=True)
class Plan:
    """What there is on a site.

    Attributes:
        pages: numbered ones; with what they lead to there are about 2.5 times as many addresses.
        fan: where not 0, there is a page that the spider makes so many links and records of.
        poison: there is a page on which the spider's process dies.
    """

    pages: int = 440
    fan: int = 0
    poison: bool = False


class Asked(NamedTuple):
    """One request that reached the site; `at` is `time.monotonic`, which all processes of a machine share."""

    at: float
    method: str
    path: str


@dataclass(frozen=True)
class Site:
    """A running site."""

    url: str
    log: Path
    process: "subprocess.Popen[str]"

    def asked(self) -> list[Asked]:
        """Every request so far, in their order."""
        lines = self.log.read_text().splitlines(keepends=True)
        whole = (line.split() for line in lines if line.endswith("\n"))
        return [Asked(float(at), method, path) for at, method, path in whole]

    def wait_for(self, count: int, process: "subprocess.Popen[str] | None" = None, seconds: float = 60) -> bool:
        """Waits until so many requests have come; False where `process` ended before."""
        deadline = time.monotonic() + seconds
        with self.log.open("rb") as log:
            seen = 0
            while (seen := seen + log.read().count(b"\n")) < count:
                if process is not None and process.poll() is not None:
                    return False
                assert time.monotonic() < deadline, f"{seen} of {count} requests after {seconds:g} s"
                time.sleep(0.002)
        return True

    def slow_down(self, latency: float) -> None:
        """From now on answers take so many seconds."""
        assert self.process.stdin
        self.process.stdin.write(f"{latency}\n")
        self.process.stdin.flush()


@contextlib.contextmanager
def serve(folder: Path, plan: Plan, *, host: str = "127.0.0.1") -> Iterator[Site]:
    """The site, with its log in this folder, until the block ends, or this process."""
    log = folder / "site.log"
    log.touch()
    command = [sys.executable, "-IS", str(Path(__file__)), str(log)]
    command += [str(plan.pages), str(plan.fan), str(int(plan.poison)), host]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        yield Site(process.stdout.readline().strip(), log, process)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


# -- what is on it ----------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """`status` 0: the connection is dropped instead."""

    body: str
    status: int = 200
    headers: str = ""


class Pages:
    """The answers of the site, by path."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.lists = -(-plan.pages // _LISTED)
        self.asked: Counter[str] = Counter()

    def answer(self, path: str, body: str, cookies: str) -> Answer:
        self.asked[path] += 1
        _, name, *rest = path.partition("?")[0].split("/")
        argument = rest[-1] if rest else ""
        match name:
            case "":
                return Answer(self._index())
            case "robots.txt":
                return Answer("User-agent: *\nDisallow: /forbidden/\n")
            case "list":
                return Answer(self._list(int(argument)))
            case "flaky" if self.asked[path] == 1:
                return Answer("come again", 503)
            case "redirect":
                return _to(f"/page/{argument}", 302)
            case "chain":
                left = int(rest[0]) - 1
                return _to(f"/chain/{left}/{argument}" if left else f"/page/{argument}", 301)
            case "back":
                return _to(f"/page/{argument}", 302)
            case "loop":
                return _to(path, 302)
            case "ring":
                return _to(f"/ring/{'b' if rest[0] == 'a' else 'a'}/{argument}", 302)
            case "gone":
                return Answer("gone", 404)
            case "down":
                return Answer("down", 503)
            case "drop":
                return Answer("", 0)
            case "form" | "login":
                return Answer(f"<p>{body}</p>", headers="Set-Cookie: session=member; Path=/\r\n" * (name == "login"))
            case "members" if "session=member" not in cookies:
                return Answer("log in first", 403)
            case "fan":
                return Answer(f"<p>{self.plan.fan}</p>")
        return Answer(f"<h1>{path}</h1>")

    def _index(self) -> str:
        links = [f"/list/{number}" for number in range(self.lists)]
        links += ["/fan"] if self.plan.fan else []
        links += ["/poison"] if self.plan.poison else []
        return _links(links)

    def _list(self, number: int) -> str:
        first = number * _LISTED
        links = [self._link(n) for n in range(first, min(first + _LISTED, self.plan.pages))]
        links += [self._link(n * 7 % self.plan.pages) for n in range(first, first + 10)]
        return _links([*links, f"/list/{(number + 1) % self.lists}", "/", f"http://elsewhere.invalid/{number}"])

    def _link(self, n: int) -> str:
        """Every list names a page alike: two requests for one page must not race for who comes first."""
        return {FLAKY: f"/flaky/{n}", REDIRECTED: f"/redirect/{n}", CHAINED: f"/chain/3/{n}"}.get(
            n % KINDS, f"/page/{n}"
        )


def _links(urls: list[str]) -> str:
    return "".join(f'<a class="link" href="{url}">{url}</a>' for url in urls)


def _to(path: str, status: int) -> Answer:
    return Answer("elsewhere", status, f"Location: {path}\r\n")


# -- the server -------------------------------------------------------------------------------------------------------


class Server:
    """The pages, the log, and how long an answer takes."""

    def __init__(self, pages: Pages, log: Path) -> None:
        self.pages = pages
        self.latency = LATENCY_SECONDS
        self._log = log.open("w", buffering=1)

    def log(self, method: str, path: str) -> None:
        self._log.write(f"{time.monotonic():.6f} {method} {path}\n")

    def latency_of(self, path: str) -> float:
        return self.latency * (0.5 + hashlib.md5(path.encode()).digest()[0] / 255)


class Connection(asyncio.Protocol):
    """One client's connection: HTTP/1.1, kept alive, one request at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, blank, rest = self._buffer.partition(b"\r\n\r\n")
        length = int(_header(head, b"Content-Length") or 0) if blank else 0
        if not blank or len(rest) < length:
            return
        self._buffer = rest[length:]
        method, path, _ = head.partition(b"\r\n")[0].decode().split(" ")
        self._server.log(method, path)
        answer = self._server.pages.answer(path, rest[:length].decode(), _header(head, b"Cookie"))
        asyncio.get_running_loop().call_later(self._server.latency_of(path), self._write, path, answer)

    def _write(self, path: str, answer: Answer) -> None:
        if self._transport.is_closing():
            return
        if not answer.status:
            self._transport.abort()
            return
        body = answer.body.encode()
        # A cookie that every page changes, as session cookies do.
        headers = f"{answer.headers}Set-Cookie: last={hashlib.md5(path.encode()).hexdigest()}; Path=/\r\n"
        head = f"HTTP/1.1 {answer.status} -\r\nContent-Type: text/html; charset=utf-8\r\n{headers}"
        self._transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def _header(head: bytes, name: bytes) -> str:
    found = re.search(rb"(?i)\r\n" + name + rb":[ ]*([^\r\n]*)", head)
    return found[1].decode() if found else ""


async def _serve(log: Path, pages: Pages, host: str) -> None:
    loop, server, over = asyncio.get_running_loop(), Server(pages, log), asyncio.Event()

    def listen_to_parent() -> None:
        line = sys.stdin.readline()
        if line:
            server.latency = float(line)
        else:  # the parent is gone
            over.set()

    listener = await loop.create_server(lambda: Connection(server), host, 0, backlog=256)
    loop.add_reader(sys.stdin, listen_to_parent)
    print(f"http://{host}:{listener.sockets[0].getsockname()[1]}", flush=True)
    await over.wait()


if __name__ == "__main__":
    _log, _pages, _fan, _poison, _host = sys.argv[1:]
    asyncio.run(_serve(Path(_log), Pages(Plan(int(_pages), int(_fan), _poison == "1")), _host))
