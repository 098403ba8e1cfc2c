"""The config section `tokenize`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from tasks.stage import StageConfig, outside_recipe

if TYPE_CHECKING:
    from artifacts.sources import Source


class TokenizeConfig(StageConfig):
    """How the tokenizer is trained, or which one is taken."""

    vocab_size: int = Field(
        8_192,
        ge=257,
        title="Vocabulary",
        description="Tokens of the trained tokenizer: 256 bytes, <|endoftext|> and merges; GPT-3's has 50,257.",
    )
    sample_bytes: int = Field(
        200_000_000,
        ge=1,
        title="Training sample",
        description="Bytes of text that merges are learnt from: whole documents by hash of doc_id, at least one.",
    )
    min_frequency: int = Field(2, ge=1, title="Least frequency", description="A pair seen less often is never merged.")
    tokenizer: str | None = outside_recipe(
        None,
        title="Given tokenizer",
        description="A tokenizer.json, a folder that holds one, or a data manifest: used as it is, nothing is trained. "
        "Its content, not its path, enters the recipe.",
    )


def tokenizer_sources(config: TokenizeConfig) -> list[Source]:
    """The file of the given tokenizer, if there is one."""
    from artifacts.sources import resolve_sources

    if config.tokenizer is None:
        return []
    entry = config.tokenizer
    if Path(entry).is_dir():
        entry = str(Path(entry) / "tokenizer.json")
    return resolve_sources([entry], "tokenizer")[:1]
