"""Config of the stage `demonstrations`."""

from __future__ import annotations

from pydantic import Field

from tasks.stage import StageConfig, outside_recipe


class DemonstrationsConfig(StageConfig):
    """Which instruction files are read, and what of them is kept."""

    data: list[str] = outside_recipe(
        [], title="Data", description="Data manifests, paths, globs or URLs of instruction files"
    )
    heldout_fraction: float = Field(
        0.05, ge=0, lt=1, title="Held-out share", description="Share of prompts kept from training, by hash"
    )
    max_records: int | None = Field(
        None, ge=1, title="Most records", description="Conversations kept of each source, drawn by hash; null: all"
    )
    max_characters: int = Field(
        20_000, ge=1, title="Most characters", description="Conversations with more characters are left out"
    )
