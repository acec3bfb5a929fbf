"""A pod's log is followed whole and once, whatever the cluster's API does: an HTTP server that answers as it does."""

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from gossamer.cluster.config import Cluster
from gossamer.cluster.jobs import Jobs
from gossamer.cluster.logs import DRAIN_SECONDS, PodLog

PATH = "/api/v1/namespaces/crawls/pods/shop-x/log"
#: What one connection does.
Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.asked.append((url.path, parse_qs(url.query)))
        self.server.answers.pop(0)(self) if self.server.answers else self.refuse(404, "pods not found")

    def refuse(self, status: int, message: str) -> None:
        body = json.dumps({"kind": "Status", "code": status, "message": message}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()

    def log_message(self, *said: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        self.released = threading.Event()


def whole(*content: bytes) -> Answer:
    def answer(handler: Handler) -> None:
        handler.begin()
        for part in content:
            handler.chunk(part)
        handler.wfile.write(b"0\r\n\r\n")

    return answer


def cut(*content: bytes) -> Answer:
    """The connection breaks."""

    def answer(handler: Handler) -> None:
        handler.begin()
        for part in content:
            handler.chunk(part)
        handler.close_connection = True

    return answer


def refused(status: int, message: str) -> Answer:
    return lambda handler: handler.refuse(status, message)


def stays_open(*content: bytes) -> Answer:
    """Nothing more comes, until the test releases it."""

    def answer(handler: Handler) -> None:
        handler.begin()
        for part in content:
            handler.chunk(part)
        handler.server.released.wait(20)
        handler.close_connection = True

    return answer


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def jobs(server: Server, tmp_path: Path) -> Iterator[Jobs]:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    with Jobs(Cluster(namespace="crawls", image="gossamer:1", kubeconfig=path)) as jobs:
        yield jobs


def lines(*texts: str, ago: float = 5.0) -> bytes:
    """As the API gives them: each with its time, to the nanosecond."""
    begin = datetime.now(UTC) - timedelta(seconds=ago)
    stamps = [(begin + timedelta(milliseconds=n)).strftime("%Y-%m-%dT%H:%M:%S.%f000Z") for n in range(len(texts))]
    return b"".join(f"{stamp} {text}\n".encode() for stamp, text in zip(stamps, texts, strict=True))


def followed(jobs: Jobs, server: Server, *answers: Answer, seconds: float = 10.0) -> list[str]:
    """What is written until the server has given all its answers and one more time was asked, or nothing is asked."""
    server.answers = list(answers)
    output = io.StringIO()
    log = PodLog(jobs, "shop-x", output)
    until = time.monotonic() + seconds
    while server.answers and time.monotonic() < until:
        time.sleep(0.02)
    log.close()
    assert not server.answers
    return output.getvalue().splitlines()


def test_a_log_is_written_as_it_comes_and_to_its_end(server: Server, jobs: Jobs) -> None:
    content = lines("one", "", "two  words", "three")
    assert followed(jobs, server, whole(content[:50], content[50:]), whole(content)) == [
        "one",
        "",
        "two  words",
        "three",
    ]
    assert [path for path, _ in server.asked] == [PATH, PATH]
    assert server.asked[0][1] == {"container": ["crawl"], "follow": ["True"], "timestamps": ["True"]}


def test_a_broken_connection_neither_loses_nor_repeats_a_line(server: Server, jobs: Jobs) -> None:
    content = lines("same", "same", "b", "c", "d")
    parts = content.splitlines(keepends=True)
    twice = parts[0] + parts[0] + b"".join(parts[2:])  # two equal lines of one moment are two lines
    said = followed(jobs, server, cut(twice[: len(parts[0]) * 2 + 9]), cut(twice[:-3]), whole(twice), whole(twice))
    assert said == ["same", "same", "b", "c", "d"]


def test_no_line_is_lost_where_the_nodes_clock_is_behind(server: Server, jobs: Jobs) -> None:
    """The node counts the seconds back from its own now: then it has to be more of them."""
    followed(jobs, server, cut(lines("a", ago=45.0)), whole())
    [since] = server.asked[1][1]["sinceSeconds"]
    assert 100 <= int(since) <= 115


def test_a_log_that_changes_files_is_followed_on(server: Server, jobs: Jobs) -> None:
    """The connection then ends as if the container had."""
    first, second = lines("a", "b", ago=6.0), lines("c", ago=3.0)
    assert followed(jobs, server, whole(first), whole(first + second), whole(first + second)) == ["a", "b", "c"]


def test_a_container_that_has_not_started_and_an_api_that_is_away_are_waited_for(server: Server, jobs: Jobs) -> None:
    waiting = refused(400, 'container "crawl" in pod "shop-x" is waiting to start: ContainerCreating')
    content = lines("a")
    assert followed(jobs, server, waiting, refused(503, "not now"), whole(content), whole(content)) == ["a"]


def test_a_log_that_may_not_be_read_is_said_once(server: Server, jobs: Jobs) -> None:
    [said] = followed(jobs, server, refused(403, "pods/log is forbidden"))
    assert "the log of shop-x cannot be followed" in said and "pods/log is forbidden" in said
    assert len(server.asked) == 1


def test_a_pod_that_is_gone_has_no_log(server: Server, jobs: Jobs) -> None:
    assert followed(jobs, server, refused(404, 'pods "shop-x" not found')) == []


def test_a_nodes_own_words_are_written_once(server: Server, jobs: Jobs) -> None:
    words = b"unable to retrieve container logs for containerd://0f"
    assert followed(jobs, server, whole(words), whole(words)) == [words.decode()]


def test_what_pages_say_cannot_command_a_terminal_nor_fill_the_log(server: Server, jobs: Jobs) -> None:
    content = lines("\x1b]0;title\x07", "x" * 200_000) + lines("\xe9")[:-3] + b"\xff\n"
    [command, long, broken] = followed(jobs, server, whole(content), whole(content))
    assert "\x1b" not in command and "title" in command
    assert len(long) < 17_000 and long.endswith("characters more)")
    assert broken == "\ufffd"


def test_closing_does_not_wait_for_a_crawl_that_goes_on(server: Server, jobs: Jobs) -> None:
    server.answers = [stays_open(lines("a"))]
    output = io.StringIO()
    log = PodLog(jobs, "shop-x", output)
    while not output.getvalue():
        time.sleep(0.02)
    began = time.monotonic()
    log.close()
    assert time.monotonic() - began < DRAIN_SECONDS + 2
    assert output.getvalue() == "a\n"


def test_an_output_that_is_closed_does_not_end_the_following_in_noise(server: Server, jobs: Jobs) -> None:
    output = io.StringIO()
    output.close()
    content = lines("a", "b")
    server.answers = [whole(content), whole(content)]
    PodLog(jobs, "shop-x", output).close()
    assert not server.answers


def test_a_flood_of_lines_is_followed_whole(server: Server, jobs: Jobs) -> None:
    texts = [str(number) for number in range(24_000)]
    content = lines(*texts, ago=60.0)
    half = content[: content.index(b" 22000\n")]
    said = followed(jobs, server, cut(half), whole(content), whole(content), seconds=30.0)
    assert said == texts
