"""Scrapy's settings for a crawl: our defaults, what a declaration enforces, and what of a spider's own is not honoured.

What the settings start is in `components` and `engine`.
"""

import hashlib
import json
import logging
from typing import Any

import scrapy
from scrapy.settings import BaseSettings
from scrapy.settings import Settings as ScrapySettings
from scrapy.utils.misc import load_object

from gossamer import __version__
from gossamer.crawl import guards
from gossamer.crawl.components import SitemapSeeds, Watch
from gossamer.crawl.engine import seam
from gossamer.source import Source

_log = logging.getLogger(__name__)

DEFAULTS: dict[str, Any] = {
    "USER_AGENT": f"gossamer/{__version__} (Scrapy/{scrapy.__version__})",
    "LOG_LEVEL": "INFO",
    "LOG_VERSIONS": [],
    "STATS_DUMP": False,
    "DOWNLOAD_MAXSIZE": 100 * 1024 * 1024,
    "DOWNLOAD_TIMEOUT": 60,
    "REDIRECT_MAX_TIMES": 10,
    "DNS_TIMEOUT": 20,
}
_ENFORCED: dict[str, Any] = {
    "TELNETCONSOLE_ENABLED": False,
    "REMOTE_CONTROL_ENABLED": False,
    "LOGSTATS_INTERVAL": 0,
    "SCHEDULER": "scrapy.core.scheduler.Scheduler",
}
_COMPONENTS: tuple[tuple[str, type, int], ...] = (
    ("EXTENSIONS", Watch, 0),
    ("SPIDER_MIDDLEWARES", SitemapSeeds, -1_000_000),
    # After Scrapy's HttpProxyMiddleware (750): behind a proxy, the proxy looks names up.
    ("DOWNLOADER_MIDDLEWARES", guards.AddressGuard, 760),
    ("DOWNLOADER_MIDDLEWARES", guards.Robots, 100),
)
_REPLACED = {"DOWNLOADER_MIDDLEWARES": ("scrapy.downloadermiddlewares.robotstxt.RobotsTxtMiddleware",)}
_NOT_HONOURED = {
    "FEEDS": "records go to the lake, exact after any crash, and a feed would not be; export them from there",
    "FEED_URI": "records go to the lake, exact after any crash, and a feed would not be; export them from there",
    "JOBDIR": "a crawl's state is kept by the platform",
    "SCHEDULER": "with another one a crash would lose requests; use priorities, or DEPTH_PRIORITY, for another order",
    "SCHEDULER_START_MEMORY_QUEUE": "seeds go in their order, after other requests of their priority",
    "SCHEDULER_START_DISK_QUEUE": "seeds go in their order, after other requests of their priority",
    "DOWNLOAD_SLOTS": "`politeness` in source.yaml says how gently hosts are treated",
    "CONCURRENT_REQUESTS_PER_IP": "`politeness` in source.yaml says how gently hosts are treated",
}
_DUPEFILTERS = ("scrapy.dupefilters.RFPDupeFilter", "scrapy.dupefilters.BaseDupeFilter")


def configure(scrapy_settings: BaseSettings, source: Source) -> list[str]:
    """Lays the declaration over the spider's own settings: of two rules for politeness, the gentler holds.

    Returns what is not honoured of the spider's own settings, in words; it is logged too.
    """
    notices = [
        f"{name} of the spider's settings is not used: {why}"
        for name, why in _NOT_HONOURED.items()
        if scrapy_settings.getpriority(name) and (scrapy_settings.get(name) or name.startswith("SCHEDULER_START"))
    ]
    if seam.name_of(scrapy_settings["DUPEFILTER_CLASS"]) not in _DUPEFILTERS:
        notices.append(
            "DUPEFILTER_CLASS of the spider's settings is not used: the crawl's store knows which requests it had. Set "
            "REQUEST_FINGERPRINTER_CLASS for another idea of what is the same"
        )
    notices += _stateful_pipelines(scrapy_settings)
    for notice in notices:
        _log.warning("%s: %s.", source.name, notice)
    gentle = source.spec.politeness
    delay = 1 / gentle.requests_per_second if gentle.requests_per_second else 0.0
    own_delay = scrapy_settings.getfloat("DOWNLOAD_DELAY") if scrapy_settings.getpriority("DOWNLOAD_DELAY") else 0.0
    enforced = _ENFORCED | {
        "FEEDS": {},
        "JOBDIR": None,
        "DOWNLOAD_SLOTS": {},
        "ROBOTSTXT_OBEY": gentle.robots == "obey" or scrapy_settings.getbool("ROBOTSTXT_OBEY"),
        "DOWNLOAD_DELAY": max(delay, own_delay),
        # A delay is the least time between two requests to a host; with jitter it would be that only on average.
        "DOWNLOAD_DELAY_JITTER": 0.0,
        "CONCURRENT_REQUESTS": _gentler(scrapy_settings, "CONCURRENT_REQUESTS", gentle.concurrency),
        "CONCURRENT_REQUESTS_PER_DOMAIN": _gentler(
            scrapy_settings, "CONCURRENT_REQUESTS_PER_DOMAIN", gentle.concurrency
        ),
        guards.ALLOW_PRIVATE: source.spec.fetch.allow_private,
    }
    if "DOWNLOAD_DELAY_JITTER" not in ScrapySettings():  # older versions know it by another name
        enforced["RANDOMIZE_DOWNLOAD_DELAY"] = False
    for name, value in enforced.items():
        scrapy_settings.set(name, value, priority="cmdline")
    for name, component, order in _COMPONENTS:
        # Set as a whole: Scrapy lays the process's settings over entries that have only the default's priority.
        own = scrapy_settings.getdict(name) | dict.fromkeys(_REPLACED.get(name, ()))
        scrapy_settings.set(name, own | {component: order}, priority="cmdline")
    return notices


def _stateful_pipelines(scrapy_settings: BaseSettings) -> list[str]:
    """Words on pipelines that open something: what they write themselves is repeated after a crash."""
    named = []
    for component in scrapy_settings.getdict("ITEM_PIPELINES"):
        cls = load_object(component)
        if any(hasattr(cls, method) for method in ("open_spider", "close_spider")):
            named.append(seam.name_of(component))
    if not named:
        return []
    return [
        f"what {', '.join(named)} remembers or writes itself is not exact after a crash (it begins anew in every "
        "process, and pages are repeated); the records in the lake are. Let such a pipeline write what can be "
        "repeated, or move it behind `published`"
    ]


def takes_the_oldest(spidercls: type[scrapy.Spider], scrapy_settings: BaseSettings) -> bool:
    """Whether the spider asks for requests in the order in which they were found (Scrapy's own: the newest first)."""
    own = (spidercls.custom_settings or {}).get("SCHEDULER_MEMORY_QUEUE", scrapy_settings["SCHEDULER_MEMORY_QUEUE"])
    return "Fifo" in seam.name_of(own)


def _gentler(scrapy_settings: BaseSettings, name: str, declared: int) -> int:
    own = scrapy_settings.getint(name) if scrapy_settings.getpriority(name) else 0
    return min(declared, own) if own > 0 else declared


def settings_hash(scrapy_settings: BaseSettings) -> str:
    """Tells settings of two launches apart; their values are not told, some are secrets."""
    written = json.dumps({name: repr(scrapy_settings[name]) for name in sorted(scrapy_settings)}, sort_keys=True)
    return hashlib.sha256(written.encode()).hexdigest()[:16]
