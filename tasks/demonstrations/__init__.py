"""Stage `demonstrations`: instruction files of every common form become conversations, each record accounted for."""

from tasks.demonstrations.stage import STAGE, DemonstrationsConfig

__all__ = ["STAGE", "DemonstrationsConfig"]
