"""Config of the stage `crawl`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field, field_validator

from tasks.stage import StageConfig, outside_recipe

Part = Literal["modules", "topics", "docstrings"]

# Modules whose import opens a browser, prints, starts a program or a window, changes the interpreter, or is a test;
# and a hundred tables of code points, of which a few stay: natural near-duplicates.
SKIP = [
    "__hello__",
    "__phello__*",
    "antigravity",
    "this",
    "idlelib*",
    "test",
    "test.*",
    "turtle",
    "turtledemo*",
    "tkinter*",
    "lib2to3*",
    "distutils*",
    "ensurepip*",
    "pip",
    "pip.*",
    "setuptools*",
    "pkg_resources*",
    "site",
    "sitecustomize",
    "usercustomize",
    "rlcompleter",
    "readline",
    "_sysconfigdata*",
    "_test*",
    "_xx*",
    "xx*",
    "_ctypes_test",
    "ctypes.test*",
    "unittest.test*",
    "sqlite3.test*",
    "pydoc_data*",
    "encodings.*",
    "+encodings.cp125*",
]


class CrawlConfig(StageConfig):
    """What is crawled, and how politely."""

    parts: list[Part] = Field(
        default=["modules", "topics", "docstrings"],
        title="Parts",
        description="modules: one page a module; topics: the prose topics; docstrings: questions and answers",
    )
    max_pages: int = Field(1000, ge=1, title="Most pages", description="Pages fetched for each part, robots.txt aside")
    max_instructions: int = Field(
        6000, ge=1, title="Most instructions", description="Records drawn from docstrings, at most"
    )
    date: str | None = Field(
        None,
        title="Date",
        description="WARC-Date and HTTP Date of all records, as 2026-01-01T00:00:00Z; null: the time of fetching, and"
        " then no two crawls are the same bytes",
    )
    skip: list[str] = Field(
        default=SKIP,
        title="Skipped modules",
        description="Modules never imported; a name ending in * is a prefix; a + before it makes an exception",
    )
    max_seconds: float = outside_recipe(
        300.0, gt=0, title="Most seconds", description="A crawl that takes longer is given up, with an error"
    )
    delay: float = outside_recipe(
        0.005, ge=0, title="Delay", description="Seconds between two requests to the local server"
    )

    @field_validator("date")
    @classmethod
    def _is_warc_date(cls, value: str | None) -> str | None:
        if value is not None:
            datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ")
        return value
