"""An artifact as a Croissant 1.1 dataset (JSON-LD), with where it comes from in PROV-O and the RAI vocabulary.

https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html. Every file is a FileObject with its SHA-256, every
table a FileSet and a RecordSet whose field types are those of the Arrow schema. A list is an array field, a struct has
sub-fields; the fields of a list of structs are taken out of it by JSON path.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from artifacts.audit.licences import licences_of, sources_in, stated
from artifacts.digest import OUTSIDE_CONTENT
from artifacts.errors import RunError
from artifacts.graph import StoreGraph, inputs_first
from artifacts.manifest import Manifest, SourceEntry
from artifacts.store import Artifact
from artifacts.urls import address

VERSION = "http://mlcommons.org/croissant/1.1"
RAI_VERSION = "http://mlcommons.org/croissant/RAI/1.0"
PARQUET = "application/x-parquet"

# The context of the specification's appendix 1, with the two vocabularies that provenance needs.
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}

DATA_TYPES: tuple[tuple[Any, str], ...] = (
    (pa.types.is_string, "sc:Text"),
    (pa.types.is_large_string, "sc:Text"),
    (pa.types.is_boolean, "sc:Boolean"),
    (pa.types.is_int8, "cr:Int8"),
    (pa.types.is_int16, "cr:Int16"),
    (pa.types.is_int32, "cr:Int32"),
    (pa.types.is_int64, "cr:Int64"),
    (pa.types.is_uint8, "cr:UInt8"),
    (pa.types.is_uint16, "cr:UInt16"),
    (pa.types.is_uint32, "cr:UInt32"),
    (pa.types.is_uint64, "cr:UInt64"),
    (pa.types.is_float16, "cr:Float16"),
    (pa.types.is_float32, "cr:Float32"),
    (pa.types.is_float64, "cr:Float64"),
)


def describe(whole: StoreGraph, artifact: Artifact) -> str:
    """The text of `croissant.json` for a folder that holds the artifact's files at their places.

    Raises:
        RunError: a table has a column whose type Croissant cannot say.
    """
    manifest = artifact.manifest
    chain = inputs_first(whole, {artifact, *whole.ancestors(artifact)})
    sources = [source for source in sources_in(artifact.store, manifest) if source is not None]
    made = manifest.run.finished
    value: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [VERSION, RAI_VERSION],
        "name": f"{artifact.stage}-{artifact.recipe}",
        "description": _description(manifest),
        # A dataset without a page of its own is named by what it is; who publishes it puts the address here.
        "url": f"urn:crawl2chat:{artifact.stage}:{manifest.content}",
        "identifier": artifact.ref,
        "version": f"{manifest.stage_version}.0.0+{artifact.recipe}.{artifact.content}",
        "creator": {"@type": "sc:Organization", "name": f"crawl2chat {manifest.code.get('version', '')}".strip()},
        "dateCreated": made,
        "datePublished": made,
        "keywords": ["crawl2chat", artifact.stage],
        "license": [_licence(name) for name in licences_of(artifact)],
        "citeAs": _citation(artifact),
        "prov:wasDerivedFrom": [_source(source) for source in _each_once(sources)],
        "prov:wasGeneratedBy": _activity(manifest),
        **_responsible(chain, sources),
        "distribution": [*_files(manifest), *_sets(manifest)],
        "recordSet": [_records(artifact, table) for table in _tables(manifest)],
    }
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _description(manifest: Manifest) -> str:
    counts = manifest.counts
    account = ""
    if counts.rows_in is not None:
        account = (
            f" Of {counts.rows_in} rows it kept {counts.kept}, dropped {counts.dropped} and could not read "
            f"{counts.failed}."
        )
    return f"What the stage {manifest.stage} of crawl2chat wrote (recipe {manifest.recipe}).{account}"


def _citation(artifact: Artifact) -> str:
    """BibTeX of a dataset that is known by its digest."""
    manifest = artifact.manifest
    return (
        f"@misc{{crawl2chat_{artifact.stage}_{artifact.recipe}, title = {{{artifact.ref}}}, "
        f"year = {{{manifest.run.finished[:4]}}}, note = {{content {manifest.content}}}}}"
    )


def _licence(name: str) -> dict[str, str]:
    """A licence by its name, with its SPDX page if it is a single SPDX licence."""
    work = {"@type": "sc:CreativeWork", "name": name}
    try:
        known = str(canonicalize_license_expression(name))
    except InvalidLicenseExpression:
        return work
    return work | {"url": f"https://spdx.org/licenses/{known}.html"} if " " not in known else work


# --- where it comes from


def _each_once(sources: Iterable[SourceEntry]) -> list[SourceEntry]:
    return list({(source.name, source.sha256): source for source in sources}.values())


def _source(source: SourceEntry) -> dict[str, Any]:
    found: dict[str, Any] = {"@type": "prov:Entity", "name": source.name, "sha256": source.sha256}
    url = address(source.url or "")
    if url is not None:
        found["url"] = url
    found["license"] = stated(source.licence)
    return found


def _activity(manifest: Manifest) -> dict[str, Any]:
    """The execution of the stage; its recipe and inputs, never where or by whom it was run."""
    return {
        "@type": "prov:Activity",
        "name": manifest.stage,
        "identifier": manifest.recipe,
        "prov:startedAtTime": manifest.run.started,
        "prov:endedAtTime": manifest.run.finished,
        "prov:used": [
            {"@type": "prov:Entity", "name": f"{entry.name}: {entry.artifact}", "identifier": entry.content}
            for entry in manifest.inputs
        ],
    }


def _responsible(chain: Sequence[Artifact], sources: Sequence[SourceEntry]) -> dict[str, Any]:
    """RAI: how the data were collected and what was done to them, from the sources and the stages' accounts."""
    roles: dict[str, set[str]] = {}
    for source in sources:
        roles.setdefault(source.role or "file", set()).add(source.manifest or source.name)
    collected = "; ".join(f"{role}: {', '.join(sorted(names))}" for role, names in sorted(roles.items()))
    found: dict[str, Any] = {"rai:dataPreprocessingProtocol": [_step(artifact.manifest) for artifact in chain]}
    if collected:
        found["rai:dataCollection"] = f"Read from {len(_each_once(sources))} files. {collected}"
        found["rai:dataCollectionRawData"] = "; ".join(
            f"{source.name} (SHA-256 {source.sha256})" for source in _each_once(sources)
        )
    lost = [
        f"{artifact.stage}: {artifact.manifest.counts.failed} rows could not be read"
        for artifact in chain
        if artifact.manifest.counts.failed
    ]
    if lost:
        found["rai:dataCollectionMissingData"] = "; ".join(lost)
    return found


def _step(manifest: Manifest) -> str:
    counts = manifest.counts
    if counts.rows_in is None:
        return f"{manifest.stage} ({manifest.recipe})"
    reasons = ", ".join(f"{reason} {number}" for reason, number in counts.reasons.items())
    account = f"{counts.rows_in} rows in, {counts.kept} kept, {counts.dropped} dropped, {counts.failed} failed"
    return f"{manifest.stage} ({manifest.recipe}): {account}" + (f" ({reasons})" if reasons else "")


# --- files


def _files(manifest: Manifest) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "contentUrl": name,
            "contentSize": f"{entry.bytes} B",
            "encodingFormat": _encoding(name),
            "sha256": entry.sha256,
        }
        for name, entry in manifest.files.items()
        if name not in OUTSIDE_CONTENT
    ]


def _encoding(name: str) -> str:
    if name.endswith(".parquet"):
        return PARQUET
    if name.endswith((".warc.gz", ".warc")):
        return "application/warc"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def _tables(manifest: Manifest) -> list[str]:
    """Folders that hold a table, the main one first."""
    names = {name.partition("/")[0] for name in manifest.files if name.endswith(".parquet")}
    return sorted(names, key=lambda name: (name != "data", name))


def _sets(manifest: Manifest) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileSet",
            "@id": f"{table}-files",
            "name": f"{table}-files",
            "description": f"The Parquet files of the table {table}.",
            "encodingFormat": PARQUET,
            "includes": f"{table}/*.parquet",
        }
        for table in _tables(manifest)
    ]


# --- tables


def _records(artifact: Artifact, table: str) -> dict[str, Any]:
    entries = [(name, entry) for name, entry in artifact.manifest.files.items() if name.startswith(f"{table}/")]
    with artifact.store.fs.open(f"{artifact.store.root}/{artifact.folder}/{entries[0][0]}", "rb") as stream:
        schema = pq.read_schema(stream)
    rows = sum(entry.rows or 0 for _, entry in entries)
    return {
        "@type": "cr:RecordSet",
        "@id": table,
        "name": table,
        "description": f"The table {table}: {rows} rows.",
        "field": [_field(table, column) for column in schema],
    }


def _field(table: str, column: pa.Field) -> dict[str, Any]:
    """A column. Raises `RunError` for a type that Croissant has no word for."""
    place = f"{table}/{column.name}"
    source = {"fileSet": {"@id": f"{table}-files"}, "extract": {"column": column.name}}
    inner, shape = column.type, []
    while pa.types.is_list(inner) or pa.types.is_large_list(inner) or pa.types.is_fixed_size_list(inner):
        shape.append(str(inner.list_size if pa.types.is_fixed_size_list(inner) else -1))
        inner = inner.value_type
    found: dict[str, Any] = {"@type": "cr:Field", "@id": place, "name": column.name}
    if shape:
        found |= {"isArray": True, "arrayShape": ",".join(shape)}
    if not pa.types.is_struct(inner):
        return found | {"dataType": _data_type(inner, place), "source": source}
    parts = [inner.field(number) for number in range(inner.num_fields)]
    found["subField"] = [
        {
            "@type": "cr:Field",
            "@id": f"{place}/{part.name}",
            "name": part.name,
            "dataType": _data_type(part.type, f"{place}/{part.name}"),
            "source": source | {"transform": {"jsonPath": part.name}},
        }
        for part in parts
    ]
    return found


def _data_type(kind: pa.DataType, place: str) -> str:
    for is_kind, name in DATA_TYPES:
        if is_kind(kind):
            return name
    raise RunError(f"{place}: Croissant has no data type for {kind}")
