"""The configuration of the dedup stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from tasks.stage import StageConfig, outside_recipe


@dataclass(frozen=True)
class Limits:
    """What is held in memory at once. No result depends on it.

    Attributes:
        entries: hashes or band keys sorted at a time (24 bytes each, and four times that while they are sorted).
        bytes: of the documents compared at a time, with their shingles.
    """

    entries: int
    bytes: int


class DedupConfig(StageConfig):
    """Exact and near-duplicate removal. The defaults are FineWeb's (14 bands of 8 rows over word 5-grams)."""

    bands: int = Field(14, ge=1, title="Bands", description="LSH bands; documents that share one are compared")
    rows: int = Field(8, ge=1, title="Rows", description="MinHash values in a band")
    shingle: int = Field(
        5, ge=1, title="Shingle", description="units in a shingle: words, or characters in text without spaces"
    )
    threshold: float = Field(
        0.8, gt=0.0, le=1.0, title="Threshold", description="Jaccard similarity from which (inclusive) one is dropped"
    )
    against: list[str] = outside_recipe(
        [],
        title="Against",
        description="earlier dedup artifacts (stage@recipe) whose documents win over those of this run; read as the "
        "input `against`, whose content enters the recipe",
    )
    prefer: list[str] = Field(
        [],
        title="Prefer",
        description="sources in order of preference: of two duplicates the one of the earlier source survives, then "
        "the longer text, then the smaller doc_id",
    )
    max_cluster_share: float = Field(
        0.5,
        gt=0.0,
        le=1.0,
        title="Largest share lost to one cluster",
        description="alarm when one cluster loses more than this share of all documents; 1.0 turns this alarm off",
    )
    max_cluster_documents: int = Field(
        1_000,
        ge=0,
        title="Smallest alarming loss",
        description="a cluster that loses no more documents than this never raises the alarm",
    )
    max_source_share: float = Field(
        0.9,
        gt=0.0,
        le=1.0,
        title="Largest share lost of one source",
        description="alarm when one source loses more than this share of its documents; 1.0 turns this alarm off",
    )
    max_source_documents: int = Field(
        1_000,
        ge=0,
        title="Smallest alarming source",
        description="a source that loses no more documents than this never raises the alarm",
    )
    alarm: Literal["stop", "report"] = Field(
        "stop",
        title="On alarm",
        description="stop: the stage fails and commits nothing; report: it goes on, and the metric `alarms` says why",
    )
    index: bool = Field(
        True,
        title="Index",
        description="write the index that later crawls need for `against` (their texts compressed again, and 220 bytes "
        "a document)",
    )
    memory: int = outside_recipe(
        1_024,
        ge=64,
        title="Memory",
        description="MiB that joining and comparing take at once, beside 130 bytes a document in mapped files; changes "
        "no result",
    )

    @property
    def permutations(self) -> int:
        """Values in a signature."""
        return self.bands * self.rows

    @property
    def limits(self) -> Limits:
        """The limits that `memory` sets."""
        return Limits(self.memory * 2**20 // 120, self.memory * 2**20)
