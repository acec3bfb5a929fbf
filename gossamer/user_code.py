"""Importing a source's own Python (`spider.py`, `transform.py`), and its errors in words.

Only the import: what is looked for in the module, and what it is used for, belongs to the rooms.
"""

import contextlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from gossamer.errors import GossamerError
from gossamer.source import Source

#: Control characters (line ends and tabs too): what an error quotes may come from the web and go to a terminal.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class UserCodeError(GossamerError):
    """A module of a source cannot be imported; the text names file, line and error."""


def load(source: Source, path: Path) -> ModuleType:
    """The module at `path`, under a private name; it can import what lies beside it.

    Raises:
        UserCodeError: the module does not import.
    """
    name = f"_gossamer_{source.name}_{path.stem}"  # private: folders hold modules of the same names
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserCodeError(f"{path} is not a Python module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _importable(source.folder, name):
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:  # a user's module may raise anything; all of it is theirs to mend
            raise UserCodeError(f"{path} cannot be imported: {where(error, source.folder)}") from error
    return module


@contextlib.contextmanager
def _importable(folder: Path, keep: str) -> Iterator[None]:
    """The folder on `sys.path`; what was imported from it is forgotten after, for another source's `helpers`.

    A process that put the folder there itself works for one source only, and keeps all.
    """
    if str(folder) in sys.path:
        yield
        return
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before - {keep}:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(folder):
                del sys.modules[name]


def where(error: BaseException, folder: Path) -> str:
    """The error's type, its words, and the line it comes from: the last one in `folder`, if there is one."""
    words = _CONTROLS.sub(" ", traceback.format_exception_only(error)[-1].strip())
    if isinstance(error, SyntaxError):
        return f"{words} ({error.filename}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)] or list(frames)
    return f"{words} ({own[-1].filename}:{own[-1].lineno})" if own else words
