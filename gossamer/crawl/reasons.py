"""Why a request did not become a page: the named reasons, and how statuses and exceptions map to them.

What is done about a failed request (retries, the verdict) does not belong here.
"""

from collections.abc import Iterator
from enum import StrEnum

from OpenSSL import SSL
from scrapy import exceptions as scrapy_errors
from scrapy.exceptions import IgnoreRequest
from twisted.internet import error as twisted_errors
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed


class Reason(StrEnum):
    """A request's end, where it is not a page that the spider saw."""

    GONE = "gone"
    REDIRECT_LOOP = "redirect_loop"
    DNS = "dns"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    TLS = "tls"
    CONNECTION_LOST = "connection_lost"
    BLOCKED = "blocked"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    CLIENT_ERROR = "client_error"
    TOO_LARGE = "too_large"
    NOT_TEXT = "not_text"
    ROBOTS = "robots"
    OFF_SITE = "off_site"
    PRIVATE_ADDRESS = "private_address"
    NOT_HTTP = "not_http"
    IGNORED = "ignored"
    PARSE_ERROR = "parse_error"
    PIPELINE_ERROR = "pipeline_error"
    LIMIT = "limit"
    CANCELLED = "cancelled"
    OTHER = "other"


#: Ends by a rule, not by a failure: such requests are counted, and only a seed among them is a dead letter.
EXCLUSIONS = frozenset({Reason.ROBOTS, Reason.OFF_SITE, Reason.PRIVATE_ADDRESS, Reason.NOT_HTTP, Reason.IGNORED})


class ExcludedRequest(IgnoreRequest):
    """A request that a rule of ours keeps from being sent."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def of_status(status: int) -> Reason:
    """The reason of a response whose status the spider does not handle."""
    match status:
        case 404 | 410:
            return Reason.GONE
        case 401 | 403 | 451:
            return Reason.BLOCKED
        case 408:
            return Reason.TIMED_OUT
        case 429:
            return Reason.RATE_LIMITED
    if status >= 500:
        return Reason.SERVER_ERROR
    return Reason.CLIENT_ERROR if status >= 400 else Reason.OTHER


def of_download_error(error: BaseException) -> Reason:
    """The reason of a request for which there is no response."""
    if isinstance(error, ExcludedRequest):
        return error.reason
    if isinstance(error, IgnoreRequest):
        return _of_ignored(str(error))
    for types, reason in _DOWNLOAD_ERRORS:
        if isinstance(error, types):
            return reason
    if isinstance(error, scrapy_errors.DownloadFailedError):
        tls = any(isinstance(cause, SSL.Error) for cause in _causes(error))
        return Reason.TLS if tls else Reason.CONNECTION_LOST
    return Reason.OTHER


def of_callback_error(error: BaseException) -> Reason:
    """The reason of a page whose callback raised."""
    if isinstance(error, scrapy_errors.NotSupported | AttributeError) and "isn't text" in str(error):
        return Reason.NOT_TEXT
    return Reason.PARSE_ERROR


_DOWNLOAD_ERRORS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Reason], ...] = (
    (scrapy_errors.CannotResolveHostError, Reason.DNS),
    (scrapy_errors.DownloadConnectionRefusedError, Reason.REFUSED),
    ((scrapy_errors.DownloadTimeoutError, twisted_errors.TCPTimedOutError), Reason.TIMED_OUT),
    # Scrapy cancels a download for its size only; a crawl that is stopped waits for its downloads.
    (scrapy_errors.DownloadCancelledError, Reason.TOO_LARGE),
    (scrapy_errors.UnsupportedURLSchemeError, Reason.NOT_HTTP),
    (twisted_errors.ConnectError, Reason.REFUSED),
    (
        (scrapy_errors.ResponseDataLossError, twisted_errors.ConnectionLost, twisted_errors.ConnectionDone),
        Reason.CONNECTION_LOST,
    ),
)


def _of_ignored(message: str) -> Reason:
    # Scrapy has one exception for all of these; only its words tell them apart.
    if "robots.txt" in message:
        return Reason.ROBOTS
    if message.startswith("Filtered offsite"):
        return Reason.OFF_SITE
    if message.startswith("max redirections"):
        return Reason.REDIRECT_LOOP
    return Reason.TOO_LARGE if "DOWNLOAD_MAXSIZE" in message else Reason.IGNORED


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, ResponseFailed):
            for failure in error.reasons:
                if isinstance(failure, Failure):
                    yield from _causes(failure.value)
        error = error.__cause__
