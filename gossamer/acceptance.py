"""A person's word that a partition goes to its readers in spite of its failures: who, why, and for which very data.

An acceptance holds for the versions that it names and for no others: data that is made again is judged again. They are
numbered objects `acceptances/<source>/<key>/<number>.json` that are only ever created, so that the record stays whole.
What publication makes of one is in `gossamer.publish`; whether the partition counts as history, in `gossamer.quality`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count

from pydantic import BaseModel, ConfigDict, Field

from gossamer.errors import GossamerError, LakeError
from gossamer.lake import INCOMPLETE, Lake, object_path, stage
from gossamer.manifest import Manifest

#: The layers whose failures can be accepted, in the order in which data passes them.
LAYERS = ("raw", "clean", "enriched")


class AcceptanceError(GossamerError):
    """Nothing can be accepted: no data, no failure, or no reason given."""


class Acceptance(BaseModel):
    """One acceptance.

    Attributes:
        reason: why, in the person's words.
        by: who said so.
        versions: layer -> version of the data whose failures are accepted.
        failures: what had failed, a line each.
        in_history: whether later partitions are measured by this one too.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    partition: str
    reason: str
    by: str
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    versions: dict[str, str]
    failures: tuple[str, ...]
    in_history: bool = False


def read(lake: Lake, source: str, key: str) -> list[Acceptance]:
    """Every acceptance of a partition, oldest first."""
    found = []
    for path in sorted(path for path in lake.paths(_folder(source, key)) if path.endswith(".json")):
        try:
            found.append(Acceptance.model_validate(lake.get_json(path)))
        except ValueError as error:
            raise LakeError(f"{lake.url(path)} is no acceptance ({error}). Remove it, and accept again.") from error
    return found


def holding(lake: Lake, source: str, key: str, manifests: Mapping[str, Manifest]) -> Acceptance | None:
    """The newest acceptance that speaks of the data of any of these layers, None where there is none."""
    spoken = (accepted for accepted in reversed(read(lake, source, key)) if _speaks_of(accepted, manifests))
    return next(spoken, None)


def covers(accepted: Acceptance | None, manifest: Manifest) -> bool:
    """Whether the failed checks of this very data are accepted."""
    return accepted is not None and accepted.versions.get(manifest.layer) == manifest.version


def accept(
    lake: Lake,
    source: str,
    key: str,
    *,
    reason: str,
    by: str,
    in_history: bool = False,
    versions: Mapping[str, str] | None = None,
) -> Acceptance:
    """Records that the failures of a partition's data, as it lies there now, are accepted.

    Args:
        versions: layer -> version of the data that was looked at, of every layer; None takes what lies there.

    Raises:
        AcceptanceError: no reason is given, no blocking check has failed, or other data lies there than was looked at.
        LakeError: a layer's data and verdict do not belong together, or the lake cannot be used.
    """
    if not reason.strip():
        raise AcceptanceError(f"{source}, partition {key}: say why it is accepted; the reason is kept with the data.")
    present = _present(lake, source, key)
    if versions is not None:
        require_same(source, key, versions, {layer: manifest.version for layer, manifest in present.items()})
    failed = {layer: manifest for layer, manifest in present.items() if manifest.refusals()}
    if not failed:
        raise AcceptanceError(
            f"{source}, partition {key}: no blocking check has failed, so there is nothing to accept. "
            f"Materialise published/{source} for this partition."
        )
    accepted = Acceptance(
        source=source,
        partition=key,
        reason=" ".join(reason.split()),
        by=by,
        versions={layer: manifest.version for layer, manifest in failed.items()},
        failures=tuple(line for manifest in failed.values() for line in manifest.refusals()),
        in_history=in_history,
    )
    taken = len(read(lake, source, key))
    for number in count(taken + 1):  # another may be recorded at the same moment
        if lake.create(f"{_folder(source, key)}/{number:06}.json", accepted.model_dump_json(indent=1).encode()):
            break
    return accepted


def adopt(lake: Lake, source: str, key: str, run_id: str = "", version: str | None = None) -> Manifest | None:
    """Makes the rows of a newer crawl whose books did not close the partition's raw rows, verdict and all.

    None where there is no such crawl. What was raw before is gone: its publication is not.

    Raises:
        AcceptanceError: the rows are not those of `version`, which was looked at (None takes any).
        LakeError: data and verdict do not belong together, or the lake cannot be used.
    """
    incomplete, complete = (lake.manifest(layer, source, key) for layer in (INCOMPLETE, "raw"))
    if incomplete is None or (complete and complete.generation >= incomplete.generation):
        return None
    with lake.reading(INCOMPLETE, source, key) as found, stage(lake.scan(INCOMPLETE, source, key)) as staged:
        require_same(source, key, {INCOMPLETE: version or found.version}, {INCOMPLETE: found.version})
        manifest = lake.commit(
            "raw",
            source,
            key,
            staged,
            checks=found.checks,
            inputs=found.inputs,
            code_version=found.code_version,
            crawl_id=found.crawl_id,
            run_id=run_id or found.run_id,
            notes=found.notes,
        )
    if lake.version(INCOMPLETE, source, key) == found.version:  # else a newer one came meanwhile
        for suffix in (".parquet", ".json"):
            lake.delete(object_path(INCOMPLETE, source, key, suffix))
    return manifest


def require_same(source: str, key: str, looked_at: Mapping[str, str], there: Mapping[str, str | None]) -> None:
    """Raises `AcceptanceError` where a layer's version is another than was looked at."""
    layers = [layer for layer in sorted({*looked_at, *there}) if looked_at.get(layer) != there.get(layer)]
    if layers:
        replaced = ", ".join(f"{layer}/{source}" for layer in layers)
        raise AcceptanceError(
            f"{replaced}, partition {key}, was replaced since you looked. Look at its report, and accept it again if "
            "it is right; nothing was accepted."
        )


def _present(lake: Lake, source: str, key: str) -> dict[str, Manifest]:
    """The manifests of the layers that have data."""
    present = (layer for layer in LAYERS if lake.version(layer, source, key) is not None)
    manifests = {layer: lake.current(layer, source, key) for layer in present}
    if not manifests:
        raise AcceptanceError(f"{source}, partition {key}: there is no data to accept. Materialise raw/{source} first.")
    return manifests


def _speaks_of(accepted: Acceptance, manifests: Mapping[str, Manifest]) -> bool:
    return any(covers(accepted, manifest) for manifest in manifests.values())


def _folder(source: str, key: str) -> str:
    return object_path("acceptances", source, key, "")
