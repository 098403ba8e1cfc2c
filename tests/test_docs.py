"""The documentation against the code: stages, config fields and tables that exist are on their page; links lead on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from flows.config import PipelineSettings
from flows.registry import NODES, Node
from tasks.training.launcher import LauncherConfig

ROOT = Path(__file__).resolve().parent.parent
# Both are one stage under two names.
PAGE_OF = {"ppo_without_ptx": "ppo"}
PAGES = [ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").rglob("*.md"))]


def fields(config: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of a section's fields; the launcher's own fields have a place in docs/interface.md."""
    for name, info in config.model_fields.items():
        yield prefix + name
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and inner is not LauncherConfig:
            yield from fields(inner, f"{prefix}{name}.")


def anchors(page: Path) -> set[str]:
    """The fragments of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("node", NODES, ids=[node.name for node in NODES])
def test_a_stage_has_a_page_that_names_its_fields_inputs_and_tables(node: Node) -> None:
    page = ROOT / "docs" / "stages" / f"{PAGE_OF.get(node.name, node.name)}.md"
    text = page.read_text("utf8")
    names = [*fields(node.stage.config), *node.stage.reads, *node.stage.writes, node.name]
    missing = [name for name in names if f"`{name}`" not in text and f"# {name}" not in text]
    assert missing == []


def test_the_interface_names_the_fields_of_pipeline_and_launcher() -> None:
    text = (ROOT / "docs" / "interface.md").read_text("utf8")
    assert [n for n in [*fields(PipelineSettings), *fields(LauncherConfig)] if f"| `{n}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_relative_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf8")):
        target, _, fragment = link.partition("#")
        if "://" in target:
            continue
        found = (page.parent / target).resolve() if target else page
        if not found.exists() or (fragment and fragment not in anchors(found)):
            broken.append(link)
    assert broken == []
