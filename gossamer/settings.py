"""Where a user's sources, lake, Dagster instance and targets are: the one place that reads GOSSAMER_* variables.

Command line, Dagster, crawl processes, dbt and tests all take their places from here, so that they agree. Nothing is
read when a module is imported.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gossamer.errors import ConfigurationError

PROJECT = Path(__file__).resolve().parent.parent
HOME = PROJECT / ".gossamer"
PARKING = ("at_rest", "continuous")
LAUNCHERS = ("local", "kubernetes")


@dataclass(frozen=True)
class Settings:
    """The places of one installation.

    Attributes:
        sources: folder of declared sources, one sub-folder each (`GOSSAMER_SOURCES`, default `sources/`).
        lake: folder or `s3://bucket/prefix` (`GOSSAMER_LAKE`, default `.gossamer/lake`). S3 credentials come from the
            standard AWS_* variables.
        warehouse: DuckDB file that holds the marts (`GOSSAMER_WAREHOUSE`, default `.gossamer/warehouse.duckdb`; each
            lake but the default one has one of its own, see `_state_of`).
        dagster_home: Dagster's instance folder (`DAGSTER_HOME`, default `.gossamer/dagster`; likewise one per lake).
        dbt_project: folder of the dbt project (`GOSSAMER_DBT_PROJECT`, default `dbt_project/`).
        crawls: folder where crawls keep their stores while they run on this machine (`GOSSAMER_CRAWLS`, default
            `.gossamer/crawls`; likewise one per lake).
        parking: when a crawl's store goes to the lake: `at_rest`, or also `continuous`ly while it runs, for machines
            that may vanish (`GOSSAMER_PARKING`, default `at_rest`).
        launcher: how a crawl gets a process (`GOSSAMER_LAUNCHER`): `local`, a child process of its run, which is the
            default; or `kubernetes`, a Job.
        kubernetes: YAML file that says how crawls run on a cluster (`GOSSAMER_KUBERNETES`); `gossamer.cluster.config`
            reads it. Required with `kubernetes`.
        reports_url: where people's browsers find the pages that `gossamer.quality.report_server` serves
            (`GOSSAMER_REPORTS_URL`); without it Dagster shows where a report lies. `gossamer serve` sets it.
        mongo_uri: MongoDB connection string with the database's name (`GOSSAMER_MONGO_URI`), or None: no MongoDB
            assets. A secret: never logged.
    """

    sources: Path
    lake: str
    warehouse: Path
    dagster_home: Path
    dbt_project: Path
    crawls: Path
    parking: str = "at_rest"
    launcher: str = "local"
    kubernetes: Path | None = None
    reports_url: str = ""
    mongo_uri: str | None = None

    @classmethod
    def load(
        cls, sources: str | Path | None = None, lake: str | None = None, environ: Mapping[str, str] | None = None
    ) -> "Settings":
        """The settings of this process; `sources` and `lake` (options of a command) come before the environment.

        Raises:
            ConfigurationError: a variable has a value that it cannot have.
        """
        env = os.environ if environ is None else environ
        lake_place = str(lake or env.get("GOSSAMER_LAKE") or HOME / "lake").removeprefix("file://")
        if "://" not in lake_place:
            lake_place = str(Path(lake_place).expanduser().resolve())
        state = _state_of(lake_place)
        parking = _one_of(PARKING, env, "GOSSAMER_PARKING")
        launcher = _one_of(LAUNCHERS, env, "GOSSAMER_LAUNCHER")
        kubernetes = env.get("GOSSAMER_KUBERNETES")
        if launcher == "kubernetes" and not kubernetes:
            raise ConfigurationError(
                "GOSSAMER_LAUNCHER is kubernetes, and GOSSAMER_KUBERNETES is not set. Name the YAML file that says how "
                "crawls run on the cluster (docs/kubernetes.md)."
            )
        return cls(
            sources=Path(sources or env.get("GOSSAMER_SOURCES") or PROJECT / "sources").expanduser().resolve(),
            lake=lake_place,
            warehouse=Path(env.get("GOSSAMER_WAREHOUSE") or state / "warehouse.duckdb").expanduser().resolve(),
            dagster_home=Path(env.get("DAGSTER_HOME") or state / "dagster").expanduser().resolve(),
            dbt_project=Path(env.get("GOSSAMER_DBT_PROJECT") or PROJECT / "dbt_project").expanduser().resolve(),
            crawls=Path(env.get("GOSSAMER_CRAWLS") or state / "crawls").expanduser().resolve(),
            parking=parking,
            launcher=launcher,
            kubernetes=Path(kubernetes).expanduser().resolve() if kubernetes else None,
            reports_url=_address(env, "GOSSAMER_REPORTS_URL"),
            mongo_uri=env.get("GOSSAMER_MONGO_URI") or None,
        )

    def environ(self) -> dict[str, str]:
        """The variables that give a child process the same places, whatever its parent's environment says."""
        return {
            "GOSSAMER_SOURCES": str(self.sources),
            "GOSSAMER_LAKE": self.lake,
            "GOSSAMER_WAREHOUSE": str(self.warehouse),
            "GOSSAMER_DBT_PROJECT": str(self.dbt_project),
            "GOSSAMER_CRAWLS": str(self.crawls),
            "GOSSAMER_PARKING": self.parking,
            "GOSSAMER_LAUNCHER": self.launcher,
            "GOSSAMER_KUBERNETES": str(self.kubernetes or ""),
            "GOSSAMER_REPORTS_URL": self.reports_url,
            "GOSSAMER_MONGO_URI": self.mongo_uri or "",
            "DAGSTER_HOME": str(self.dagster_home),
            # Dagster's uploader does not look at `telemetry` in dagster.yaml: it sends what is in $DAGSTER_HOME/logs.
            "DAGSTER_DISABLE_TELEMETRY": "1",
        }


def _one_of(allowed: Sequence[str], env: Mapping[str, str], name: str) -> str:
    """A variable's value; the first of those that it can have, by default."""
    value = env.get(name) or allowed[0]
    if value not in allowed:
        raise ConfigurationError(f"{name} is {value!r}. Use one of: {', '.join(allowed)}.")
    return value


def _address(env: Mapping[str, str], name: str) -> str:
    """A variable's web address without the slash at its end, "" where it is not set."""
    value = (env.get(name) or "").rstrip("/")
    if value and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", value):
        raise ConfigurationError(f"{name} is {value!r}. Write a web address, like https://reports.example.com")
    return value


def _state_of(lake: str) -> Path:
    """Where this machine keeps what belongs to one lake: marts and runs of two lakes must never mix."""
    if "://" in lake:
        name = re.sub(r"[^a-z0-9]+", "-", lake.partition("://")[2].lower()).strip("-")[:60]
        return HOME / f"{name}-{hashlib.sha256(lake.rstrip('/').encode()).hexdigest()[:8]}"
    return HOME if Path(lake) == HOME / "lake" else Path(f"{lake}.state")
