"""Loading a source's spider from its folder, and errors of the source's own code in words.

Nothing of the platform leaks into a spider: it is an ordinary `scrapy.Spider`, loaded as `scrapy runspider` would.
"""

import importlib.util
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

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
    module_name = f"_gossamer_source_{source.name}"  # private: a folder may hold a module of any name
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise UnusableSourceError(f"{source.name}: spider: {path} is not a Python module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    sys.path.insert(0, str(source.folder))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        words = where(error, path.parent)
        raise UnusableSourceError(f"{source.name}: the spider cannot be imported: {words}") from error
    cls = getattr(module, name, None)
    if cls is None:
        raise UnusableSourceError(f"{source.name}: spider: {path} has no class {name}. Mend `spider:` in source.yaml.")
    if not (isinstance(cls, type) and issubclass(cls, scrapy.Spider)):
        raise UnusableSourceError(f"{source.name}: spider: {name} ({path}) is no scrapy.Spider. Derive it from one.")
    return cls


def where(error: BaseException, folder: Path) -> str:
    """The error's type, its words, and the line it comes from: the last one in `folder`, if there is one."""
    words = traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, SyntaxError):
        return f"{words} ({error.filename}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)] or list(frames)
    return f"{words} ({own[-1].filename}:{own[-1].lineno})" if own else words
