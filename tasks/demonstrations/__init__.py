"""Stage `demonstrations`: instruction files of every common form become conversations, each record accounted for."""

from typing import TYPE_CHECKING

from tasks.demonstrations.config import DemonstrationsConfig
from tasks.lazily import names_of

if TYPE_CHECKING:
    from tasks.demonstrations.stage import STAGE

__all__ = ["STAGE", "DemonstrationsConfig"]
__getattr__ = names_of(f"{__name__}.stage", __all__)
