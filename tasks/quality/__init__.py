"""quality: a classifier of curated text against the crawl, and GPT-3's random rule of what to keep."""

from tasks.quality.config import QualityConfig
from tasks.quality.stage import STAGE

__all__ = ["STAGE", "QualityConfig"]
