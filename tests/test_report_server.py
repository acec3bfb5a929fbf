"""The server of reports, as a browser, a stranger and an administrator meet it."""

import http.client
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gossamer.errors import ConfigurationError, LakeError
from gossamer.lake import Lake
from gossamer.quality import report_server
from gossamer.quality.report_server import ReportServer, report_url, source_url
from tests import markup, services

KEY = "2026-11-20|toys"


@contextmanager
def serving(lake: Lake) -> Iterator[ReportServer]:
    with ReportServer(lake, port=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def filled(place: str) -> Lake:
    lake = Lake(place)
    lake.put("reports/shop/2026-11-20~toys.html", b"<p>the page of toys</p>")
    lake.put("reports/shop/2026-11-20~toys.summary.json", b"{}")
    lake.put("reports/shop/index.html", b"<p>all of shop</p>")
    lake.put("reports/rates/2026-11-19.html", b"<p>rates</p>")
    lake.put("plots/shop/2026-11-20~toys.html", b"<p>a plot</p>")
    lake.put("data_docs/index.html", b"<p>docs</p>")
    lake.put("clean/shop/2026-11-20~toys.json", b"secret")
    lake.put("clean/shop/secret.html", b"secret")
    lake.put("secret.html", b"secret")
    return lake


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReportServer]:
    with serving(filled(str(tmp_path_factory.mktemp("served") / "lake"))) as running:
        yield running


def ask(server: ReportServer, target: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
    """The answer to a request whose target is sent as it is."""
    place = urlsplit(server.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)
    try:
        connection.putrequest(method, target)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def test_a_link_in_dagster_leads_to_the_page_of_the_partition(server: ReportServer) -> None:
    url = report_url(server.url + "/", "shop", KEY)
    assert ask(server, url.removeprefix(server.url))[::2] == (200, "<p>the page of toys</p>")
    url = source_url(server.url, "shop")
    assert ask(server, url.removeprefix(server.url))[::2] == (200, "<p>all of shop</p>")


def test_the_first_page_leads_to_every_source(server: ReportServer) -> None:
    found = markup.read(ask(server, "/")[2])
    assert found.links == ["reports/rates/", "reports/shop/", "plots/shop/", "data_docs/index.html"]
    for link in found.links:
        assert ask(server, f"/{link}")[0] == 200


def test_a_folder_without_a_page_of_its_own_lists_its_pages(server: ReportServer) -> None:
    assert markup.read(ask(server, "/reports/rates/")[2]).links == ["2026-11-19.html"]
    status, headers, _ = ask(server, "/reports/rates")
    assert (status, headers["Location"]) == (301, "/reports/rates/"), "or its links would lead elsewhere"


def test_a_page_may_load_and_run_nothing(server: ReportServer) -> None:
    headers = ask(server, "/reports/shop/index.html")[1]
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'unsafe-inline';")
    assert "script-src" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Python" not in headers["Server"]


@pytest.mark.parametrize(
    "target",
    [
        "/clean/shop/secret.html", "/secret.html", "/reports/../secret.html", "/reports/%2e%2e/secret.html",
        "/reports/%2E%2E%2Fsecret.html", "/reports/..%5csecret.html", "/reports/shop/../../secret.html",
        "/reports/./../secret.html", "//secret.html", "/reports//../secret.html", "/%2fsecret.html",
        "/reports/shop/%00.html", "/reports/shop/.hidden.html", "/reports/..", "/..", "reports/../secret.html",
        "http://elsewhere.example/secret.html", "*", "/reports/%252e%252e/secret.html", "/reports/%ff%fe.html",
        "/reports/shop/2026-11-20~toys.summary.json", "/clean/", "/clean", "/reports/" + "a" * 5000 + ".html",
    ],
)  # fmt: skip
def test_nothing_but_pages_can_be_had(server: ReportServer, target: str) -> None:
    status, _, body = ask(server, target)
    assert status == 404
    assert "secret<" not in body
    assert body == "" or "There is no page here" in body


def test_an_address_that_is_an_attack_is_shown_as_text(server: ReportServer) -> None:
    _, _, body = ask(server, "/reports/%3Cscript%3Ealert(1)%3C/script%3E")
    found = markup.read(body)
    assert "<script>alert(1)</script>" in found.text
    assert "script" not in found.elements


def test_what_a_stranger_sends_along_is_not_taken_for_the_next_request(server: ReportServer) -> None:
    place = urlsplit(server.url)
    hidden = b"GET /reports/rates/2026-11-19.html HTTP/1.1\r\nHost: a\r\n\r\n"
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=10) as line:
        head = f"GET /reports/shop/index.html HTTP/1.1\r\nHost: a\r\nContent-Length: {len(hidden)}\r\n\r\n"
        line.sendall(head.encode() + hidden)
        answered = b"".join(iter(lambda: line.recv(65536), b""))
    assert b"all of shop" in answered
    assert b"rates" not in answered


def test_head_says_as_much_as_get_without_the_page(server: ReportServer) -> None:
    status, headers, body = ask(server, "/reports/shop/index.html", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len("<p>all of shop</p>")), "")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_written(server: ReportServer, method: str) -> None:
    assert ask(server, "/reports/shop/index.html", method)[0] == 501
    assert ask(server, "/reports/shop/index.html")[2] == "<p>all of shop</p>"


def test_an_empty_lake_has_a_first_page_that_says_so(tmp_path: Path) -> None:
    with serving(Lake(str(tmp_path / "lake"))) as server:
        assert "There are no pages yet" in ask(server, "/")[2]
        assert ask(server, "/reports/shop/")[0] == 404


def test_a_lake_that_cannot_be_read_is_told_without_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def away(self: Lake, path: str) -> bytes:
        raise LakeError("Cannot read s3://private/lake")

    lake = filled(str(tmp_path / "lake"))
    monkeypatch.setattr(Lake, "get", away)
    with serving(lake) as server:
        status, _, body = ask(server, "/reports/shop/index.html")
    assert status == 502
    assert "private" not in body
    assert "s3://private/lake" in capfd.readouterr().err


def test_a_port_in_use_is_told_in_one_line(server: ReportServer, capsys: pytest.CaptureFixture[str]) -> None:
    port = urlsplit(server.url).port or 0
    with pytest.raises(ConfigurationError, match=f"port {port}"):
        ReportServer(server.lake, port)
    assert report_server.main(["--lake", server.lake.uri, "--port", str(port)]) == 2
    assert "Choose another with --port" in capsys.readouterr().err


@pytest.mark.service
def test_a_lake_on_s3_is_served_alike(s3: services.S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.env().items():
        monkeypatch.setenv(name, value)
    with serving(filled(f"s3://{s3.bucket}/reports-served")) as server:
        assert ask(server, "/reports/shop/2026-11-20~toys.html")[::2] == (200, "<p>the page of toys</p>")
        assert markup.read(ask(server, "/")[2]).links[0] == "reports/rates/"
        assert ask(server, "/reports/none/x.html")[0] == 404


def test_its_health_can_be_asked_without_a_look_into_the_lake(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    with serving(lake) as server:
        assert ask(server, "/healthz")[0] == 200
    assert not (tmp_path / "lake").exists()


def test_it_ends_well_when_it_is_told_to(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gossamer.quality.report_server", "--lake", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr and "Reports of" in process.stderr.readline()
        process.terminate()
        assert process.wait(10) == 0
