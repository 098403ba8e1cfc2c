"""The external files that stages read, and what of each of them was kept."""

from __future__ import annotations

from collections import Counter
from typing import Any

from artifacts.graph import StoreGraph
from artifacts.query import columns, query
from artifacts.store import Artifact

# How decisions about records name their place in a file: `file:line`, and what there is to say behind a colon.
FILE = "regexp_extract(detail, '^(.+?):[0-9]+(?::|$)', 1)"
# Most details are a place and nothing else, which costs a fourth to see.
FILE = f"case when regexp_full_match(detail, '[^:\\n]+:[0-9]+') then split_part(detail, ':', 1) else {FILE} end"


def files_read(whole: StoreGraph, reader: Artifact) -> list[dict[str, Any]]:
    """The external files that a stage read. A source that is a part of a crawl is that crawl's file of this name."""
    crawled = {
        path.rpartition("/")[2]: (f"{above.ref}/{path}", file)
        for _, above in whole.parents(reader)
        for path, file in above.manifest.files.items()
        if path.startswith(("warc/", "instructions/"))
    }
    found = []
    for source in reader.manifest.sources:
        names = ("name", "manifest", "role", "source", "licence", "url", "sha256", "bytes")
        entry = {"artifact": reader.ref, **source.model_dump(include=set(names))}
        part = source.options.get("part")
        for name in {f"{part}.warc.gz", f"{part}.jsonl"} & crawled.keys():
            place, file = crawled[name]
            entry |= {"name": name, "url": place, "sha256": file.sha256, "bytes": file.bytes}
        found.append(entry)
    return found


def kind_of_records(artifact: Artifact) -> str | None:
    """ "rankings" or "conversations", if its table holds records of instruction or preference files; else None."""
    found = columns(artifact)
    if not artifact.manifest.sources or "prompt_id" not in found or "detail" not in columns(artifact, "decisions"):
        return None
    return "rankings" if {"responses", "ranks"} <= found else "conversations"


def records_by_file(reader: Artifact) -> dict[str, dict[str, int | None]]:
    """File name to its kept records (`conversations` or `rankings`, held-out ones included) and their `prompts`.

    Decisions name the records' places, and conversations by their prompt_id. Rankings have no prompt there: theirs are
    those of the rows of the file's source, and None where files share a source.
    """
    kind = kind_of_records(reader)
    if kind is None:
        return {}
    by_place = f"""
        with records as (
            select {FILE} as file, doc_id, count(*) as kept from t where kept and detail is not null group by all
        )
        select file, sum(kept)::bigint as kept, count(doc_id) as keys from records group by file"""
    kept = {row["file"]: row for row in query(reader, "decisions", by_place)}
    by_source = "select source, count(distinct prompt_id) as prompts from t group by source"
    prompts = {row["source"]: row["prompts"] for row in query(reader, "data", by_source)}
    sharing = Counter(source.source for source in reader.manifest.sources)
    found: dict[str, dict[str, int | None]] = {}
    for file, row in kept.items():
        found[file] = {kind: row["kept"], "prompts": row["keys"]}
    if kind == "rankings":
        for source in reader.manifest.sources:
            alone = sharing[source.source] == 1
            found[source.name] = {
                kind: kept[source.name]["kept"] if source.name in kept else 0,
                "prompts": prompts.get(source.source, 0) if alone else None,
            }
    return found
