"""Make the store: see the package's docstring."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from . import build


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.million", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--documents", type=int, default=1_000_000)
    given = parser.parse_args()
    began = time.perf_counter()
    build(given.folder, given.documents, say=lambda line: sys.stderr.write(f"{line}\n"))
    size = sum(path.stat().st_size for path in given.folder.rglob("*") if path.is_file())
    sys.stdout.write(f"{given.folder}: {size / 1e6:,.0f} MB in {time.perf_counter() - began:.0f} s\n")


if __name__ == "__main__":
    main()
