"""reward: a model that scores answers, trained on rankings."""

from typing import TYPE_CHECKING

from tasks.lazily import names_of
from tasks.reward.config import RewardConfig

if TYPE_CHECKING:
    from tasks.reward.stage import STAGE

__all__ = ["STAGE", "RewardConfig"]
__getattr__ = names_of(f"{__name__}.stage", __all__)
