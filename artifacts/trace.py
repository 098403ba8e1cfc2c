"""Following rows through training: which optimizer steps read a page, and which files a model has read.

A training stage states in its manifest's metrics how it reads the table of sequences (`reads`): optimizer step s, from
0, reads the rows (first_row + s * rows_per_step + i) mod rows for i < rows_per_step. All else is arithmetic.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from artifacts.errors import RunError
from artifacts.graph import StoreGraph, inputs_first
from artifacts.pages import Page, columns, query, roots
from artifacts.reader import InputTable
from artifacts.store import Artifact


@dataclass(frozen=True)
class Read:
    """How one training stage read one artifact's sequences: rows `offset` to `offset + size` of its input's rows."""

    artifact: Artifact
    offset: int
    size: int
    first_row: int
    rows_per_step: int
    steps: int
    rows: int

    def steps_of(self, row: int) -> list[int]:
        """The optimizer steps that read a row of the artifact, ascending."""
        if self.rows < 1 or self.rows_per_step < 1:
            return []
        distance = (row + self.offset - self.first_row) % self.rows
        return [at // self.rows_per_step for at in range(distance, self.rows_per_step * self.steps, self.rows)]

    def counts(self) -> npt.NDArray[np.int64]:
        """How often each row of the artifact was read."""
        if self.rows < 1:
            return np.zeros(self.size, np.int64)
        total = max(0, self.rows_per_step * self.steps)
        distance = (np.arange(self.size) + self.offset - self.first_row) % self.rows
        return np.asarray(np.maximum(0, -((distance - total) // self.rows)), np.int64)


def reads_of(whole: StoreGraph, model: Artifact) -> list[Read]:
    """What a training stage read of sequences, by its manifest.

    Raises:
        RunError: its `reads` are not of the form described above.
    """
    found = []
    for entry in model.manifest.metrics.get("reads") or []:
        try:
            name = str(entry["input"])
            figures = [int(entry[key]) for key in ("first_row", "rows_per_step", "steps", "rows")]
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{model.ref}: metrics.reads is not of the form that trace reads: {entry!r}") from error
        offset = 0
        for artifact in [above for input_name, above in whole.parents(model) if input_name == name]:
            size = sum(file.rows or 0 for path, file in artifact.manifest.files.items() if path.startswith("data/"))
            found.append(Read(artifact, offset, size, *figures))
            offset += size
    return found


def is_model(artifact: Artifact) -> bool:
    """Whether it holds trained weights (a tokenizer or a fastText classifier is none)."""
    return any(name.startswith("model/") and name.endswith(".safetensors") for name in artifact.manifest.files)


def spans(artifact: Artifact, table: str = "data") -> Iterator[pa.Table]:
    """Its spans, flat, some rows at a time: row (the number in the table), doc_id, start, length, offset."""
    first = 0
    for batch in InputTable(artifact.files(table)).batches(["spans"], rows=16_384):
        lists = batch.column("spans").combine_chunks()
        flat = pc.list_flatten(lists)
        rows = pc.add(pc.cast(pc.list_parent_indices(lists), pa.int64()), first)
        fields = [flat.field(name) for name in ("doc_id", "start", "length", "offset")]
        yield pa.table([rows, *fields], names=["row", "doc_id", "start", "length", "offset"])
        first += batch.num_rows


@dataclass
class _Touch:
    """The steps of one model that read a page, and the tokens of it that they read."""

    steps: set[int] = field(default_factory=set)
    tokens: int = 0

    def row(self, model: Artifact) -> dict[str, Any]:
        return {
            "artifact": model.ref,
            "stage": model.stage,
            "first_step": min(self.steps, default=None),
            "last_step": max(self.steps, default=None),
            "tokens": self.tokens,
        }


def trace_pages(whole: StoreGraph, pages: Sequence[Page]) -> dict[str, Any]:
    """See `artifacts.lineage.trace`."""
    wanted = pa.array([page.doc_id for page in pages if page.doc_id], pa.string())
    below = whole.descendants({page.root for page in pages})
    # Equal tables of two recipes are one table: what follows was trained once.
    holders = list({a.content: a for a in below if "spans" in columns(a)}.values())
    models = [a for a in whole.artifacts if is_model(a)]
    readers = [(model, read) for model in inputs_first(whole, set(models)) for read in reads_of(whole, model)]
    touched: dict[Artifact, _Touch] = defaultdict(_Touch)
    rows_of: dict[str, list[dict[str, Any]]] = defaultdict(list)
    heldout: dict[str, int] = defaultdict(int)
    sequences, holding = 0, []
    for artifact in inputs_first(whole, set(holders)):
        found = _rows_with(artifact, "data", wanted)
        holding += [artifact] if found else []
        sequences += len({row for row, _ in found})
        for (row, doc_id), places in found.items():
            entry: dict[str, Any] = {"artifact": artifact.ref, "row": row, "spans": places, "steps": []}
            for model, read in readers:
                if read.artifact.content == artifact.content and (steps := read.steps_of(row)):
                    entry["steps"].append({"artifact": model.ref, "steps": steps})
                    touched[model].steps.update(steps)
                    touched[model].tokens += len(steps) * sum(place["length"] for place in places)
            rows_of[doc_id].append(entry)
        for row_and_doc in _rows_with(artifact, "heldout", wanted):
            heldout[row_and_doc[1]] += 1
    descended = inputs_first(whole, {a for a in whole.descendants(holding) if is_model(a)})
    documents = [
        {"doc_id": p.doc_id, "url": p.url, "sequences": rows_of[p.doc_id or ""], "heldout": heldout[p.doc_id or ""]}
        for p in pages
    ]
    return {
        "documents": documents,
        "sequences": sequences,
        "models": [touched[model].row(model) for model in descended],
        "sources": _sources_of_pages(whole, pages, rows_of),
    }


def _rows_with(artifact: Artifact, table: str, doc_ids: pa.Array) -> dict[tuple[int, str], list[dict[str, int]]]:
    """(row number, doc_id) to the places in the row that hold the document's tokens, in row order."""
    found: dict[tuple[int, str], list[dict[str, int]]] = {}
    for part in spans(artifact, table) if "spans" in columns(artifact, table) else ():
        for span in part.filter(pc.is_in(part.column("doc_id"), doc_ids)).to_pylist():
            place = {name: span[name] for name in ("start", "length", "offset")}
            found.setdefault((span["row"], span["doc_id"]), []).append(place)
    return found


def _sources_of_pages(
    whole: StoreGraph, pages: Sequence[Page], rows_of: dict[str, list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """The files that the pages were read from; `tokens` are theirs in all tables of sequences."""
    entries: dict[tuple[str, str], dict[str, Any]] = {}
    for page in pages:
        for source in _files_read(whole, page.root):
            if source["name"] == page.warc_file:
                entry = entries.setdefault((page.root.ref, source["name"]), source | {"documents": 0, "tokens": 0})
                entry["documents"] += 1
                rows = rows_of[page.doc_id or ""]
                entry["tokens"] += sum(place["length"] for row in rows for place in row["spans"])
    return list(entries.values())


def trace_artifact(whole: StoreGraph, artifact: Artifact) -> dict[str, Any]:
    """Up: the files that an artifact comes from, with the documents and tokens of each that training (its own and that
    of the models it was made from) has read. Down: itself, if it is a model, and every model made from it."""
    above = inputs_first(whole, {artifact, *whole.ancestors(artifact)})
    reads = [read for model in above for read in reads_of(whole, model)]
    counts: dict[Artifact, npt.NDArray[np.int64]] = {}
    for read in reads:
        counts[read.artifact] = counts.get(read.artifact, np.zeros(read.size, np.int64)) + read.counts()
    if not reads:
        holders = [a for a in above if "spans" in columns(a)]
        counts = {a: np.ones(InputTable(a.files("data")).rows, np.int64) for a in holders}
    tokens = _tokens_by_document(counts)
    sources = []
    for reader in above:
        figures = _figures_by_file(reader, tokens, bool(counts)) if reader in roots(whole) else None
        for source in _files_read(whole, reader):
            key = (source["name"], source["source"])
            documents, amount = (None, None) if figures is None else figures.get(key, (0, 0))
            sources.append(source | {"documents": documents, "tokens": amount if counts else None})
    models = []
    if is_model(artifact):
        own = reads_of(whole, artifact)
        touch = _Touch({step for read in own for step in (0, read.steps - 1) if read.steps > 0})
        touch.tokens = sum(sum(_tokens_by_document({r.artifact: r.counts()}).values()) for r in own)
        models.append(touch.row(artifact))
    below = inputs_first(whole, {a for a in whole.descendants([artifact]) if is_model(a)})
    return {
        "documents": [],
        "sequences": int(sum((c > 0).sum() for c in counts.values())),
        "models": models + [_Touch().row(model) for model in below],
        "sources": sources,
    }


def _tokens_by_document(counts: dict[Artifact, npt.NDArray[np.int64]]) -> dict[str, int]:
    """doc_id to the tokens of it that were read, for tables of sequences and how often each of their rows was read."""
    total: dict[str, int] = defaultdict(int)
    for artifact, often in counts.items():
        for part in spans(artifact):
            read = pa.array(part.column("length").to_numpy() * often[part.column("row").to_numpy()])
            table = pa.table({"doc_id": part.column("doc_id"), "tokens": read})
            table = table.filter(pc.greater(table.column("tokens"), 0))
            for row in table.group_by("doc_id").aggregate([("tokens", "sum")]).to_pylist():
                total[row["doc_id"]] += row["tokens_sum"]
    return total


def _figures_by_file(root: Artifact, tokens: dict[str, int], trained: bool) -> dict[tuple[str, str], tuple[int, int]]:
    """(file, source) to the (documents, tokens) that reached training; without training, all documents of the file."""
    found: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for row in query(root, "data", "select doc_id, warc_file, source from t"):
        if not trained or row["doc_id"] in tokens:
            documents, amount = found[row["warc_file"], row["source"]]
            found[row["warc_file"], row["source"]] = (documents + 1, amount + tokens.get(row["doc_id"], 0))
    return found


def _files_read(whole: StoreGraph, reader: Artifact) -> list[dict[str, Any]]:
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


def trace_prompt(whole: StoreGraph, prompt_id: str) -> dict[str, Any] | None:
    """Where a prompt's conversations, rankings and rollouts lie, and the models made from them. None if nowhere.

    The steps are those of PPO's rollouts: other stages read prompts in an order by hash.
    """
    holders: dict[Artifact, list[str]] = {}
    touched: dict[Artifact, _Touch] = defaultdict(_Touch)
    for artifact in whole.artifacts:
        for table in sorted({name.partition("/")[0] for name in artifact.manifest.files if name.endswith(".parquet")}):
            if "prompt_id" not in columns(artifact, table):
                continue
            step = "step" if "step" in columns(artifact, table) else "null"
            rows = query(artifact, table, f"select {step} as step from t where prompt_id = ?", [prompt_id])
            if rows:
                holders.setdefault(artifact, []).append(table)
                touched[artifact].steps.update(row["step"] for row in rows if row["step"] is not None)
    if not holders:
        return None
    below = {a for a in {*holders, *whole.descendants(holders)} if is_model(a)}
    tables = [{"artifact": a.ref, "tables": names} for a, names in holders.items()]
    return {
        "documents": [{"doc_id": None, "url": None, "prompt_id": prompt_id, "tables": tables}],
        "sequences": 0,
        "models": [touched[model].row(model) for model in inputs_first(whole, below)],
        "sources": [s for a in inputs_first(whole, set(holders)) for s in _files_read(whole, a)],
    }
