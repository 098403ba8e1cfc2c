"""Dedup: one survivor for every group of equal or nearly equal documents.

Exact duplicates share a BLAKE2b-128 of the normalised text. Near-duplicates are found by MinHash-LSH (Broder 1997;
Leskovec, Rajaraman and Ullman, chapter 3), with the permutations of datasketch 2.0, and decided by the exact Jaccard
similarity of their shingle sets. Who survives is a total order over the rows' contents, so neither the order of the
input nor the number of shards or processes changes the outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from artifacts.errors import RunError
from artifacts.reader import InputTable
from artifacts.tables import DECISIONS, DOCUMENTS, PAIRS, SIGNATURES
from tasks.dedup.clusters import Comparison, Ints, bucket_nodes, compare_nodes
from tasks.dedup.config import DedupConfig
from tasks.dedup.earlier import Earlier, check_against, find_earlier
from tasks.dedup.minhash import PERMUTATION_SEED, SCHEME, Signature, band_keys, candidate_probability
from tasks.dedup.signing import Signed, SignTask, shingle_rows, shingle_tasks, sign_shard
from tasks.dedup.spill import Spill
from tasks.stage import Stage, StageContext, Summary
from tasks.text.shingles import Hashes

EXACT, NEAR = "exact_duplicate", "near_duplicate"
ROWS_A_BATCH = 2_048


def run(context: StageContext) -> Summary:
    """Write the survivors, a decision a document, the compared pairs and the survivors' signatures."""
    config: DedupConfig = context.config
    check_against(context)
    documents = context.input("documents")
    with Spill(context.work / "signatures.u32", np.uint32, config.permutations) as spill:
        signed = _sign(context, documents, spill)
        rows = documents.read(["doc_id", "source", "warc_file", "warc_offset"])
        order = survivor_order(rows, signed.characters, config.prefer)
        twins = _group_twins(signed.text_hash, order)
        nodes, comparison = _compare(context, documents, signed, order, twins)
        outcome = _decide(rows.num_rows, twins, nodes, comparison)
        ids = pa.concat_arrays([_strings(rows.column("doc_id")), pa.array(nodes.other_ids, pa.string())])
        metrics = _metrics(config, signed, outcome, nodes, comparison)
        _alarm(config, outcome, ids)
        _write_documents(context, documents, signed, outcome, ids)
        _write_pairs(context, nodes, comparison, ids)
    return Summary(metrics=metrics)


def survivor_order(rows: pa.Table, characters: Ints, prefer: Sequence[str]) -> Ints:
    """Row numbers, best first: source as in `prefer`, then the longest text, then the smallest doc_id.

    Rows of one doc_id (the same record read twice) follow by source, WARC file and offset.
    """
    place = pc.index_in(rows.column("source"), value_set=pa.array(prefer, pa.string()))
    ranked = rows.append_column("characters", pa.array(characters)).append_column(
        "place", pc.fill_null(place, len(prefer))
    )
    keys = [("place", "ascending"), ("characters", "descending")]
    keys += [(name, "ascending") for name in ("doc_id", "source", "warc_file", "warc_offset")]
    found: Ints = pc.sort_indices(ranked, sort_keys=keys).to_numpy().astype(np.int64)
    return found


@dataclass(frozen=True)
class _Twins:
    """Exact duplicates: `first` maps a row to the best row with its text hash; `best` lists those rows, best first."""

    first: Ints
    best: Ints
    hashes: NDArray[np.bytes_]  # distinct, ascending
    row_of_hash: Ints


def _group_twins(text_hash: NDArray[np.bytes_], order: Ints) -> _Twins:
    hashes, index, inverse = np.unique(text_hash[order], return_index=True, return_inverse=True)
    first = np.empty(len(order), dtype=np.int64)
    first[order] = order[index[inverse]] if len(order) else order
    return _Twins(first, order[np.sort(index)], hashes, order[index])


def _sign(context: StageContext, documents: InputTable, spill: Spill) -> Signed:
    config: DedupConfig = context.config
    tasks = [SignTask(shard, config.shingle, config.permutations) for shard in documents.shards(ROWS_A_BATCH)]
    parts = []
    for part in context.map_with_progress(sign_shard, tasks, "signing documents"):
        spill.append(part.signatures)
        parts.append((part.text_hash, part.characters, part.shingles))
    if not parts:
        return Signed(np.empty(0, "S32"), np.empty(0, np.int64), np.empty(0, np.int32), spill.array())
    hashes, characters, shingles = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Signed(hashes, characters, shingles, spill.array())


@dataclass(frozen=True)
class _Nodes:
    """The documents that were compared, in survivor order, and the earlier ones that were exact duplicates.

    `index` numbers documents as in the ids table: this run's rows, then `other_ids`. The first `fixed` nodes are
    earlier documents. `exact` maps rows (best of their twins) to the index of the earlier document they equal.
    """

    index: Ints
    fixed: int
    other_ids: list[str]
    exact: dict[int, int]
    earlier_documents: int


def _compare(
    context: StageContext, documents: InputTable, signed: Signed, order: Ints, twins: _Twins
) -> tuple[_Nodes, Comparison]:
    config: DedupConfig = context.config
    best = twins.best[signed.shingles[twins.best] > 0]
    keys = _keys(signed.signatures, best, config)
    earlier = find_earlier(context, twins.hashes, keys)
    total = len(order)
    other_ids = earlier.doc_ids + [earlier.exact[key] for key in sorted(earlier.exact)]
    exact = {
        int(twins.row_of_hash[np.searchsorted(twins.hashes, key)]): total + len(earlier.doc_ids) + place
        for place, key in enumerate(sorted(earlier.exact))
    }
    fresh = ~np.isin(best, list(exact)) if exact else np.ones(len(best), dtype=np.bool_)
    best, keys = best[fresh], keys[fresh]
    index = np.concatenate([np.arange(len(earlier.rows), dtype=np.int64) + total, best])
    buckets = bucket_nodes(np.concatenate([earlier.keys, keys]))
    chosen = np.flatnonzero(buckets.members)
    fixed = int(np.searchsorted(chosen, len(earlier.rows)))
    buckets = type(buckets)(buckets.ids[chosen], buckets.starts)
    nodes = _Nodes(index[chosen], fixed, other_ids, exact, earlier.documents)
    with Spill(context.work / "shingles.u64", np.uint64) as spill:
        begins, ends = _shingle_sets(context, documents, earlier, nodes, total, spill)
        comparison = compare_nodes(
            buckets, spill.array(), begins, ends, fixed, config.threshold,
            lambda done, count: context.progress(done, count, "comparing candidates"),
        )  # fmt: skip
    return nodes, comparison


def _keys(signatures: Signature, rows: Ints, config: DedupConfig) -> Hashes:
    keys = np.empty((len(rows), config.bands), dtype=np.uint64)
    for start in range(0, len(rows), 65_536):
        keys[start : start + 65_536] = band_keys(signatures[rows[start : start + 65_536]], config.bands, config.rows)
    return keys


def _shingle_sets(
    context: StageContext, documents: InputTable, earlier: Earlier, nodes: _Nodes, total: int, spill: Spill
) -> tuple[Ints, Ints]:
    """Spill the nodes' shingle sets; returns where each begins and ends."""
    begins = np.zeros(len(nodes.index), dtype=np.int64)
    ends = np.zeros(len(nodes.index), dtype=np.int64)
    groups = [(nodes.index[nodes.fixed :], nodes.fixed, documents)]
    if nodes.fixed:
        groups.append((earlier.rows[nodes.index[: nodes.fixed] - total], 0, context.input("against")))
    for rows, first_node, table in groups:
        ascending = np.argsort(rows, kind="stable")
        tasks = shingle_tasks(table.shards(ROWS_A_BATCH), rows[ascending], context.config.shingle)
        done = 0
        for part in context.map_with_progress(shingle_rows, tasks, "shingles of candidates"):
            at = first_node + ascending[done : done + len(part.lengths)]
            ends[at] = spill.rows + np.cumsum(part.lengths)
            begins[at] = ends[at] - part.lengths
            spill.append(part.shingles)
            done += len(part.lengths)
    return begins, ends


@dataclass(frozen=True)
class _Outcome:
    """One entry a row: kept or not, why, how similar to which document (index into the ids, −1 none), its cluster."""

    kept: NDArray[np.bool_]
    exact: NDArray[np.bool_]
    score: NDArray[np.float64]
    detail: Ints
    cluster: Ints


def _decide(total: int, twins: _Twins, nodes: _Nodes, comparison: Comparison) -> _Outcome:
    kept = np.ones(total, dtype=np.bool_)
    exact = np.zeros(total, dtype=np.bool_)
    score = np.full(total, np.nan)
    detail = np.full(total, -1, dtype=np.int64)
    cluster = np.arange(total, dtype=np.int64)
    own = np.arange(nodes.fixed, len(nodes.index))
    rows = nodes.index[own]
    kept[rows] = comparison.kept[own]
    score[rows] = comparison.similarity[own]
    detail[rows] = np.where(comparison.kept[own], -1, nodes.index[comparison.nearest[own]])
    cluster[rows] = nodes.index[comparison.cluster[own]]
    for row, other in nodes.exact.items():
        kept[row], exact[row], score[row], detail[row], cluster[row] = False, True, 1.0, other, other
    # A twin of a survivor falls to it; a twin of a dropped document falls to the same survivor, for the same reason.
    twin = twins.first != np.arange(total)
    first = twins.first[twin]
    fallen = ~kept[first]
    kept[twin] = False
    exact[twin] = np.where(fallen, exact[first], True)
    score[twin] = np.where(fallen, score[first], 1.0)
    detail[twin] = np.where(fallen, detail[first], first)
    cluster[twin] = cluster[first]
    return _Outcome(kept, exact, score, detail, cluster)


def _alarm(config: DedupConfig, outcome: _Outcome, ids: pa.Array) -> None:
    lost_in, lost = np.unique(outcome.cluster[~outcome.kept], return_counts=True)
    if not len(lost):
        return
    worst = int(np.argmax(lost))
    total = len(outcome.kept)
    if lost[worst] > config.max_cluster_documents and lost[worst] > config.max_cluster_share * total:
        raise RunError(
            f"dedup: one cluster of duplicates, around {ids[int(lost_in[worst])]}, would lose {lost[worst]} of {total} "
            f"documents, more than dedup.max_cluster_share = {config.max_cluster_share}. Look at that page (an error "
            "page? a broken extraction?); set dedup.max_cluster_share to 1.0 if it is right"
        )


def _metrics(
    config: DedupConfig, signed: Signed, outcome: _Outcome, nodes: _Nodes, comparison: Comparison
) -> dict[str, object]:
    # Clusters count this run's documents, and the earlier ones they were compared with and found equal to.
    counted, sizes = np.unique(outcome.cluster, return_counts=True)
    sizes = sizes + (counted >= len(outcome.kept))
    dropped = ~outcome.kept
    return {
        "documents": len(outcome.kept),
        "documents_without_words": int((signed.shingles == 0).sum()),
        "exact_duplicates": int((dropped & outcome.exact).sum()),
        "near_duplicates": int((dropped & ~outcome.exact).sum()),
        "earlier_documents": nodes.earlier_documents,
        "candidate_pairs": len(comparison.jaccard),
        "accepted_pairs": int((comparison.jaccard >= config.threshold).sum()),
        "clusters": int((sizes > 1).sum()),
        "largest_cluster": int(sizes.max(initial=0)),
        "largest_loss": int(np.unique(outcome.cluster[dropped], return_counts=True)[1].max(initial=0)),
        "candidate_probability_at_threshold": candidate_probability(config.threshold, config.bands, config.rows),
        "candidate_probability": {
            f"{step / 10:.1f}": candidate_probability(step / 10, config.bands, config.rows) for step in range(1, 11)
        },
        "signature": {"scheme": SCHEME, "permutations": config.permutations, "seed": PERMUTATION_SEED},
    }


def _write_documents(
    context: StageContext, documents: InputTable, signed: Signed, outcome: _Outcome, ids: pa.Array
) -> None:
    """The survivors, their signatures, and a decision a row, all in input order."""
    config: DedupConfig = context.config
    first = 0
    context.writer("data").write(documents.schema.empty_table())
    for batch in documents.batches(rows=ROWS_A_BATCH):
        part = slice(first, first + batch.num_rows)
        kept = outcome.kept[part]
        context.writer("data").write(batch.filter(pa.array(kept)))
        context.writer("decisions").write(_decisions(batch.column("doc_id"), config, outcome, part, ids))
        rows = np.flatnonzero(kept) + first
        context.writer("signatures").write(_signatures(ids, signed, rows, config.permutations))
        first += batch.num_rows
        context.progress(first, len(outcome.kept), "writing survivors")


def _decisions(doc_id: pa.ChunkedArray, config: DedupConfig, outcome: _Outcome, part: slice, ids: pa.Array) -> pa.Table:
    kept, exact, score, detail = (
        column[part] for column in (outcome.kept, outcome.exact, outcome.score, outcome.detail)
    )
    count = len(kept)
    threshold = np.where(exact, 1.0, config.threshold)
    return pa.table(
        {
            "doc_id": doc_id,
            "kept": kept,
            "failed": np.zeros(count, dtype=np.bool_),
            "reason": pa.array(np.where(exact, EXACT, NEAR), pa.string(), mask=kept),
            "score": pa.array(score, pa.float64(), mask=np.isnan(score)),
            "threshold": pa.array(threshold, pa.float64(), mask=np.isnan(score)),
            "draw": pa.nulls(count, pa.float64()),
            "detail": ids.take(pa.array(detail, pa.int64(), mask=detail < 0)),
            "url": pa.nulls(count, pa.string()),
        },
        schema=DECISIONS.schema,
    )


def _signatures(ids: pa.Array, signed: Signed, rows: Ints, permutations: int) -> pa.Table:
    values = pa.array(signed.signatures[rows].reshape(-1), pa.uint32())
    return pa.table(
        {
            "doc_id": ids.take(pa.array(rows)),
            "signature": pa.FixedSizeListArray.from_arrays(values, permutations),
            "text_hash": pa.array(signed.text_hash[rows].astype("U32"), pa.string()),
            "shingles": pa.array(signed.shingles[rows], pa.int32()),
        }
    )


def _write_pairs(context: StageContext, nodes: _Nodes, comparison: Comparison, ids: pa.Array) -> None:
    a = ids.take(pa.array(nodes.index[comparison.first]))
    b = ids.take(pa.array(nodes.index[comparison.second]))
    swapped = pc.greater(a, b)
    table = pa.table(
        {
            "doc_a": pc.if_else(swapped, b, a),
            "doc_b": pc.if_else(swapped, a, b),
            "jaccard": comparison.jaccard,
            "accepted": comparison.jaccard >= context.config.threshold,
        },
        schema=PAIRS.schema,
    )
    context.writer("pairs").write(table.sort_by([("doc_a", "ascending"), ("doc_b", "ascending")]))


def _strings(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays([chunk.cast(pa.string()) for chunk in column.chunks] or [pa.array([], pa.string())])


STAGE = Stage(
    name="dedup",
    version=1,
    config=DedupConfig,
    reads={"documents": DOCUMENTS, "against": DOCUMENTS},
    optional=frozenset({"against"}),
    writes={"data": DOCUMENTS, "decisions": DECISIONS, "pairs": PAIRS, "signatures": SIGNATURES},
    run=run,
    seeded=False,
)
