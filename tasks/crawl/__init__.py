"""Stage `crawl`: serves the standard library's documentation on this machine, crawls it, writes genuine WARC files."""

from tasks.crawl.stage import STAGE, CrawlConfig

__all__ = ["STAGE", "CrawlConfig"]
