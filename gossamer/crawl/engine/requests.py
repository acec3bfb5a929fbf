"""A request as bytes and back: what rebuilds it in another process. What a store knows of it beside that is in `unit`.

The bytes are a pickle: a request's meta may hold any Python value. They come from stores that this installation wrote
(on its disk, in its lake) and from nowhere else.
"""

import pickle
from collections.abc import Callable
from typing import Any

from scrapy import Request, Spider
from scrapy.http.request import NO_CALLBACK
from scrapy.utils.request import request_from_dict

_PROTOCOL = 5
#: What a request has unless it is said otherwise; left out of the bytes.
_DEFAULTS: dict[str, Any] = {
    "method": "GET",
    "body": b"",
    "cookies": {},
    "encoding": "utf-8",
    "priority": 0,
    "dont_filter": False,
    "flags": [],
}
#: Written in another form, or only where they hold something.
_HELD = frozenset({"url", "headers", "meta", "cb_kwargs", "callback", "errback"})
#: Not in its meta, which spiders pass on to other requests.
_FILTERED = "_filtered"
_NO_CALLBACK = "\0none"  # no method has this name


class UnwritableRequestError(ValueError):
    """The request cannot be written down: it holds something that no other process can rebuild."""


class RequestCodec:
    """Requests of one spider to bytes and back."""

    def __init__(self, spider: Spider) -> None:
        self._spider = spider
        self._names: dict[object, str | None] = {}

    def encode(self, request: Request, *, filtered: bool = False) -> bytes:
        """The request as bytes.

        Args:
            filtered: it is the retry of a request that was filtered: `decode` says so again.

        Raises:
            UnwritableRequestError: a callback is no method of the spider (a lambda, say), or a value of its meta,
                cb_kwargs or cookies cannot be pickled (an open page, a response).
        """
        written: dict[str, Any] = {"url": request.url}
        if filtered:
            written[_FILTERED] = True
        if type(request) is not Request:
            written["_class"] = f"{type(request).__module__}.{type(request).__qualname__}"
        for name in request.attributes:
            if name not in _HELD:
                value = getattr(request, name)
                if name not in _DEFAULTS or value != _DEFAULTS[name]:
                    written[name] = value
        if request.headers:
            written["headers"] = dict(request.headers)
        if request.meta:
            written["meta"] = request.meta
        if request.cb_kwargs:
            written["cb_kwargs"] = request.cb_kwargs
        if request.callback is not None:
            written["callback"] = self._name(request.callback)
        if request.errback is not None:
            written["errback"] = self._name(request.errback)
        try:
            return pickle.dumps(written, _PROTOCOL)
        except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise UnwritableRequestError(f"{request}: {error}") from error

    def decode(self, body: bytes) -> tuple[Request, bool]:
        """The request of these bytes, and whether it is a filtered one, or the retry of one that was.

        Raises:
            ValueError: the spider has no method of its callback's name any more, or a class of its values is gone.
        """
        try:
            written = pickle.loads(body)  # noqa: S301  (our own bytes, see above)
            was_filtered = written.pop(_FILTERED, False)
            without = [name for name in ("callback", "errback") if written.get(name) == _NO_CALLBACK]
            for name in without:
                del written[name]
            request = request_from_dict(written, spider=self._spider)
        except Exception as error:  # classes of the source's own are made anew here, and may raise anything
            raise ValueError(f"it cannot be rebuilt from the store: {error}") from error
        for name in without:
            setattr(request, name, NO_CALLBACK)
        return request, was_filtered or not request.dont_filter

    def _name(self, function: Callable[..., Any]) -> str:
        if function is NO_CALLBACK:
            return _NO_CALLBACK
        underlying = getattr(function, "__func__", None)
        if underlying is not None and getattr(function, "__self__", None) is self._spider:
            name = self._names.get(underlying)
            if name is None and underlying not in self._names:
                name = self._names[underlying] = self._method(function)
            if name is not None:
                return name
        raise UnwritableRequestError(f"{function!r} is no method of the spider")

    def _method(self, function: Any) -> str | None:
        """The name under which the spider has this method; looked up once, a spider has few."""
        name: str = getattr(function, "__name__", "")
        if getattr(self._spider, name, None) == function:
            return name
        return next((name for name in dir(self._spider) if getattr(self._spider, name, None) == function), None)


def callback_name(request: Request) -> str:
    """The name of the request's callback, `parse` where it has none."""
    if request.callback is None:
        return "parse"
    return getattr(request.callback, "__name__", type(request.callback).__name__)
