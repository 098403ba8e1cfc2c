"""What planning a run does not import: what takes a second and is of no use to it."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"numba", "llvmlite", "torch", "transformers", "scipy", "fasttext", "sklearn", "pandas", "duckdb", "prefect"}


def test_planning_imports_nothing_that_only_a_stage_at_work_needs() -> None:
    code = "import flows.planning, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"numpy", "pyarrow"} <= set(found.stdout.split())
    assert not HEAVY & set(found.stdout.split())
