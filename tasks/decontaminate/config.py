"""The configuration of the decontaminate stage."""

from __future__ import annotations

from pydantic import Field

from tasks.stage import StageConfig, outside_recipe


class DecontaminateConfig(StageConfig):
    """What overlaps with the evaluation sets is cut out. GPT-3's appendix C, its numbers as recalled (SOURCES, "~")."""

    n: int = Field(13, ge=1, title="n", description="units in an n-gram: words, or characters in text without spaces")
    against: list[str] = outside_recipe(
        [],
        title="Against",
        description="evaluation sets: data manifests, paths, globs or URLs of JSONL, JSON, Parquet or plain text; "
        "their contents enter the recipe. Empty: every document is kept",
    )
    min_words: int = Field(
        8, ge=1, title="Shortest item", description="an item shorter than n is looked for whole if it has so many words"
    )
    window: int = Field(200, ge=0, title="Window", description="characters removed on either side of a hit")
    min_piece: int = Field(200, ge=0, title="Shortest piece", description="shorter pieces of a document are dropped")
    max_pieces: int = Field(
        10, ge=1, title="Most pieces", description="a document that is cut into more pieces is dropped"
    )
    commonplace: int = Field(
        10, ge=1, title="Commonplace", description="n-grams found in more documents than this are ignored"
    )
