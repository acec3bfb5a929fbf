"""The lake as Dagster sees it: a resource, and the IO manager of the layers below `published`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dagster as dg
import polars as pl

from gossamer.lake import Lake, Staged, stage
from gossamer.manifest import CheckResult
from resources import failures


class LakeResource(dg.ConfigurableResource[Lake]):
    """A folder, or `s3://bucket/prefix` with endpoint and credentials in the standard AWS_* variables."""

    uri: str

    def create_resource(self, context: dg.InitResourceContext) -> Lake:
        return Lake(self.uri)


@dataclass(frozen=True)
class Dataset:
    """Staged rows with their verdict: both are committed together, so that neither is ever seen alone."""

    staged: Staged
    checks: Sequence[CheckResult] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, Any] = field(default_factory=dict)


class LakeIOManager(dg.ConfigurableIOManager):
    """Keeps an asset `[layer, source]` as one Parquet object a partition, and reads it as a LazyFrame.

    An asset gives a `Dataset`, or a plain LazyFrame or DataFrame (without verdict). An input over several partitions is
    their rows one after another, with the column `partition_key`; columns that a partition lacks are null.
    """

    uri: str

    @cached_property
    def lake(self) -> Lake:
        return Lake(self.uri)

    def handle_output(self, context: dg.OutputContext, obj: Dataset | pl.LazyFrame | pl.DataFrame) -> None:
        layer, source = context.asset_key.path
        if isinstance(obj, Dataset):
            self._commit(layer, source, context, obj)
            return
        with stage(obj) as staged:
            self._commit(layer, source, context, Dataset(staged))

    def _commit(self, layer: str, source: str, context: dg.OutputContext, data: Dataset) -> None:
        key = context.partition_key
        with failures.named():
            self.lake.commit(
                layer,
                source,
                key,
                data.staged,
                checks=data.checks,
                inputs=data.inputs,
                run_id=context.run_id,
                **data.known,
            )
        context.log.info(f"{layer}/{source}, partition {key}: {data.staged.rows} rows committed")

    def load_input(self, context: dg.InputContext) -> pl.LazyFrame:
        layer, source = context.asset_key.path
        keys = list(context.asset_partition_keys)
        with failures.named():
            if len(keys) == 1:
                return self.lake.scan(layer, source, keys[0])
            frames = [self.lake.scan(layer, source, key).with_columns(partition_key=pl.lit(key)) for key in keys]
            return pl.concat(frames, how="diagonal")
