"""Config of the stage `label`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.stage import StageConfig, outside_recipe


class LabelConfig(StageConfig):
    """Where rankings come from."""

    data: list[str] = outside_recipe(
        [], title="Preference files", description="Data manifests, paths or URLs of files with preferences."
    )
    annotator: Literal["none", "simulated", "people"] = Field(
        "none",
        title="Annotator of samples",
        description="Who ranks the sampled answers; `simulated` is a program, `people` are waited for.",
    )
    wanted: float = outside_recipe(
        1.0,
        gt=0,
        title="Wanted rankings",
        description="For `people`: the share of the prompts (up to 1), or their number, that must be ranked to go on.",
    )
    target_words: int = Field(
        20, ge=1, title="Wanted length", description="Words an answer should have for the simulated annotator."
    )
    noise: float = Field(
        0.25, ge=0, title="Noise", description="Half the width of the uniform noise on the simulated annotator's score."
    )
    step: float = Field(
        0.25, gt=0, title="Step", description="The simulated score is rounded to this; equal ones are tied."
    )
    second_opinions: float = Field(
        0.1,
        ge=0,
        le=1,
        title="Second opinions",
        description="Share of prompts that a second simulated annotator ranks too, to measure agreement.",
    )
    heldout_fraction: float = Field(
        0.1, ge=0, lt=1, title="Held-out prompts", description="Share of the files' prompts kept out of training."
    )
