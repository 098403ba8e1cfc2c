"""The configuration of the paragraphs stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.stage import StageConfig


class ParagraphsConfig(StageConfig):
    """Exact removal of repeated lines or paragraphs, as CCNet's. CCNet has no thresholds; these are ours."""

    unit: Literal["line", "paragraph"] = Field(
        "line", title="Unit", description="what is compared: a line, or a paragraph (between blank lines)"
    )
    min_characters: int = Field(
        20, ge=1, title="Least characters", description="shorter units are neither compared nor cut"
    )
    min_occurrences: int = Field(
        2, ge=2, title="Least occurrences", description="a unit that occurs so often, in all documents, stays but once"
    )
    min_remaining: int = Field(
        100,
        ge=1,
        title="Least characters left",
        description="a document that was cut to fewer characters is dropped",
    )
    prefer: list[str] = Field(
        [],
        title="Prefer",
        description="sources in order of preference: the occurrence in the earlier source stays, then the one in the "
        "document with the smaller doc_id",
    )
    exempt: list[str] = Field(
        [],
        title="Exempt",
        description="sources that are never cut, such as the curated ones; their units count, and what is also in one "
        "of them is cut everywhere else",
    )
    within: Literal["cut", "keep"] = Field(
        "cut",
        title="Repeats within a document",
        description="cut: what a document says twice is repeated, and stays once; keep: each document counts once, and "
        "the one that keeps a unit keeps it wherever it stands (refrains, rows of tables, lines of code)",
    )
