"""The stage `crawl`: pydoc on 127.0.0.1 in a process of its own, crawled politely into WARC files.

What the demo runs on where there is no network: pages nobody here wrote, fetched over HTTP as any crawl is. On one
machine and with `date` given, every run writes the same bytes.
"""

from __future__ import annotations

import json
import platform
import re
import sys
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from artifacts.errors import RunError
from artifacts.sources import Source
from artifacts.tables import FETCHES
from tasks.crawl.config import CrawlConfig
from tasks.crawl.crawler import Crawler, Exchange
from tasks.crawl.process import read_docstrings, serving
from tasks.crawl.warc import WarcFile
from tasks.stage import Stage, StageContext, Summary

HOST = "docs.python.localhost"


def run(context: StageContext) -> Summary:
    """Crawl the parts of the config; writes `warc/<part>.warc.gz`, `instructions/docstrings.jsonl` and a row a fetch.

    Raises:
        RunError: the server did not come up or broke off, time ran out, or a part came out empty.
    """
    config: CrawlConfig = context.config
    fetched = datetime.now(UTC) if config.date is None else datetime.strptime(config.date, "%Y-%m-%dT%H:%M:%SZ")
    date = fetched.strftime("%Y-%m-%dT%H:%M:%SZ")
    deadline = time.monotonic() + config.max_seconds
    metrics: dict[str, int] = {}
    modules: list[str] = []
    with serving(format_datetime(fetched.replace(tzinfo=UTC), usegmt=True), config.skip) as port:
        if "modules" in config.parts or "docstrings" in config.parts:
            crawler = Crawler(port, HOST, _is_module_page, config.delay, deadline, config.max_pages)
            found = _crawl(context, crawler, "modules", ["/os.path.html", "/index.html"], date, metrics)
            modules = [_module(exchange) for exchange in found if exchange.url.endswith(".html")]
        if "topics" in config.parts:
            crawler = Crawler(port, HOST, _is_topic_page, config.delay, deadline, config.max_pages)
            _crawl(context, crawler, "topics", ["/topics.html", "/keywords.html"], date, metrics)
    if "docstrings" in config.parts:
        context.progress(0, None, "docstrings")
        public = [name for name in modules if not any(part.startswith("_") for part in name.split("."))]
        # os.path first: it is what people call posixpath, and a docstring is used once.
        records = read_docstrings(
            ["os.path", *sorted(name for name in public if name != "os.path")], config.max_instructions
        )
        if not records:
            raise RunError("crawl: no docstring gave an instruction; is crawl.max_pages too low?")
        with open(context.path("instructions/docstrings.jsonl"), "w", encoding="utf8") as stream:
            stream.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        metrics["docstrings_instructions"] = len(records)
    return Summary(metrics=metrics)


def _crawl(
    context: StageContext, crawler: Crawler, part: str, seeds: list[str], date: str, metrics: dict[str, int]
) -> list[Exchange]:
    """Crawl one part; returns the pages that were there (status 200), in order."""
    written = part in context.config.parts
    rows, pages = [], []
    name = f"{part}.warc.gz"
    path = context.path(f"warc/{name}") if written else context.work / name
    with WarcFile(path, date) as warc:
        for number, exchange in enumerate(crawler.crawl(seeds)):
            offset = warc.add(exchange)
            rows.append(
                {
                    "url": exchange.url,
                    "status": exchange.status,
                    "bytes": len(exchange.body),
                    "warc_file": name,
                    "warc_offset": offset,
                }
            )
            if exchange.status == 200 and exchange.content_type == "text/html":
                pages.append(exchange)
            context.progress(number, None, f"pages of {part}")
    if not pages:
        raise RunError(f"crawl: nothing was there to crawl: {len(rows)} requests for {part}, and no page came back")
    if written:
        context.writer("data").write(pa.Table.from_pylist(rows, schema=FETCHES.schema))
        metrics[f"{part}_requests"] = len(rows)
        metrics[f"{part}_pages"] = len(pages)
        metrics[f"{part}_bytes"] = sum(len(page.body) for page in pages)
    else:
        path.unlink()
    return pages


def _module(page: Exchange) -> str:
    return unquote(urlsplit(page.url).path)[1:].removesuffix(".html")


def _is_module_page(path: str) -> bool:
    return re.fullmatch(r"/(?!(?:index|topics|keywords)\.html)[A-Za-z_][\w.]*\.html", path) is not None


def _is_topic_page(path: str) -> bool:
    return path.startswith("/topic?key=")


def _documented_python(_config: CrawlConfig) -> list[Source]:
    """The interpreter whose documentation is crawled: another one serves other pages, so it is part of the recipe."""
    version = platform.python_version()
    identity = f"{platform.python_implementation()} {sys.version} {sys.platform}"
    return [
        Source(
            name=f"Python {version}",
            path=Path(sys.executable),
            sha256=sha256(identity.encode()).hexdigest(),
            bytes=0,
            source="crawl",
            role="crawl",
            licence="PSF-2.0",
            url="https://docs.python.org/",
        )
    ]


STAGE = Stage("crawl", 1, CrawlConfig, {}, {"data": FETCHES}, run, sources=_documented_python, seeded=False)
