"""Every way in which a download can fail has its name, on whatever supported Scrapy is installed.

Scrapy itself crawls a site that misbehaves; what its engine makes of the failures is in `test_crawl`.
"""

import ipaddress
import json
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from gossamer.crawl.guards import is_private
from gossamer.crawl.reasons import EXCLUSIONS, Reason, of_status
from gossamer.settings import PROJECT
from tests import mocksite

SPIDER = """
    import json, sys

    import scrapy
    from scrapy import signals
    from scrapy.crawler import AsyncCrawlerProcess
    from scrapy.exceptions import IgnoreRequest

    from gossamer.crawl import reasons
    from gossamer.crawl.guards import AddressGuard


    class Spider(scrapy.Spider):
        name = "probe"
        allowed_domains = ["127.0.0.1", "localhost", "no-such-host.invalid"]
        custom_settings = {
            "RETRY_ENABLED": False, "DOWNLOAD_TIMEOUT": 3, "DOWNLOAD_MAXSIZE": 200_000, "ROBOTSTXT_OBEY": True,
            "GOSSAMER_ALLOW_PRIVATE": True, "TELNETCONSOLE_ENABLED": False, "LOG_LEVEL": "CRITICAL",
        }

        @classmethod
        def from_crawler(cls, crawler, *args, **kwargs):
            spider = super().from_crawler(crawler, *args, **kwargs)
            spider.found = {}
            crawler.signals.connect(spider.refuse, signals.request_scheduled)
            return spider

        async def start(self):
            for url in json.loads(sys.argv[1]):
                yield scrapy.Request(url, errback=self.failed)

        def refuse(self, request):
            if request.url.endswith("/page/own"):
                raise IgnoreRequest

        def parse(self, response):
            try:
                response.css("h1")
            except Exception as error:
                self.found[response.url] = reasons.of_callback_error(error)

        def failed(self, failure):
            error = failure.value
            status = getattr(getattr(error, "response", None), "status", None)
            self.found[failure.request.meta.get("redirect_urls", [failure.request.url])[0]] = (
                reasons.of_status(status) if status else reasons.of_download_error(error)
            )


    class Refused:
        "Tells of requests that are refused before they are scheduled, as the engine does."

        def __init__(self, crawler):
            self.crawler = crawler
            send = crawler.signals.send_catch_log

            def tap(signal, **known):
                results = send(signal, **known)
                if signal is signals.request_scheduled:
                    for _, result in results:
                        if isinstance(getattr(result, "value", None), IgnoreRequest):
                            crawler.spider.found[known["request"].url] = reasons.of_download_error(result.value)
                return results

            crawler.signals.send_catch_log = tap

        @classmethod
        def from_crawler(cls, crawler):
            return cls(crawler)


    settings = {"EXTENSIONS": {Refused: 1}, "DOWNLOADER_MIDDLEWARES": {AddressGuard: 1 if len(sys.argv) > 2 else None}}
    process = AsyncCrawlerProcess(settings)
    crawler = process.create_crawler(Spider)
    process.crawl(crawler)
    process.start()
    print(json.dumps(crawler.spider.found))
"""

PATHS = {
    # First, because Scrapy lets requests through that wait while another fetches robots.txt.
    "/private/1": "robots",
    "/page/1": None,
    "/page/own": "ignored",
    "/status/404": "gone",
    "/status/410": "gone",
    "/status/403": "blocked",
    "/status/408": "timed_out",
    "/status/418": "client_error",
    "/status/429": "rate_limited",
    "/status/503": "server_error",
    "/slow/9": "timed_out",
    "/reset": "connection_lost",
    "/truncated": "connection_lost",
    "/huge/300000": "too_large",
    "/bomb/3000000": "too_large",
    "/endless/1": "redirect_loop",
    "/binary": "not_text",
    "http://no-such-host.invalid/": "dns",
    "http://elsewhere.example/": "off_site",
    "gopher://127.0.0.1/": "not_http",
}


@pytest.fixture(scope="module")
def site() -> Iterator[mocksite.MockSite]:
    with mocksite.serve() as running:
        yield running


@pytest.mark.parametrize("guarded", [False, True], ids=["scrapy alone", "with the address guard"])
def test_failures_of_real_downloads_have_their_names(tmp_path: Path, site: mocksite.MockSite, guarded: bool) -> None:
    program = tmp_path / "probe.py"
    program.write_text(textwrap.dedent(SPIDER))
    # Robots.txt is asked for once for a host and port: what does not speak TLS has a port of its own.
    with mocksite.serve() as plain, socket.socket() as closed:  # bound and not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        expected = {(path if "//" in path else site.url + path): reason for path, reason in PATHS.items()}
        expected[f"http://127.0.0.1:{closed.getsockname()[1]}/"] = "refused"
        expected[plain.url.replace("http:", "https:") + "/"] = "tls"
        ran = subprocess.run(
            [sys.executable, str(program), json.dumps(list(expected)), *["guarded"] * guarded],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={"PYTHONPATH": str(PROJECT), "PATH": ""},
        )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {url: reason for url, reason in expected.items() if reason}


def test_rules_are_no_failures_and_every_error_status_has_a_reason() -> None:
    assert {Reason.ROBOTS, Reason.OFF_SITE, Reason.DEPTH, Reason.DUPLICATE} <= EXCLUSIONS
    assert not EXCLUSIONS & {Reason.UNSERIALISABLE, Reason.PROCESS_DIED, Reason.LIMIT, Reason.CANCELLED}
    assert {of_status(status) for status in range(400, 600)} & EXCLUSIONS == set()
    assert Reason.OTHER not in {of_status(status) for status in range(400, 600)}


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("8.8.8.8", False),
        ("10.0.0.5", True),
        ("127.0.0.1", True),
        ("100.64.0.1", True),
        ("169.254.169.254", True),
        ("224.0.0.1", True),
        ("0.0.0.0", True),
        ("2606:4700:4700::1111", False),
        ("::1", True),
        ("::", True),
        ("fe80::1", True),
        ("fc00::1", True),
        ("ff02::1", True),
        ("2001:db8::1", True),
        ("fec0::1", True),  # site-local
        ("4000::1", True),  # given to nobody
        # IPv4 inside IPv6: mapped, 6to4, compatible, NAT64 and its prefix for a site's own use
        ("::ffff:10.0.0.5", True),
        ("::ffff:8.8.8.8", False),
        ("2002:a00:5::", True),
        ("2002:808:808::", False),
        ("::10.0.0.5", True),
        ("64:ff9b::a00:5", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("64:ff9b::e000:1", True),
        ("64:ff9b::808:808", False),
        ("64:ff9b:1::a00:5", True),
        ("64:ff9b:1::808:808", True),
    ],
)
def test_only_addresses_of_the_public_internet_are_fetched(address: str, private: bool) -> None:
    assert is_private(ipaddress.ip_address(address)) is private
