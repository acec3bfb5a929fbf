"""Which addresses a crawl may reach: http and https only, nothing private unless the source allows it, and what
robots.txt allows.

Every hop of a redirect, and every robots.txt, passes here. How gently a host is treated does not belong here.
"""

import ipaddress
from typing import Self

from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.downloadermiddlewares.robotstxt import RobotsTxtMiddleware
from scrapy.http import Response
from scrapy.robotstxt import RobotParser
from scrapy.utils.defer import maybe_deferred_to_future
from scrapy.utils.httpobj import urlparse_cached

from gossamer.crawl.engine import seam
from gossamer.crawl.reasons import ExcludedRequest, Reason

#: Setting (bool): private, loopback and link-local addresses may be fetched.
ALLOW_PRIVATE = "GOSSAMER_ALLOW_PRIVATE"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: The only addresses of IPv6 that are given out for the public internet.
_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
#: By these a network that has IPv6 only reaches IPv4: the last 32 bits are the address there.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Robots(RobotsTxtMiddleware):
    """Scrapy's, mended: of the requests that wait for a robots.txt, only the first was told what it says."""

    async def robot_parser(self, request: Request) -> RobotParser | None:
        await super().robot_parser(request)
        return seam.known_robots(self, request)  # set before those that wait go on


class AddressGuard:
    """Downloader middleware that refuses requests by their address."""

    def __init__(self, allow_private: bool) -> None:
        self.allow_private = allow_private

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler.settings.getbool(ALLOW_PRIVATE))

    async def process_request(self, request: Request) -> None:
        parts = urlparse_cached(request)
        if parts.scheme not in ("http", "https"):
            raise ExcludedRequest(Reason.NOT_HTTP, f"{parts.scheme}: is not fetched, only http and https are")
        if self.allow_private:
            return
        host = parts.hostname or ""
        address = _literal(host)
        if address is None and not request.meta.get("proxy"):  # behind a proxy, the proxy looks names up
            address = await _resolve(host)
        if address is not None:
            _refuse_private(host, address)

    def process_response(self, request: Request, response: Response) -> Response:
        # The name may have been given another address between the look-up and the connection.
        if not self.allow_private and response.ip_address and not request.meta.get("proxy"):
            _refuse_private(urlparse_cached(request).hostname or "", response.ip_address)
        return response


def is_private(address: Address) -> bool:
    """Whether an address is not one of the public internet (private, loopback, link-local, reserved, multicast)."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _inner(address)
        if inner is None:
            return address not in _PUBLIC_IPV6 or not address.is_global
        address = inner
    return not address.is_global or address.is_multicast


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The address of IPv4 that this one leads to."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def _refuse_private(host: str, address: Address) -> None:
    if is_private(address):
        place = host if host == str(address) else f"{host} ({address})"
        raise ExcludedRequest(
            Reason.PRIVATE_ADDRESS, f"{place} is not a public address; `fetch: {{allow_private: true}}` would allow it"
        )


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


async def _resolve(host: str) -> Address | None:
    """The address that the download will use: Scrapy's resolver keeps what it has looked up.

    Raises:
        DNSLookupError: there is none; retried as Scrapy's own (it is an OSError).
    """
    from twisted.internet import reactor

    return _literal(await maybe_deferred_to_future(reactor.resolve(host)))  # type: ignore[arg-type]
