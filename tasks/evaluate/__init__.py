"""evaluate: what reinforcement learning gained, and what it cost."""

from typing import TYPE_CHECKING

from tasks.evaluate.config import EvaluateConfig
from tasks.lazily import names_of

if TYPE_CHECKING:
    from tasks.evaluate.stage import STAGE

__all__ = ["STAGE", "EvaluateConfig"]
__getattr__ = names_of(f"{__name__}.stage", __all__)
