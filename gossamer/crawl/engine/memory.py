"""What a spider remembers between responses and Scrapy keeps in memory: cookies and `spider.state`.

They are kept with every group of commits, where they are small (a large jar less often, so that it costs little), and
when the process ends in peace. After a crash they are those of the last commit that kept them; the pages under way are
fetched again with them. A site that hands out a new cookie with every page may so see an older one again.
"""

import pickle
from typing import Any

from scrapy import Spider, signals
from scrapy.crawler import Crawler
from scrapy.downloadermiddlewares.cookies import CookiesMiddleware
from scrapy.http.cookies import CookieJar

from gossamer.crawl.frontier import Frontier, FrontierError

_COOKIES = "cookies"
_STATE = "spider_state"


class Memory:
    """Keeps and restores them for one crawler."""

    def __init__(self, crawler: Crawler, frontier: Frontier) -> None:
        self._crawler = crawler
        self._frontier = frontier
        self._kept: dict[str, bytes] = {}
        self._restored = False
        crawler.signals.connect(self._restore, signal=signals.spider_opened)

    def values(self) -> dict[str, bytes]:
        """What has changed since it was last kept, as values for the store.

        Raises:
            FrontierError: `spider.state` holds something that cannot be written down.
        """
        if not self._restored:  # the spider is being opened: what an earlier launch kept holds
            return {}
        try:
            held = {_COOKIES: pickle.dumps(self._cookies(), 5), _STATE: pickle.dumps(self._state(), 5)}
        except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise FrontierError(f"spider.state cannot be written down ({error}). Keep plain values in it.") from error
        changed = {name: value for name, value in held.items() if self._kept.get(name) != value}
        self._kept |= changed
        return changed

    def _restore(self, spider: Spider) -> None:
        state = self._frontier.get(_STATE)
        spider.state = pickle.loads(state) if state else {}  # type: ignore[attr-defined]  # noqa: S301  (our own)
        cookies, jars = self._frontier.get(_COOKIES), self._jars()
        if cookies and jars is not None:
            for key, held in pickle.loads(cookies).items():  # noqa: S301  (our own)
                for cookie in held:
                    jars[key].set_cookie(cookie)
        self._restored = True
        self._kept = {name: value for name, value in ((_STATE, state), (_COOKIES, cookies)) if value}

    def _state(self) -> Any:
        return getattr(self._crawler.spider, "state", {})

    def _cookies(self) -> dict[Any, list[Any]]:
        jars = self._jars()
        return {key: list(jar) for key, jar in jars.items() if len(jar)} if jars else {}

    def _jars(self) -> "dict[Any, CookieJar] | None":
        middleware = self._crawler.get_downloader_middleware(CookiesMiddleware)
        return middleware.jars if middleware else None
