"""evaluate: what reinforcement learning gained, and what it cost."""

from tasks.evaluate.stage import STAGE, EvaluateConfig

__all__ = ["STAGE", "EvaluateConfig"]
