"""Artifacts and sources as OpenLineage datasets: their names, schemas, statistics, and which column came from which.

A dataset is one table (or the model) of one artifact, named by its path: `file` and `/a/dedup/<recipe>.<content>/data`,
or `s3://bucket` and `a/dedup/<recipe>.<content>/data`. Its symlink `dedup/data` is the same for every build, for
catalogues that gather versions. A source is named by its URL; one without a URL by its data manifest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    DatasetFacet,
    column_lineage_dataset,
    data_quality_metrics_dataset,
    data_quality_metrics_input_dataset,
    dataset_type_dataset,
    dataset_version_dataset,
    datasource_dataset,
    input_statistics_input_dataset,
    output_statistics_output_dataset,
    schema_dataset,
    set_producer,
    symlinks_dataset,
    tags_dataset,
)

from artifacts.digest import SHORT
from artifacts.errors import RunError, UserError
from artifacts.exchange.columns import ABOUT, TRANSFORMATION, derivations, kind_of
from artifacts.manifest import Manifest, SourceEntry
from artifacts.store import Artifact, Store
from artifacts.urls import address

NAMESPACE = "crawl2chat"


def _version() -> str:
    try:
        return metadata.version("crawl2chat")
    except metadata.PackageNotFoundError:
        return "unknown"


# Every event and facet names its producer: this program, as a package URL, and not the client library.
set_producer(f"pkg:generic/crawl2chat@{_version()}")


@dataclass(frozen=True)
class Column:
    """What the Parquet footers know of a column: nulls, and the extremes of numbers."""

    nulls: int | None
    least: float | None
    most: float | None


@dataclass(frozen=True)
class Part:
    """One folder of an artifact: a table (with a schema) or other files, such as a model."""

    artifact: Artifact
    name: str
    rows: int | None
    bytes: int
    files: int
    schema: pa.Schema | None
    columns: Mapping[str, Column] = field(default_factory=dict)

    @property
    def kind(self) -> str | None:
        return kind_of(self.schema) if self.schema is not None else None


def parts(artifact: Artifact) -> tuple[Part, ...]:
    """The folders of an artifact in the manifest's order. Reads the footers of its Parquet files, and no row.

    Raises:
        RunError, UserError, OSError, pa.ArrowInvalid: it is damaged, or gone.
    """
    return _parts(artifact.store.url, artifact.stage, artifact.recipe, artifact.content)


@lru_cache(maxsize=256)  # an artifact never changes, and is an input of several others
def _parts(url: str, stage: str, recipe: str, content: str) -> tuple[Part, ...]:
    artifact = Artifact(Store(url), stage, recipe, content)
    manifest = artifact.manifest
    folders: dict[str, list[str]] = {}
    for name in manifest.files:
        top, slash, _ = name.partition("/")
        if slash:
            folders.setdefault(top, []).append(name)
    found = []
    for top, names in folders.items():
        entries = [manifest.files[name] for name in names]
        tables = [name for name in names if name.endswith(".parquet")]
        schema, columns = _footers(artifact, tables) if tables else (None, {})
        rows = sum(entry.rows or 0 for entry in entries) if tables else None
        found.append(Part(artifact, top, rows, sum(entry.bytes for entry in entries), len(names), schema, columns))
    return tuple(found)


def _footers(artifact: Artifact, names: list[str]) -> tuple[pa.Schema, dict[str, Column]]:
    footers = []
    for name in names:
        with artifact.store.fs.open(f"{artifact.store.root}/{artifact.folder}/{name}", "rb") as stream:
            footers.append(pq.read_metadata(stream))
    schema = footers[0].schema.to_arrow_schema().remove_metadata()
    return schema, {name: _column(footers, name) for name in schema.names}


def _column(footers: list[pq.FileMetaData], name: str) -> Column:
    nulls: int | None = 0
    numbers: list[float] = []
    for footer in footers:
        places = [place for place in range(footer.num_columns) if footer.schema.column(place).path == name]
        if not places:  # a list or a struct: its leaves count other things than rows
            return Column(None, None, None)
        for group in range(footer.num_row_groups):
            statistics = footer.row_group(group).column(places[0]).statistics
            if statistics is None or not statistics.has_null_count:
                nulls = None
            elif nulls is not None:
                nulls += statistics.null_count
            if statistics is not None and statistics.has_min_max:
                numbers += [value for value in (statistics.min, statistics.max) if isinstance(value, int | float)]
    return Column(nulls, float(min(numbers)), float(max(numbers))) if numbers else Column(nulls, None, None)


# --- names


def place(store: Store) -> tuple[str, str]:
    """(namespace, path) of a store, as OpenLineage names file systems and buckets."""
    if not store.remote:
        return "file", store.url
    scheme, _, rest = store.url.partition("://")
    authority, _, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if at and ":" in user:  # a password; a user without one is a container of an Azure store
        authority = host
    return f"{scheme}://{authority}", path


def name_of(store: Store, folder: str, part: str) -> tuple[str, str]:
    """(namespace, name) of the dataset that is one folder of an artifact."""
    namespace, path = place(store)
    return namespace, "/".join(piece for piece in (path.rstrip("/"), folder, part) if piece)


def source_name(source: SourceEntry) -> tuple[str, str]:
    """(namespace, name) of an external file: its URL without credentials, or its place in its data manifest."""
    found = address(source.url or "")
    if found is not None:
        url = urlsplit(found)
        return f"{url.scheme}://{url.netloc}", url.path.lstrip("/") or "/"
    return NAMESPACE, f"sources/{source.manifest}/{source.name}" if source.manifest else f"sources/{source.name}"


# --- datasets


def source_dataset(source: SourceEntry) -> InputDataset:
    """An external file as an input: its hash is its version, its licence and role are tags."""
    namespace, name = source_name(source)
    facets: dict[str, DatasetFacet] = {
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(f"sha256:{source.sha256}"),
        "datasetType": dataset_type_dataset.DatasetTypeDatasetFacet("FILE"),
        "tags": _tags(licence=source.licence, role=source.role, source=source.source, manifest=source.manifest),
    }
    url = address(source.url or "")
    if url is not None:
        facets["dataSource"] = datasource_dataset.DatasourceDatasetFacet(source.name, url)
    statistics = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(size=source.bytes, fileCount=1)
    return InputDataset(namespace, name, {"inputStatistics": statistics}, facets=facets)


def input_datasets(artifact: Artifact) -> list[InputDataset]:
    """What a stage may have read of an artifact: its tables and its model, without the tables about how it was made.

    An artifact that is gone or damaged is still named, by its folder.
    """
    try:
        found = [part for part in parts(artifact) if part.kind not in ABOUT]
        # What is no table beside documents (a model that judged them, an index of them) tells how they were made.
        if any(part.kind == "documents" for part in found):
            found = [part for part in found if part.schema is not None]
    except (OSError, RunError, UserError, pa.ArrowInvalid):
        namespace, name = name_of(artifact.store, artifact.folder, "")
        return [InputDataset(namespace, name)]
    datasets = []
    for part in found:
        namespace, name = name_of(artifact.store, artifact.folder, part.name)
        statistics = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(part.rows, part.bytes, part.files)
        quality = data_quality_metrics_input_dataset.DataQualityMetricsInputDatasetFacet(
            {
                name: data_quality_metrics_input_dataset.ColumnMetrics(**figures)
                for name, figures in _figures(part).items()
            },
            part.rows,
            part.bytes,
            part.files,
        )
        given = {"inputStatistics": statistics, "dataQualityMetrics": quality}
        datasets.append(InputDataset(namespace, name, given, facets=_facets(part)))
    return datasets


def output_datasets(artifact: Artifact, wrote: bool = True) -> list[OutputDataset]:
    """The tables and other folders of an artifact. `wrote=False`: it was reused, so nothing was written."""
    datasets = []
    for part in parts(artifact):
        namespace, name = name_of(artifact.store, artifact.folder, part.name)
        facets = _facets(part)
        facets["dataQualityMetrics"] = data_quality_metrics_dataset.DataQualityMetricsDatasetFacet(
            {name: data_quality_metrics_dataset.ColumnMetrics(**figures) for name, figures in _figures(part).items()},
            part.rows,
            part.bytes,
            part.files,
        )
        lineage = column_lineage(part)
        if lineage is not None:
            facets["columnLineage"] = lineage
        statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            part.rows, part.bytes, part.files
        )
        datasets.append(
            OutputDataset(namespace, name, {"outputStatistics": statistics} if wrote else {}, facets=facets)
        )
    return datasets


def given_artifacts(artifact: Artifact) -> list[tuple[str, Artifact]]:
    """(input name, artifact) as the manifest names them, whether or not they are still in the store."""
    found = []
    for entry in artifact.manifest.inputs:
        stage, _, recipe = entry.artifact.partition("@")
        found.append((entry.name, Artifact(artifact.store, stage, recipe, entry.content[:SHORT])))
    return found


def column_lineage(part: Part) -> column_lineage_dataset.ColumnLineageDatasetFacet | None:
    """Which input columns each column of a table derives from; None where nothing is known.

    Where several inputs hold tables of one kind, the first input is the one that is passed on (dedup's `documents`, not
    the earlier crawls in `against`).
    """
    if part.schema is None:
        return None
    fields: dict[str, list[column_lineage_dataset.InputField]] = {}
    input_of: dict[str, str] = {}
    for name, given in given_artifacts(part.artifact):
        for table in _read_tables(given):
            kind = table.kind or ""
            if table.schema is None or kind in ABOUT or input_of.setdefault(kind, name) != name:
                continue
            # Held-out rows are told apart by a table of their own: they go into tables of that name alone.
            if table.name != "data" and table.name != part.name:
                continue
            where = name_of(given.store, given.folder, table.name)
            for rule in derivations(part.schema, table.schema, part.artifact.manifest.metrics):
                way = column_lineage_dataset.Transformation("DIRECT", rule.subtype, masking=False)
                origin = column_lineage_dataset.InputField(*where, rule.origin, [way])
                fields.setdefault(rule.column, []).append(origin)
    if not fields:
        return None
    return column_lineage_dataset.ColumnLineageDatasetFacet(
        {
            name: column_lineage_dataset.Fields(
                origins, transformationType="IDENTITY" if _all_identity(origins) else None
            )
            for name, origins in fields.items()
        }
    )


def _all_identity(origins: Iterable[column_lineage_dataset.InputField]) -> bool:
    ways = [way for origin in origins for way in origin.transformations or []]
    return all(way.subtype != TRANSFORMATION for way in ways)


def _read_tables(artifact: Artifact) -> tuple[Part, ...]:
    try:
        return parts(artifact)
    except (OSError, RunError, UserError, pa.ArrowInvalid):
        return ()


# --- facets


def _facets(part: Part) -> dict[str, DatasetFacet]:
    manifest = part.artifact.manifest
    kind = "MODEL" if part.name == "model" else "TABLE" if part.schema is not None else "FILE"
    namespace, _ = place(part.artifact.store)
    stable = symlinks_dataset.Identifier(NAMESPACE, f"{part.artifact.stage}/{part.name}", kind)
    facets: dict[str, DatasetFacet] = {
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(manifest.content),
        "datasetType": dataset_type_dataset.DatasetTypeDatasetFacet(kind),
        "dataSource": datasource_dataset.DatasourceDatasetFacet(namespace, _uri(part.artifact.store)),
        "symlinks": symlinks_dataset.SymlinksDatasetFacet([stable]),
        "tags": _tags(**_licences(manifest)),
    }
    if part.schema is not None:
        facets["schema"] = schema_dataset.SchemaDatasetFacet(schema_fields(part.schema))
    return facets


def _licences(manifest: Manifest) -> dict[str, str | None]:
    names = sorted({source.licence for source in manifest.sources if source.licence})
    return {"stage": manifest.stage, "recipe": manifest.recipe, "licences": ", ".join(names) or None}


def _uri(store: Store) -> str:
    namespace, path = place(store)
    return f"file://{path}" if namespace == "file" else f"{namespace}/{path}"


def _tags(**values: str | None) -> tags_dataset.TagsDatasetFacet:
    return tags_dataset.TagsDatasetFacet(
        [tags_dataset.TagsDatasetFacetFields(key, value, "CRAWL2CHAT") for key, value in values.items() if value]
    )


def _figures(part: Part) -> dict[str, dict[str, Any]]:
    """Column metrics, for the columns of which the footers know something."""
    found: dict[str, dict[str, Any]] = {}
    for name, column in part.columns.items():
        if column.nulls is not None and part.rows is not None:
            found[name] = {"nullCount": column.nulls, "count": float(part.rows - column.nulls)}
            found[name] |= {} if column.least is None else {"min": column.least, "max": column.most}
    return found


def schema_fields(schema: pa.Schema) -> list[schema_dataset.SchemaDatasetFacetFields]:
    """The columns with their Arrow types; structs and lists are nested, a list's element is `_element`."""
    return [_field(schema.field(place), place + 1) for place in range(len(schema))]


def _field(column: pa.Field, position: int | None = None) -> schema_dataset.SchemaDatasetFacetFields:
    kind, inner = column.type, []
    if pa.types.is_struct(kind):
        name, inner = "struct", [_field(kind.field(place)) for place in range(kind.num_fields)]
    elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        name, inner = "array", [_field(pa.field("_element", kind.value_type))]
    else:
        name = str(kind)
    return schema_dataset.SchemaDatasetFacetFields(column.name, name, ordinal_position=position, fields=inner)
