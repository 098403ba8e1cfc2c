"""reward: a model that scores answers, trained on rankings."""

from tasks.reward.stage import STAGE, RewardConfig

__all__ = ["STAGE", "RewardConfig"]
