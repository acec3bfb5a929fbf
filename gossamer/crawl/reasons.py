"""Why a request did not become a page: the named reasons, and how statuses and exceptions map to them.

What is done about a failed request (retries, the verdict) does not belong here.
"""

from collections.abc import Iterator
from enum import StrEnum

from OpenSSL import SSL
from scrapy import exceptions as scrapy_errors
from scrapy.exceptions import IgnoreRequest, NotSupported
from twisted.internet import error as twisted_errors
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed
from twisted.web.error import SchemeNotSupported


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
    DEPTH = "depth"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"
    PARSE_ERROR = "parse_error"
    PIPELINE_ERROR = "pipeline_error"
    UNSERIALISABLE = "unserialisable"  #: it cannot be written down, and there were too many such to hold in memory
    PROCESS_DIED = "process_died"  #: the crawl's process died on it, again and again
    LIMIT = "limit"
    CANCELLED = "cancelled"
    OTHER = "other"


#: Ends by a rule, not by a failure: such requests are counted, and only a seed among them is a dead letter.
EXCLUSIONS = frozenset(
    {
        Reason.ROBOTS,
        Reason.OFF_SITE,
        Reason.PRIVATE_ADDRESS,
        Reason.NOT_HTTP,
        Reason.DEPTH,
        Reason.DUPLICATE,
        Reason.IGNORED,
    }
)


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
        return _of_ignored(error)
    if isinstance(error, NotSupported):
        return Reason.NOT_HTTP if "URL scheme" in str(error) else Reason.OTHER
    for types, reason in _DOWNLOAD_ERRORS:
        if isinstance(error, types):
            tls = reason is Reason.CONNECTION_LOST and any(isinstance(cause, SSL.Error) for cause in _causes(error))
            return Reason.TLS if tls else reason
    return Reason.OTHER


def of_callback_error(error: BaseException) -> Reason:
    """The reason of a page whose callback raised."""
    if isinstance(error, scrapy_errors.NotSupported | AttributeError) and "isn't text" in str(error):
        return Reason.NOT_TEXT
    return Reason.PARSE_ERROR


def _scrapy(name: str) -> tuple[type[BaseException], ...]:
    """Scrapy's own exception, where it has one: before 2.15 Twisted's come as they are."""
    found = getattr(scrapy_errors, name, None)
    return (found,) if found else ()


#: The first that fits holds; among Twisted's, those further down include those above.
_DOWNLOAD_ERRORS: tuple[tuple[tuple[type[BaseException], ...], Reason], ...] = (
    ((*_scrapy("CannotResolveHostError"), twisted_errors.DNSLookupError), Reason.DNS),
    ((*_scrapy("DownloadConnectionRefusedError"), twisted_errors.ConnectionRefusedError), Reason.REFUSED),
    (
        (*_scrapy("DownloadTimeoutError"), twisted_errors.TimeoutError, twisted_errors.TCPTimedOutError),
        Reason.TIMED_OUT,
    ),
    # Scrapy cancels a download for its size only; a crawl that is stopped waits for its downloads.
    ((*_scrapy("DownloadCancelledError"), CancelledError), Reason.TOO_LARGE),
    ((*_scrapy("UnsupportedURLSchemeError"), SchemeNotSupported), Reason.NOT_HTTP),
    ((twisted_errors.ConnectError,), Reason.REFUSED),
    (
        (
            *_scrapy("DownloadFailedError"),
            *_scrapy("ResponseDataLossError"),
            ResponseFailed,
            twisted_errors.ConnectionLost,
            twisted_errors.ConnectionDone,
        ),
        Reason.CONNECTION_LOST,
    ),
)


def _of_ignored(error: IgnoreRequest) -> Reason:
    # Scrapy has one exception for all of these; only its words tell them apart.
    message = str(error)
    if "robots.txt" in message:
        return Reason.ROBOTS
    if message.startswith("Filtered offsite") or _is_raised_by(error, "scrapy.downloadermiddlewares.offsite"):
        return Reason.OFF_SITE
    if message.startswith("max redirections"):
        return Reason.REDIRECT_LOOP
    return Reason.TOO_LARGE if "DOWNLOAD_MAXSIZE" in message else Reason.IGNORED


def _is_raised_by(error: BaseException, module: str) -> bool:
    """Whether this module raised it: before 2.18, Scrapy has no words for a request that is off-site."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") == module


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, ResponseFailed):
            for failure in error.reasons:
                if isinstance(failure, Failure):
                    yield from _causes(failure.value)
        error = error.__cause__
