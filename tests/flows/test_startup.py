"""What the commands do not import: what takes long to load and is of no use to them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flows.cli.main import MODULES, WORK
from flows.registry import NODES

HEAVY = {"numba", "llvmlite", "torch", "transformers", "scipy", "fasttext", "sklearn", "pandas", "duckdb", "prefect"}
ARRAYS = {"numpy", "pyarrow"}


def imported_by(code: str) -> set[str]:
    """The packages at the top level, and our own modules by their full names, that a process has after this code."""
    code = f"import sys; {code}; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    return {name.partition(".")[0] for name in names} | {name for name in names if name.startswith("tasks.")}


def test_planning_imports_nothing_that_only_a_stage_at_work_needs() -> None:
    found = imported_by("import flows.planning")
    assert not HEAVY & found and "pydantic" in found


def test_a_config_is_checked_without_any_stage() -> None:
    found = imported_by("from flows.config import load_pipeline; load_pipeline('configs/demo.yaml')")
    assert not (HEAVY | ARRAYS | {"fsspec", "rich"}) & found
    assert "tasks.dedup.config" in found and not {name for name in found if name.endswith(".stage")} - {"tasks.stage"}


def test_each_node_has_the_config_of_its_stage() -> None:
    assert [node.name for node in NODES] == [node.stage.name for node in NODES]
    assert all(node.config is node.stage.config for node in NODES)


@pytest.mark.parametrize("command", ["why", "trace", "takedown", "diff", "lineage", "verify", "report", "ls"])
def test_a_command_is_known_before_anything_heavy_is_imported(command: str) -> None:
    found = imported_by(f"from flows.cli.main import _add_commands; _add_commands(['{command}'])")
    assert not (HEAVY | ARRAYS | {"fsspec", "rich", "yaml"}) & found
    assert not {name for name in found if name.startswith("tasks.")}


def test_every_command_has_a_module() -> None:
    code = "from flows.cli.main import _add_commands, app; _add_commands([]); sys.stderr.write(' '.join(sorted("
    code += "c.name or c.callback.__name__ for c in app.registered_commands)))"
    said = subprocess.run([sys.executable, "-c", f"import sys; {code}"], capture_output=True, text=True, check=True)
    assert said.stderr.split() == sorted(MODULES)
    assert set(WORK) <= set(MODULES)
