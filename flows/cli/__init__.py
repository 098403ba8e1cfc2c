"""The command line: `crawl2chat …` (docs/interface.md). Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted.
Logs and progress go to standard error; with `--json` standard output is one JSON object."""

from flows.cli.main import main

__all__ = ["main"]
