"""Learning rates as functions of the update's number, so that a resumed run needs no state to go on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

Kind = Literal["cosine", "constant"]


def learning_rate(
    position: float,
    *,
    peak: float,
    total: float,
    kind: Kind = "cosine",
    warmup: float = 0.0,
    floor: float = 0.1,
    warmup_from: float = 0.0,
) -> float:
    """The rate of the update at `position`, which counts from 0 in steps or in tokens, as do `total` and `warmup`.

    Linear from `warmup_from * peak` over the warm-up, then either constant or a half cosine that reaches
    `floor * peak` at `total` and stays there. GPT-3: warm-up over 375 million tokens, cosine to 10%
    (Brown et al. 2020, appendix B); InstructGPT's SFT: cosine to 10% without warm-up; its PPO: constant after a
    warm-up from a tenth (Ouyang et al. 2022, appendix C).
    """
    if position < warmup:
        return peak * (warmup_from + (1.0 - warmup_from) * position / warmup)
    if kind == "constant":
        return peak
    span = total - warmup
    progress = 1.0 if span <= 0 else min(1.0, (position - warmup) / span)
    return peak * (floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress)))


def by_step(
    peak: float,
    steps: int,
    *,
    kind: Kind = "cosine",
    warmup: float = 0.0,
    floor: float = 0.1,
    warmup_from: float = 0.0,
) -> Callable[[int], float]:
    """The rate of update s in 0 … steps-1: the last warm-up update has the peak, the last of all has the floor.

    Args:
        warmup: updates over which the rate rises; may be a fraction of one (a warm-up given in tokens).
    """

    risen = math.ceil(warmup)

    def rate(step: int) -> float:
        if step >= risen:
            return learning_rate(step, peak=peak, total=max(steps - 1, risen + 1), kind=kind, warmup=risen, floor=floor)
        # From zero, update 0 already stands one step up: an update at rate zero would be a wasted one.
        share = min(1.0, (step + 1) / warmup) if warmup_from == 0.0 else step / warmup
        return peak * (warmup_from + (1.0 - warmup_from) * share)

    return rate
