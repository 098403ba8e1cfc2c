"""The configuration of the dedup stage."""

from __future__ import annotations

from pydantic import Field

from tasks.stage import StageConfig, outside_recipe


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
        description="fail when one cluster loses more than this share of all documents; 1.0 lifts the alarm",
    )
    max_cluster_documents: int = Field(
        1_000,
        ge=0,
        title="Smallest alarming loss",
        description="a cluster that loses no more documents than this never raises the alarm",
    )

    @property
    def permutations(self) -> int:
        """Values in a signature."""
        return self.bands * self.rows
