"""mix: tokens of several sources, packed into rows and mixed by weight, written in training order."""

from tasks.mix.config import MixConfig
from tasks.mix.stage import STAGE

__all__ = ["STAGE", "MixConfig"]
