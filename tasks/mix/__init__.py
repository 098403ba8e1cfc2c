"""mix: tokens of several sources, packed into rows and mixed by weight, written in training order."""

from typing import TYPE_CHECKING

from tasks.lazily import names_of
from tasks.mix.config import MixConfig

if TYPE_CHECKING:
    from tasks.mix.stage import STAGE

__all__ = ["STAGE", "MixConfig"]
__getattr__ = names_of(f"{__name__}.stage", __all__)
