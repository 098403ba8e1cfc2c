"""ppo: reinforcement learning from a reward model, with pretraining gradients mixed in (PPO-ptx), and without."""

from tasks.ppo.config import PPOConfig, PPOWithoutPtxConfig
from tasks.ppo.stage import STAGE, WITHOUT_PTX

__all__ = ["STAGE", "WITHOUT_PTX", "PPOConfig", "PPOWithoutPtxConfig"]
