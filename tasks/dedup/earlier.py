"""Earlier dedup artifacts as an index: which of their documents could be duplicates of this run's.

Their `signatures` table is streamed; what stays in memory are the documents that share a text hash or a band with one
of this run. Their texts, for exact verification, are read back from their main table, whose rows stand in the same
order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from artifacts.errors import RunError, UserError
from tasks.dedup.config import DedupConfig
from tasks.dedup.minhash import band_keys
from tasks.dedup.signing import TEXT_HASH
from tasks.stage import StageContext
from tasks.text.shingles import Hashes


@dataclass(frozen=True)
class Earlier:
    """Documents of earlier crawls.

    Attributes:
        documents: how many there are in all.
        exact: text hash to the smallest doc_id that has it, for text hashes of this run.
        doc_ids: the possible near-duplicates, ascending.
        rows: their row numbers in the input `against`.
        keys: (len(rows), bands) their band keys.
    """

    documents: int
    exact: dict[bytes, str]
    doc_ids: list[str]
    rows: NDArray[np.int64]
    keys: Hashes


def check_against(context: StageContext) -> None:
    """Hold the earlier artifacts against this configuration.

    Raises:
        UserError: the config names some, but none was handed in; or one was made with other signatures.
    """
    config: DedupConfig = context.config
    artifacts = context.inputs.get("against", ())
    if config.against and not artifacts:
        raise UserError(f"dedup.against names {', '.join(config.against)}, but no input `against` was given")
    for artifact in artifacts:
        made = artifact.manifest
        if made.stage != context.stage.name:
            raise UserError(f"dedup.against: {artifact.ref} is no dedup artifact")
        size = int(made.config["bands"]) * int(made.config["rows"])
        if made.config["shingle"] != config.shingle or size != config.permutations:
            raise UserError(
                f"dedup.against: {artifact.ref} has {size} permutations of {made.config['shingle']}-unit shingles, "
                f"this run {config.permutations} of {config.shingle}; use the same bands, rows and shingle"
            )
        if made.stage_version != context.stage.version:
            raise UserError(
                f"dedup.against: {artifact.ref} was made by version {made.stage_version} of the stage, this is version "
                f"{context.stage.version}; run it again"
            )


def find_earlier(context: StageContext, text_hashes: NDArray[np.bytes_], keys: Hashes) -> Earlier:
    """The documents of the input `against` that share a text hash or a band with this run's documents.

    Args:
        text_hashes: this run's, ascending and distinct.
        keys: (documents, bands) this run's.
    """
    config: DedupConfig = context.config
    if not context.inputs.get("against"):
        return Earlier(0, {}, [], np.empty(0, dtype=np.int64), np.empty((0, config.bands), dtype=np.uint64))
    table = context.input_table("against", "signatures")
    if table.rows != context.input("against").rows:
        raise RunError("dedup: the tables data and signatures of the input `against` differ in length (run verify)")
    wanted = [np.unique(keys[:, band]) for band in range(config.bands)]
    exact: dict[bytes, str] = {}
    near: list[tuple[str, int]] = []
    near_keys = []
    first_row = 0
    for batch in table.batches(["doc_id", "text_hash", "shingles", "signature"]):
        ids = batch.column("doc_id").to_pylist()
        for row in np.flatnonzero(_among(np.array(batch.column("text_hash").to_pylist(), TEXT_HASH), text_hashes)):
            key = batch.column("text_hash")[int(row)].as_py().encode()
            exact[key] = min(exact.get(key, ids[row]), ids[row])
        own = _batch_keys(batch, config)
        hit = np.zeros(len(ids), dtype=np.bool_)
        for band in range(config.bands):
            hit |= _among(own[:, band], wanted[band])
        hit &= batch.column("shingles").to_numpy() > 0
        near += [(ids[row], first_row + int(row)) for row in np.flatnonzero(hit)]
        near_keys.append(own[hit])
        first_row += len(ids)
    order = sorted(range(len(near)), key=near.__getitem__)
    gathered = np.concatenate(near_keys) if near_keys else np.empty((0, config.bands), dtype=np.uint64)
    rows = np.array([near[i][1] for i in order], dtype=np.int64)
    return Earlier(first_row, exact, [near[i][0] for i in order], rows, gathered[order])


def _batch_keys(batch: pa.Table, config: DedupConfig) -> Hashes:
    values = batch.column("signature").combine_chunks()
    flat = pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values
    signatures = flat.flatten().to_numpy().reshape(-1, config.permutations)
    return band_keys(signatures, config.bands, config.rows)


def _among(values: NDArray[np.generic], ascending: NDArray[np.generic]) -> NDArray[np.bool_]:
    if len(ascending) == 0:
        return np.zeros(len(values), dtype=np.bool_)
    places = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    found: NDArray[np.bool_] = ascending[places] == values
    return found
