"""A fluent datasource of Great Expectations for Polars: `context.data_sources.add_polars(...)`.

Importing this module is what makes `add_polars` be there, and what lets a file context read such a datasource back.
"""

# mypy: disable-error-code="type-arg"

from abc import abstractmethod
from string import Formatter
from typing import Any, ClassVar, Literal

import polars as pl

from gossamer.quality.gx.engine import Frame, PolarsExecutionEngine
from gossamer.quality.gx.private import (
    DATA_CONNECTOR_NAME,
    Batch,
    BatchRequest,
    BuildBatchRequestError,
    DataAsset,
    Datasource,
    IDDict,
    LegacyBatchDefinition,
    RuntimeDataBatchSpec,
    make_batch_identifier,
    pydantic,
)

_Kind = type[PolarsExecutionEngine]  # a datasource's own `type` is a field


class _PolarsAsset(DataAsset):
    """What the assets have in common: a batch is one frame, and its parameters say which."""

    class Config:
        extra = pydantic.Extra.forbid

    @abstractmethod
    def _frame(self, parameters: dict[str, Any]) -> Frame:
        """The frame that a batch's parameters name."""

    def test_connection(self) -> None:
        """Nothing is connected to: a frame is handed in, a file is read when it is validated."""

    def build_batch_request(
        self, options: dict[str, Any] | None = None, batch_slice: Any = None, partitioner: Any = None
    ) -> BatchRequest:
        if batch_slice is not None or partitioner is not None:
            raise BuildBatchRequestError(
                message="Polars assets take no batch_slice and no partitioner: filter the frame."
            )
        given, known = options or {}, set(self.get_batch_parameters_keys())
        if set(given) != known:
            wanted = ", ".join(sorted(known)) or "none"
            raise BuildBatchRequestError(message=f"Batch parameters of asset {self.name}: {wanted}; not {list(given)}.")
        return BatchRequest(datasource_name=self.datasource.name, data_asset_name=self.name, options=given)

    def _validate_batch_request(self, batch_request: BatchRequest) -> None:
        self.build_batch_request(batch_request.options)

    def get_batch_identifiers_list(self, batch_request: BatchRequest) -> list[dict[str, Any]]:
        return [IDDict(batch_request.options)]

    def get_batch(self, batch_request: BatchRequest) -> Batch:
        self._validate_batch_request(batch_request)
        options = batch_request.options
        spec = RuntimeDataBatchSpec(batch_data=self._frame(options))
        data, markers = self.datasource.get_execution_engine().get_batch_data_and_markers(batch_spec=spec)
        return Batch(
            datasource=self.datasource,
            data_asset=self,
            batch_request=batch_request,
            data=data,
            metadata=self._get_batch_metadata_from_batch_request(
                batch_request=batch_request, ignore_options=("dataframe",)
            ),
            batch_markers=markers,
            batch_spec=spec,
            batch_definition=LegacyBatchDefinition(
                datasource_name=self.datasource.name,
                data_connector_name=DATA_CONNECTOR_NAME,
                data_asset_name=self.name,
                batch_identifiers=make_batch_identifier(options),
                batch_spec_passthrough=None,
            ),
        )


class PolarsFrameAsset(_PolarsAsset):
    """A DataFrame or LazyFrame that is handed in at run time: `batch_parameters={"dataframe": frame}`.

    A LazyFrame is executed once for each pass over it, at most four times: cache what is expensive to compute.
    """

    type: Literal["polars_frame"] = "polars_frame"

    def get_batch_parameters_keys(self, partitioner: Any = None) -> tuple[str, ...]:
        return ("dataframe",)

    def build_batch_request(
        self, options: dict[str, Any] | None = None, batch_slice: Any = None, partitioner: Any = None
    ) -> BatchRequest:
        request = super().build_batch_request(options, batch_slice, partitioner)
        self._frame(request.options)
        return request

    def _frame(self, parameters: dict[str, Any]) -> Frame:
        frame = parameters["dataframe"]
        if not isinstance(frame, pl.DataFrame | pl.LazyFrame):
            kind = type(frame).__name__
            raise BuildBatchRequestError(message=f"`dataframe` must be a Polars DataFrame or LazyFrame, not {kind}.")
        return frame

    def add_batch_definition_whole_frame(self, name: str) -> Any:
        """A batch is the whole frame."""
        return self.add_batch_definition(name=name)


class PolarsParquetAsset(_PolarsAsset):
    """Parquet files, read as they are validated and never whole.

    Attributes:
        path: a file, a folder, a pattern (`data/*.parquet`) or a URL that Polars reads. Names in braces are the batch's
            parameters: `data/{day}.parquet` takes `batch_parameters={"day": "2026-11-21"}`.
    """

    type: Literal["polars_parquet"] = "polars_parquet"
    path: str

    def get_batch_parameters_keys(self, partitioner: Any = None) -> tuple[str, ...]:
        return tuple(name for _, name, _, _ in Formatter().parse(self.path) if name)

    def _frame(self, parameters: dict[str, Any]) -> Frame:
        return pl.scan_parquet(self.path.format(**parameters))

    def add_batch_definition_path(self, name: str) -> Any:
        """A batch is what the path names."""
        return self.add_batch_definition(name=name)


class PolarsDatasource(Datasource):
    """Polars frames and Parquet files, validated in Polars.

    Attributes:
        strict: what Polars does not compute fails, rather than going through pandas.
    """

    asset_types: ClassVar[list[type[DataAsset]]] = [PolarsFrameAsset, PolarsParquetAsset]
    type: Literal["polars"] = "polars"
    strict: bool = False
    assets: list[PolarsFrameAsset | PolarsParquetAsset] = []  # noqa: RUF012  a pydantic field

    @property
    def execution_engine_type(self) -> _Kind:
        return PolarsExecutionEngine

    def get_execution_engine(self) -> PolarsExecutionEngine:
        """A new one for each batch: validations of one datasource may run at the same time."""
        return PolarsExecutionEngine(strict=self.strict)

    def test_connection(self, test_assets: bool = True) -> None:
        """Nothing is connected to."""

    def add_frame_asset(self, name: str, batch_metadata: dict[str, Any] | None = None) -> PolarsFrameAsset:
        asset = PolarsFrameAsset(name=name, batch_metadata=batch_metadata or {})
        self._add_asset(asset)
        return asset

    def add_parquet_asset(
        self, name: str, path: str, batch_metadata: dict[str, Any] | None = None
    ) -> PolarsParquetAsset:
        asset = PolarsParquetAsset(name=name, path=path, batch_metadata=batch_metadata or {})
        self._add_asset(asset)
        return asset
