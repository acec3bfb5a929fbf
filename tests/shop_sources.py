"""The shipped sources, reading from a demo shop that a test serves on a port of its own."""

import shutil
from pathlib import Path

from demo.shop import PORT
from gossamer.settings import PROJECT


def shop_sources(folder: Path, base_url: str) -> Path:
    """A copy of `sources/` below `folder` whose declarations name the shop at `base_url`."""
    sources = shutil.copytree(PROJECT / "sources", folder / "sources")
    for declaration in sources.glob("*/source.yaml"):
        text = declaration.read_text()
        declaration.write_text(text.replace(f"http://127.0.0.1:{PORT}", base_url.rstrip("/")))
    return sources
