"""An ordinary spider that uses all that Scrapy offers, and knows nothing of the platform: `scrapy runspider` runs it.

Which page does what follows from its number modulo 20. What a page yields depends on nothing but the page.
"""

import asyncio
import dataclasses
import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import attrs
import pydantic
import scrapy
from scrapy import FormRequest, Request, signals
from scrapy.crawler import Crawler
from scrapy.exceptions import DontCloseSpider, DropItem
from scrapy.http import Response
from scrapy.http.request.json_request import JsonRequest
from twisted.python.failure import Failure


class Thing(scrapy.Item):
    kind = scrapy.Field()
    n = scrapy.Field()
    parts = scrapy.Field()


@dataclasses.dataclass
class DataThing:
    kind: str
    n: int
    parts: list[dict[str, Any]]


@attrs.define
class AttrsThing:
    kind: str
    n: int
    parts: list[dict[str, Any]]


class ModelThing(pydantic.BaseModel):
    kind: str
    n: int
    parts: list[dict[str, Any]]


class Pipeline:
    """Waits as one that asks a database does, drops some items and fails with others."""

    async def process_item(self, item: Any) -> Any:
        kind = item.get("kind") if isinstance(item, dict) else item["kind"] if isinstance(item, Thing) else item.kind
        if kind == "dropped":
            raise DropItem("not wanted")
        if kind == "broken":
            raise ValueError("the pipeline cannot take it")
        await asyncio.sleep(0.002)
        return item


class Middleware:
    """A spider middleware that yields of its own, and recovers from one kind of exception."""

    async def process_spider_output(self, response: Response, result: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for output in result:
            yield output
        if response.url.endswith("/list/3"):
            yield {"kind": "middleware", "path": _path(response)}

    def process_spider_exception(self, response: Response, exception: Exception) -> list[Any] | None:
        if not isinstance(exception, KeyError):
            return None
        assert response.request
        assert response.request.callback
        spider: TortureSpider = response.request.callback.__self__  # type: ignore[attr-defined]
        recovered = response.follow(f"/leaf/recovered/{_number(response)}", spider.parse_leaf)
        return [{"kind": "recovered", "path": _path(response)}, recovered]


class TortureSpider(scrapy.Spider):
    name = "torture"
    allowed_domains = ("127.0.0.1", "host.cluster", "host.docker.internal")  # the last two: as pods call this machine
    idles = 0
    custom_settings = {  # noqa: RUF012  (as users write it)
        "ROBOTSTXT_OBEY": True,
        "CONCURRENT_REQUESTS": 16,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 16,
        "DOWNLOAD_DELAY": 0,
        "ITEM_PIPELINES": {Pipeline: 100},
        "SPIDER_MIDDLEWARES": {Middleware: 100},
        "LOG_LEVEL": "ERROR",
    }

    @classmethod
    def from_crawler(cls, crawler: Crawler, *args: Any, **kwargs: Any) -> "TortureSpider":
        spider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider.on_idle, signals.spider_idle)
        return spider

    @property
    def site(self) -> str:
        seeds = self.start_urls.split() if isinstance(self.start_urls, str) else self.start_urls
        return str(seeds[0]).rstrip("/")

    # -- what no page leads to ------------------------------------------------------------------------------------

    async def start(self) -> AsyncIterator[Any]:
        yield {"kind": "start", "n": 1}
        yield {"kind": "start", "n": 1}
        yield Request(f"{self.site}/", self.parse_list)
        yield Request(f"{self.site}/leaf/start", self.parse_leaf, dont_filter=True)
        yield {"kind": "start", "n": 2}
        yield Request(
            f"{self.site}/leaf/lambda",
            lambda page: [{"kind": "start lambda"}, self.leaf(page, "a")],  # type: ignore[misc]
        )
        yield FormRequest(f"{self.site}/login", self.parse_login, formdata={"user": "ann", "password": "secret"})

    def on_idle(self) -> None:
        self.idles += 1
        if self.idles == 1:
            assert self.crawler.engine
            self.crawler.engine.crawl(Request(f"{self.site}/leaf/idle", self.parse_leaf))
            raise DontCloseSpider

    # -- lists ----------------------------------------------------------------------------------------------------

    def parse_list(self, response: Response) -> Iterator[Request]:
        for url in response.css("a.link::attr(href)").getall():
            if url == "/" or url.startswith("/list/"):
                yield response.follow(url, self.parse_list, priority=1)
            elif url in ("/fan", "/poison"):
                yield response.follow(url, self.parse_fan if url == "/fan" else self.parse_poison)
            else:
                yield response.follow(url, self.parse_page)

    def parse_login(self, response: Response) -> Iterator[Any]:
        yield {"kind": "login", "said": response.css("p::text").get()}
        for n in range(10):
            yield response.follow(f"/members/{n}", self.parse_leaf)

    # -- pages ----------------------------------------------------------------------------------------------------

    def parse_page(self, response: Response) -> Iterator[Any]:
        n = _number(response)
        yield {"kind": "page", "n": n}
        yield from getattr(self, f"page_{n % 20}", self.page_else)(response, n)

    def page_else(self, response: Response, n: int) -> Iterator[Any]:
        yield from ()

    def page_0(self, response: Response, n: int) -> Iterator[Any]:
        yield FormRequest(
            response.urljoin(f"/form/{n}"),
            self.parse_form,
            formdata={"n": str(n)},
            errback=self.failed,
            cb_kwargs={"asked": n},
        )
        yield JsonRequest(response.urljoin(f"/form/json/{n}"), self.parse_form, data={"n": n}, cb_kwargs={"asked": -n})

    def page_3(self, response: Response, n: int) -> Iterator[Any]:
        yield {"kind": "before it raises", "n": n}
        yield response.follow(f"/leaf/before/{n}", self.parse_leaf)
        if n % 40 == 3:
            raise KeyError(n)
        raise RuntimeError(n)

    def page_4(self, response: Response, n: int) -> Iterator[Any]:
        yield response.follow(f"/gone/{n}", self.parse_leaf, errback=self.failed)
        yield response.follow(f"/gone/{n}?unhandled", self.parse_leaf)

    def page_5(self, response: Response, n: int) -> Iterator[Any]:
        yield {"kind": "dropped", "n": n}
        yield {"kind": "kept", "n": n}

    def page_6(self, response: Response, n: int) -> Iterator[Any]:
        yield {"kind": "broken", "n": n}
        yield response.follow(f"/leaf/inline/{n}", self.parse_with_inline_download)

    def page_7(self, response: Response, n: int) -> Iterator[Any]:
        yield response.follow(f"/{'drop' if n % 40 == 7 else 'down'}/{n}", self.parse_leaf, errback=self.failed)

    def page_8(self, response: Response, n: int) -> Iterator[Any]:
        yield response.follow(f"/leaf/generator/{n}", self.parse_as_generator, meta={"numbers": [n, {"deep": n}]})

    def page_9(self, response: Response, n: int) -> Iterator[Any]:
        yield response.follow(
            f"/leaf/lambda/{n}",
            lambda page: [{"kind": "lambda", "n": n}, self.leaf(page, f"a/{n}")],  # type: ignore[misc]
        )

    def page_10(self, response: Response, n: int) -> Iterator[Any]:
        for who in range(3):
            yield response.follow("/leaf/same", self.parse_for, dont_filter=True, cb_kwargs={"who": 1000 * who + n})

    def page_12(self, response: Response, n: int) -> Iterator[Any]:
        yield response.follow(f"/back/{n}", self.parse_page)

    def page_13(self, response: Response, n: int) -> Iterator[Any]:
        yield response.follow(f"/loop/{n}", self.parse_leaf, errback=self.failed)
        yield response.follow(f"/ring/a/{n}", self.parse_leaf, errback=self.failed)

    def page_14(self, response: Response, n: int) -> Iterator[Any]:
        parts: list[dict[str, Any]] = [{"name": "x", "sizes": [1, 2.5, None]}, {"name": "ü", "more": {"deep": True}}]
        yield Thing(kind="item", n=n, parts=parts)
        yield DataThing("dataclass", n, parts)
        yield AttrsThing("attrs", n, parts)
        yield ModelThing(kind="pydantic", n=n, parts=parts)
        yield {"kind": "dict", "n": n, "parts": parts, "odd": {"a": [n]}}

    def page_15(self, response: Response, n: int) -> Iterator[Any]:
        yield response.follow(f"/leaf/low/{n}", self.parse_leaf, priority=-10)
        yield response.follow(f"/leaf/high/{n}", self.parse_leaf, priority=10)

    def page_16(self, response: Response, n: int) -> Iterator[Any]:
        for _ in range(5):
            yield response.follow(f"/leaf/once/{n % 7}", self.parse_leaf)
        yield response.follow(f"/forbidden/{n}", self.parse_leaf, errback=self.failed)

    def page_17(self, response: Response, n: int) -> Iterator[Any]:
        yield response.follow(f"/gone/{n}", self.parse_leaf, errback=self.failed_and_raises)
        yield response.follow(f"/leaf/coroutine/{n}", self.parse_as_coroutine)

    def page_18(self, response: Response, n: int) -> Iterator[Any]:
        yield response.follow(f"/leaf/at-once/{n}", self.raise_at_once)
        yield response.follow(f"/leaf/midway/{n}", self.raise_in_generator)

    # -- leaves ---------------------------------------------------------------------------------------------------

    def leaf(self, response: Response, name: str) -> Request:
        return response.follow(f"/leaf/{name}", self.parse_leaf)

    def parse_leaf(self, response: Response) -> dict[str, Any]:
        return {"kind": "leaf", "path": _path(response)}

    def parse_form(self, response: Response, asked: int) -> Iterator[Any]:
        yield {"kind": "form", "n": asked, "said": response.css("p::text").get()}

    def parse_for(self, response: Response, who: int) -> Iterator[Any]:
        yield {"kind": "same", "n": who}

    async def parse_with_inline_download(self, response: Response) -> list[Any]:
        assert self.crawler.engine
        inline = await self.crawler.engine.download_async(Request(response.urljoin("/leaf/inlined")))
        return [{"kind": "inline", "path": _path(response), "length": len(inline.body)}]

    async def parse_as_generator(self, response: Response) -> AsyncIterator[Any]:
        yield {"kind": "generator", "numbers": response.meta["numbers"]}
        await asyncio.sleep(0.005)
        yield self.leaf(response, f"after/{_number(response)}")

    async def parse_as_coroutine(self, response: Response) -> list[Any]:
        await asyncio.sleep(0.001)
        return [{"kind": "coroutine", "n": _number(response)}, self.leaf(response, "shared")]

    def raise_at_once(self, response: Response) -> None:
        raise RuntimeError(response.url)

    async def raise_in_generator(self, response: Response) -> AsyncIterator[Any]:
        yield {"kind": "before the generator raises", "n": _number(response)}
        yield self.leaf(response, f"before-generator/{_number(response)}")
        await asyncio.sleep(0.001)
        raise KeyError(response.url)

    def parse_fan(self, response: Response) -> Iterator[Any]:
        """One page with very many outputs; a few of its links are fetched."""
        for n in range(int(response.css("p::text").get(""))):
            yield {"kind": "fan", "n": n}
            url = f"/leaf/fan/{n}" if n % 100 == 0 else f"http://elsewhere.invalid/fan/{n}"
            yield response.follow(url, self.parse_leaf)

    def parse_poison(self, response: Response) -> Iterator[Any]:
        yield {"kind": "poison"}
        os.kill(os.getpid(), signal.SIGKILL)

    # -- errbacks -------------------------------------------------------------------------------------------------

    def failed(self, failure: Failure) -> Iterator[Any]:
        request: Request = failure.request  # type: ignore[attr-defined]
        path = request.url.removeprefix(self.site)
        yield {"kind": "failed", "type": failure.type.__name__, "path": path} if failure.type else None
        yield Request(f"{self.site}/leaf/failed{path}", self.parse_leaf)

    def failed_and_raises(self, failure: Failure) -> Iterator[Any]:
        yield {"kind": "failed, then raised"}
        raise RuntimeError("an errback may raise too")


def _path(response: Response) -> str:
    return "/" + response.url.split("/", 3)[3]


def _number(response: Response) -> int:
    return int(response.url.rsplit("/", 1)[1])
