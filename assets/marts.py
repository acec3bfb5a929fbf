"""The dbt models over the published tables as assets `marts/<model>`, their dbt tests as asset checks.

Models are read from dbt's manifest, which `ensure_manifest` makes where it is missing or old. What the models say is in
`dbt_project/`; how dbt finds the published tables is in `gossamer/publish/dbt_plugin.py`. `python -m assets.marts
<source> ...` says what is wrong with the project, for `gossamer check`.
"""

import contextlib
import hashlib
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
        Path(self.environment["GOSSAMER_WAREHOUSE"]).parent.mkdir(parents=True, exist_ok=True)
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
    """The marts whose upstream sources are all declared; none where the shipped dbt project was removed.

    Raises:
        ConfigurationError: there is no dbt project where the settings name one, or dbt or Dagster cannot read it.
    """
    if not (settings.dbt_project / "dbt_project.yml").is_file():
        if settings.dbt_project == PROJECT / "dbt_project":
            return []
        raise ConfigurationError(
            f"There is no dbt project in {settings.dbt_project} (no dbt_project.yml). Mend GOSSAMER_DBT_PROJECT."
        )
    manifest = _read(ensure_manifest(settings))
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    left_out = [model for model in models if not _published_sources(manifest, model["unique_id"]) <= {*source_names}]
    if len(left_out) == len(models):
        return []
    try:
        return [_assets(manifest, left_out)]
    except dg.DagsterError as error:
        raise ConfigurationError(
            f"Dagster cannot make assets of the dbt project {settings.dbt_project}:\n{str(error).strip()}\n"
            "Mend `meta: {dagster: ...}` in its YAML files."
        ) from error


def _assets(manifest: Mapping[str, Any], left_out: Sequence[Mapping[str, Any]]) -> dg.AssetsDefinition:
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

    return marts


def build_dbt_resource(settings: Settings) -> DbtResource:
    """The resource `dbt` of the marts."""
    return DbtResource(
        project_dir=str(settings.dbt_project),
        profiles_dir=str(settings.dbt_project),
        dbt_executable=str(_dbt()),
        environment={**_dbt_environ(settings), "DBT_TARGET_PATH": str(_target(settings))},
    )


def ensure_manifest(settings: Settings) -> Path:
    """dbt's manifest of the project, made anew where a file of the project is younger (some seconds).

    Raises:
        ConfigurationError: dbt refuses the project (the text is dbt's), or there is nowhere to write the manifest.
    """
    changed = _changed(settings.dbt_project)
    for folder in _targets(settings):
        manifest = folder / "manifest.json"
        if manifest.is_file() and manifest.stat().st_mtime > changed:
            return manifest
    target = _target(settings)
    try:
        target.mkdir(parents=True, exist_ok=True)
        # Beside its place and moved there: several processes may load the definitions at once.
        with tempfile.TemporaryDirectory(prefix="parse-", dir=target) as scratch:
            _parse(settings, Path(scratch))
            for name in (PARSED, "manifest.json"):
                (Path(scratch) / name).replace(target / name)
    except OSError as error:
        raise ConfigurationError(
            f"dbt's manifest of {settings.dbt_project} can be written neither there nor to {target}: {error.strerror}. "
            "Make one of them writable."
        ) from error
    return target / "manifest.json"


def _targets(settings: Settings) -> tuple[Path, Path]:
    """Where dbt's output may lie: in the project, or (a read-only checkout or image) in Dagster's home."""
    project = settings.dbt_project
    name = f"{project.name}-{hashlib.sha256(str(project).encode()).hexdigest()[:8]}"
    return project / "target", settings.dagster_home / "dbt" / name


def _target(settings: Settings) -> Path:
    """Where dbt's output is written; tried, because permissions do not tell of a read-only file system."""
    inside, outside = _targets(settings)
    try:
        inside.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=inside):
            return inside
    except OSError:
        return outside


def _read(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} is no manifest of dbt ({error}). Remove it: it is made anew.") from error
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
    return max(path.stat().st_mtime for path in paths if path.exists())  # an editor's lock may be a dangling link


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


if __name__ == "__main__":
    try:
        build_marts(Settings.load(), sys.argv[1:])
    except ConfigurationError as error:
        print(error)
        sys.exit(1)
