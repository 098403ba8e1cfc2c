"""The config section `mix`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.stage import StageConfig


class MixConfig(StageConfig):
    """What share of training each source has, and how long a training row is."""

    weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        {},
        title="Weights",
        description="Source to weight, normalised to sum 1; documents of other sources are dropped (`not_in_mix`). "
        "Empty: every source, weighted by its tokens. GPT-3 (table 2.2): crawl .6, WebText2 .22, Books1 .08, "
        "Books2 .08, Wikipedia .03.",
    )
    budgets: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {},
        title="Budgets",
        description="Source to training tokens, in place of `weights` and `tokens`; documents of other sources are "
        "dropped. More than a source has means several epochs",
    )
    sequence_length: int = Field(256, ge=2, title="Row length", description="Tokens a training row; GPT-3 has 2,048.")
    tokens: int = Field(
        2_000_000,
        ge=1,
        title="Tokens",
        description="Training tokens in all, padding included; whole rows are written, so a few less. Not used with "
        "`budgets`.",
    )
    packing: Literal["concat", "best_fit"] = Field(
        "concat",
        title="Packing",
        description="concat: documents follow one another and are cut where a row ends, as in GPT-3; best_fit: a "
        "document that fits a row is never cut, and what is left of a row is padding, never learnt (Ding et al. 2024)",
    )
    heldout_fraction: float = Field(
        0.02,
        ge=0,
        lt=1,
        title="Held-out share",
        description="Of each source's documents, by hash of doc_id; never trained on. If they fill no row, the largest "
        "source gives up more of its documents until they do. 0 holds nothing out.",
    )
    heldout_tokens: int = Field(
        500_000, ge=1, title="Held-out tokens", description="At most about so many are written to `heldout`."
    )

    @model_validator(mode="after")
    def _weights_or_budgets(self) -> MixConfig:
        if self.weights and self.budgets:
            raise ValueError("weights and budgets are two ways to say the same: give one of them")
        return self
