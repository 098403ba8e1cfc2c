"""Stage `crawl`: serves the standard library's documentation on this machine, crawls it, writes genuine WARC files."""

from typing import TYPE_CHECKING

from tasks.crawl.config import CrawlConfig
from tasks.lazily import names_of

if TYPE_CHECKING:
    from tasks.crawl.stage import STAGE

__all__ = ["STAGE", "CrawlConfig"]
__getattr__ = names_of(f"{__name__}.stage", __all__)
