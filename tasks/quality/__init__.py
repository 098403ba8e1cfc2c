"""quality: a classifier of curated text against the crawl, and GPT-3's random rule of what to keep."""

from typing import TYPE_CHECKING

from tasks.lazily import names_of
from tasks.quality.config import QualityConfig

if TYPE_CHECKING:
    from tasks.quality.stage import STAGE

__all__ = ["STAGE", "QualityConfig"]
__getattr__ = names_of(f"{__name__}.stage", __all__)
