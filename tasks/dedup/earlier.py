"""Earlier dedup artifacts: which of their documents could be duplicates of this run's, looked up in their indexes.

Their documents are numbered behind those of this run: the first artifact's, then the second's, and so on. Nothing here
reads a whole table or a whole index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import UserError
from artifacts.store import Artifact
from tasks.dedup.config import DedupConfig
from tasks.dedup.corpus import Ids, Ints
from tasks.dedup.index import FOLDER, Index, TextTask
from tasks.stage import StageContext

ROWS_A_TASK = 2_048


def check_against(context: StageContext) -> None:
    """Hold the earlier artifacts against this configuration.

    Raises:
        UserError: the config names some, but none was handed in; or one was made with other signatures, by another
            version of the stage, or without an index.
    """
    config: DedupConfig = context.config
    artifacts = context.inputs.get("against", ())
    if config.against and not artifacts:
        raise UserError(f"dedup.against names {', '.join(config.against)}, but no input `against` was given")
    for artifact in artifacts:
        made = artifact.manifest
        if made.stage != context.stage.name:
            raise UserError(f"dedup.against: {artifact.ref} is no dedup artifact")
        if made.stage_version != context.stage.version:
            raise UserError(
                f"dedup.against: {artifact.ref} was made by version {made.stage_version} of the stage, this is version "
                f"{context.stage.version}; run it again"
            )
        theirs, ours = ((c["bands"], c["rows"], c["shingle"]) for c in (made.config, config.model_dump()))
        if theirs != ours:
            raise UserError(
                f"dedup.against: {artifact.ref} has {theirs[0]} bands of {theirs[1]} rows over {theirs[2]}-unit "
                f"shingles, this run {ours[0]} of {ours[1]} over {ours[2]}; use the same bands, rows and shingle"
            )
        if f"{FOLDER}/doc_ids.npy" not in made.files:
            raise UserError(f"dedup.against: {artifact.ref} was made with dedup.index = false and cannot be searched")


@dataclass(frozen=True)
class Earlier:
    """Documents of earlier crawls.

    Attributes:
        first: the number of their first document: that of documents in this run.
        indexes: of the artifacts, in the order given.
        begins: for each artifact the number of its first document; the end of the last.
        names: what a decision calls each artifact: `dedup@.CONTENT`.
    """

    first: int
    indexes: list[Index]
    begins: Ints
    names: list[str]

    @staticmethod
    def open(artifacts: Sequence[Artifact], first: int) -> Earlier:
        """Map the indexes of the artifacts."""
        indexes = [Index.open(artifact.local() / FOLDER) for artifact in artifacts]
        begins = first + np.cumsum([0, *(index.documents for index in indexes)])
        # By content: of two artifacts with the same bytes neither may show in what is made of them.
        names = [f"{artifact.stage}@.{artifact.content}" for artifact in artifacts]
        return Earlier(first, indexes, begins.astype(np.int64), names)

    @property
    def documents(self) -> int:
        """How many there are in all."""
        return int(self.begins[-1] - self.first)

    def artifact_of(self, numbers: Ints) -> Ints:
        """For each document the place of its artifact."""
        return np.searchsorted(self.begins, numbers, "right").astype(np.int64) - 1

    def ids(self, numbers: Ints) -> Ids:
        """The doc_ids of some documents."""
        width = max((index.doc_ids.dtype.itemsize for index in self.indexes), default=1)
        found = np.empty(len(numbers), dtype=f"S{width}")
        artifact = self.artifact_of(numbers)
        for place, index in enumerate(self.indexes):
            here = artifact == place
            found[here] = index.doc_ids[numbers[here] - self.begins[place]]
        return found

    def order(self, numbers: Ints) -> Ints:
        """Places in `numbers`: by doc_id, then by artifact."""
        found: Ints = np.lexsort((numbers, self.ids(numbers)))
        return found

    def equal_texts(self, keys: NDArray[np.uint64], lows: NDArray[np.uint64]) -> tuple[Ints, Ints]:
        """(places in `keys`, documents) with the same text hash, one a place: the first by `order`. `keys` ascend."""
        found = [index.find_texts(keys, lows) for index in self.indexes]
        places, numbers = self._numbered(found)
        order = np.lexsort((numbers, self.ids(numbers), places))
        places, numbers = places[order], numbers[order]
        _, first = np.unique(places, return_index=True)
        return places[first], numbers[first]

    def same_band(self, band: int, keys: NDArray[np.uint64], most: int) -> tuple[Ints, Ints]:
        """(places in `keys`, documents) with the same key in a band, up to `most` a key and artifact. `keys` ascend,
        and are distinct."""
        return self._numbered([index.find_band(band, keys, most) for index in self.indexes])

    def _numbered(self, found: Sequence[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
        if not found:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        numbers = [rows + begin for (_, rows), begin in zip(found, self.begins, strict=False)]
        return np.concatenate([places for places, _ in found]), np.concatenate(numbers)

    def text_tasks(self, numbers: Ints, shingle: int) -> list[TextTask]:
        """The work for the shingles of some documents, ascending."""
        tasks = []
        for place, index in enumerate(self.indexes):
            first, last = np.searchsorted(numbers, self.begins[place : place + 2])
            rows = numbers[first:last] - self.begins[place]
            for start in range(0, len(rows), ROWS_A_TASK):
                tasks.append(TextTask(str(index.folder), rows[start : start + ROWS_A_TASK], shingle))
        return tasks
