"""The dbt models over the published tables as assets `marts/<model>`, their dbt tests as asset checks.

Models are read from dbt's manifest, which `ensure_manifest` makes where it is missing or old. What the models say is in
`dbt_project/`; how dbt finds the published tables is in `gossamer/publish/dbt_plugin.py`.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, dbt_assets

from gossamer.errors import ConfigurationError
from gossamer.settings import PROJECT, Settings

GROUP = "marts"
#: Runs that write the warehouse wait for each other (DuckDB has one writer).
POOL = "warehouse"
PARSE_SECONDS = 120
#: What dbt keeps of a parse: dagster-dbt hands it to each run, which then need not parse again.
PARSED = "partial_parse.msgpack"
#: What dbt reads of a project, besides the YAML files at its top.
PROJECT_FOLDERS = ("models", "tests", "macros", "seeds", "snapshots", "analyses")

#: Rebuild when something upstream was published since the last rebuild, or on the first look where the mart is missing
#: and there is something to build it from. `eager()` would wait until every partition of every source is published.
REFRESH = (
    (dg.AutomationCondition.any_deps_updated() | dg.AutomationCondition.missing().newly_true())
    .since(dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated())
    .with_label("published since the last rebuild")
    & dg.AutomationCondition.any_deps_match(
        ~dg.AutomationCondition.missing() | dg.AutomationCondition.will_be_requested()
    ).with_label("something is published")
    & ~dg.AutomationCondition.in_progress()
    & ~dg.AutomationCondition.any_deps_in_progress()
).with_label("after publications")


class DbtResource(DbtCliResource):
    """dbt with the places of this installation, whatever the environment of the process says."""

    environment: dict[str, str]

    def cli(self, args: Sequence[str], **options: Any) -> Any:
        """As `DbtCliResource.cli`, in `environment`."""
        with _environ(self.environment):
            return super().cli(args, **options)


class _Translator(DagsterDbtTranslator):
    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        if self.get_resource_props(manifest, unique_id)["resource_type"] == "source":
            return spec
        return spec.replace_attributes(group_name=GROUP, kinds={"dbt", "duckdb"}, automation_condition=REFRESH)

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        if dbt_resource_props["resource_type"] == "source":
            return super().get_asset_key(dbt_resource_props)
        return dg.AssetKey([GROUP, dbt_resource_props["name"]])


def build_marts(settings: Settings, source_names: Collection[str]) -> list[dg.AssetsDefinition]:
    """The marts whose upstream sources are all declared; none where there is no dbt project.

    Raises:
        ConfigurationError: dbt cannot read the project.
    """
    if not (settings.dbt_project / "dbt_project.yml").is_file():
        return []
    manifest: dict[str, Any] = json.loads(ensure_manifest(settings).read_text())
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    left_out = [model for model in models if not _published_sources(manifest, model["unique_id"]) <= {*source_names}]
    if len(left_out) == len(models):
        return []

    @dbt_assets(
        manifest=manifest,
        exclude=" ".join(f"fqn:{'.'.join(model['fqn'])}" for model in left_out) or None,
        name="dbt_marts",
        dagster_dbt_translator=_Translator(),
        pool=POOL,
    )
    def marts(context: dg.OpExecutionContext, dbt: DbtResource) -> Iterator[Any]:
        # A test that reads two models runs only when both are there: built now, or before what is built now.
        invocation = dbt.cli(["build", "--indirect-selection", "buildable"], context=context)
        yield from invocation.stream()
        shutil.rmtree(invocation.target_path)  # stays only after a failed run: dbt's log is in it

    return [marts]


def build_dbt_resource(settings: Settings) -> DbtResource:
    """The resource `dbt` of the marts."""
    return DbtResource(
        project_dir=str(settings.dbt_project),
        profiles_dir=str(settings.dbt_project),
        dbt_executable=str(_dbt()),
        environment=_dbt_environ(settings),
    )


def ensure_manifest(settings: Settings) -> Path:
    """dbt's manifest of the project, made anew where a file of the project is younger (some seconds).

    Raises:
        ConfigurationError: dbt refuses the project; the text is dbt's.
    """
    manifest = settings.dbt_project / "target" / "manifest.json"
    if manifest.is_file() and manifest.stat().st_mtime > _changed(settings.dbt_project):
        return manifest
    manifest.parent.mkdir(exist_ok=True)
    # Beside its place and moved there: several processes may load the definitions at once.
    with tempfile.TemporaryDirectory(prefix="parse-", dir=manifest.parent) as folder:
        _parse(settings, Path(folder))
        for name in (PARSED, manifest.name):
            (Path(folder) / name).replace(manifest.with_name(name))
    return manifest


def _parse(settings: Settings, target: Path) -> None:
    place = ["--project-dir", str(settings.dbt_project), "--profiles-dir", str(settings.dbt_project)]
    command = [str(_dbt()), "--no-use-colors", "parse", *place, "--target-path", str(target), "--log-path", str(target)]
    environment = {**os.environ, **_dbt_environ(settings)}
    try:
        run = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PARSE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigurationError(
            f"dbt parse of {settings.dbt_project} took more than {PARSE_SECONDS} s. Run `dbt parse` there and see why."
        ) from error
    if run.returncode != 0:
        said = "\n".join((run.stdout + run.stderr).strip().splitlines()[-15:])
        raise ConfigurationError(
            f"dbt cannot read the project {settings.dbt_project} (dbt parse, exit code {run.returncode}):\n{said}\n"
            "Mend the file that dbt names."
        )


def _changed(project: Path) -> float:
    """When a file or folder of the project changed last; a folder changes when a file in it is removed."""
    paths = [*project.glob("*.yml"), *(path for name in PROJECT_FOLDERS for path in (project / name).rglob("*"))]
    paths += [project / name for name in PROJECT_FOLDERS if (project / name).is_dir()]
    return max(path.stat().st_mtime for path in paths)


def _published_sources(manifest: Mapping[str, Any], unique_id: str) -> set[str]:
    """The published sources that a model reads, directly or through other models."""
    if source := manifest["sources"].get(unique_id):
        key = source["meta"].get("dagster", {}).get("asset_key", [])
        return {key[1]} if key[:1] == ["published"] else set()
    above = manifest["nodes"].get(unique_id, {}).get("depends_on", {}).get("nodes", [])
    return {name for parent in above for name in _published_sources(manifest, parent)}


def _dbt() -> Path:
    """The dbt of this very Python: PATH may name another one, or none."""
    dbt = Path(sys.executable).with_name("dbt")
    if not dbt.exists():
        raise ConfigurationError(f"There is no dbt beside {sys.executable}. Run `make setup`.")
    return dbt


def _dbt_environ(settings: Settings) -> dict[str, str]:
    """What dbt needs to know; the connection string of MongoDB, a secret, is none of it."""
    places = {name: value for name, value in settings.environ().items() if name != "GOSSAMER_MONGO_URI"}
    paths = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]  # dbt imports gossamer's plugin
    return {**places, "PYTHONPATH": os.pathsep.join(paths), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}


@contextlib.contextmanager
def _environ(variables: Mapping[str, str]) -> Iterator[None]:
    """`variables` in this process' environment: dagster-dbt hands that on to dbt and reads it itself."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
