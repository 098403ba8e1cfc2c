"""ppo: reinforcement learning from a reward model, with pretraining gradients mixed in (PPO-ptx), and without."""

from typing import TYPE_CHECKING

from tasks.lazily import names_of
from tasks.ppo.config import PPOConfig, PPOWithoutPtxConfig

if TYPE_CHECKING:
    from tasks.ppo.stage import STAGE, WITHOUT_PTX

__all__ = ["STAGE", "WITHOUT_PTX", "PPOConfig", "PPOWithoutPtxConfig"]
__getattr__ = names_of(f"{__name__}.stage", __all__)
