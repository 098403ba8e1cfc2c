"""The shape of a model as a config section; imports no torch, so that a command line that only plans starts at once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.stage import StageConfig

Decay = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["auto", "fp32", "bf16"]
Split = Literal["train", "heldout", "all"]


class ModelConfig(StageConfig):
    """The shape of a causal language model; the defaults are the demo's."""

    architecture: Literal["gpt2", "llama"] = Field(
        default="gpt2",
        title="Architecture",
        description="gpt2: learned positions, LayerNorm, GELU, as GPT-3; llama: rotary positions, RMSNorm, SwiGLU",
    )
    layers: int = Field(default=4, ge=1, title="Layers", description="Transformer blocks")
    width: int = Field(default=256, ge=8, title="Width", description="Size of the residual stream")
    heads: int = Field(default=4, ge=1, title="Heads", description="Attention heads; must divide the width")
    context: int = Field(default=256, ge=8, title="Context", description="Longest input in tokens")
    dropout: float = Field(
        default=0.0, ge=0.0, lt=1.0, title="Dropout", description="Residual dropout while pretraining"
    )

    @model_validator(mode="after")
    def _fits(self) -> ModelConfig:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        if self.architecture == "llama" and self.dropout:
            raise ValueError("llama has no residual dropout: set dropout to 0")
        return self
