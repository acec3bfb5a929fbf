"""Loading a source's spider from its folder.

Nothing of the platform leaks into a spider: it is an ordinary `scrapy.Spider`, loaded as `scrapy runspider` would.
"""

import sys
from typing import TYPE_CHECKING

from gossamer import user_code
from gossamer.errors import CrawlError
from gossamer.source import Source

if TYPE_CHECKING:
    import scrapy


class UnusableSourceError(CrawlError):
    """The source cannot be crawled as it is written: its spider does not load, or its seeds cannot be made out."""


def load(source: Source) -> "type[scrapy.Spider]":
    """The source's spider class. Its folder goes on `sys.path`, so that the spider can import what lies beside it.

    Raises:
        UnusableSourceError: the module does not load, or the class is missing or no spider.
    """
    import scrapy

    path, name = source.spider_file, source.spider_class
    sys.path.insert(0, str(source.folder))  # for good: a callback may import too
    try:
        module = user_code.load(source, path)
    except user_code.UserCodeError as error:
        raise UnusableSourceError(f"{source.name}: {error}") from error
    cls = getattr(module, name, None)
    if cls is None:
        raise UnusableSourceError(f"{source.name}: spider: {path} has no class {name}. Mend `spider:` in source.yaml.")
    if not (isinstance(cls, type) and issubclass(cls, scrapy.Spider)):
        raise UnusableSourceError(f"{source.name}: spider: {name} ({path}) is no scrapy.Spider. Derive it from one.")
    return cls
