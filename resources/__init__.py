"""What assets need from outside: the lake, the IO manager over it, crawl launchers, MongoDB, dbt.

Each is a Dagster resource, chosen and configured here and nowhere else; what it does lives in `gossamer`. Assets take
them by name, so that tests and production can give others.
"""

from typing import Any

import dagster as dg

from gossamer.settings import Settings
from resources.kubernetes import KubernetesLauncher, check_launcher
from resources.lake import LakeIOManager, LakeResource
from resources.launcher import CrawlLauncher, LocalLauncher
from resources.mongo import MongoResource
from resources.pages import PagesResource


def build_resources(settings: Settings) -> dict[str, Any]:
    """The resources of one installation, by the names under which assets ask for them.

    Raises:
        ConfigurationError: what it says of its cluster cannot work.
    """
    resources: dict[str, Any] = {
        "lake": LakeResource(uri=settings.lake),
        "lake_io": LakeIOManager(uri=settings.lake),
        "launcher": _launcher(settings),
        "pages": PagesResource(url=settings.reports_url),
    }
    if settings.mongo_uri:
        resources["mongo"] = MongoResource(uri=dg.EnvVar("GOSSAMER_MONGO_URI"))
    return resources


def _launcher(settings: Settings) -> CrawlLauncher:
    places = {"sources": str(settings.sources), "lake": settings.lake}
    if settings.launcher == "local":
        return LocalLauncher(**places)
    check_launcher(settings)
    return KubernetesLauncher(**places, kubernetes=str(settings.kubernetes))
