"""Writing a report: the sections, put into the template."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from artifacts.audit.licences import licences_of
from artifacts.errors import RunError
from artifacts.graph import graph, mermaid
from artifacts.store import Artifact, Store
from flows.registry import TEXT
from flows.report import corpus, quality, repeats, sections, training
from flows.report.collect import Subject, subject_of
from flows.report.lineage_svg import lineage_svg

HERE = Path(__file__).parent
Found = TypeVar("Found")


def write_report(store: Store, subject: Mapping[str, Any] | Artifact, target: Path) -> Path:
    """Write one self-contained HTML file about a run (its record, `<store>/runs/<id>.json`) or an artifact.

    Any subset of stages will do. The file loads nothing, runs no script, and shows all text of pages and models as
    text. A section whose figures cannot be read says so in its place. Returns `target`.
    """
    about = subject_of(store, subject)
    page = render(about)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    partial.write_text(page, encoding="utf8", errors="replace")
    os.replace(partial, target)
    return target


def render(about: Subject) -> str:
    """The page's HTML."""
    problems: list[str] = []

    def attempt(name: str, make: Callable[[], Found]) -> Found | None:
        try:
            return make()
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OSError, RunError) as error:
            problems.append(f"{name}: {type(error).__name__}: {error}")
            return None

    lineage = attempt("lineage", lambda: graph(about.store, about.artifacts)) if about.artifacts else None
    values = {
        "about": about,
        "record": about.record,
        "rows": _stage_rows(about),
        "tiles": attempt("key figures", lambda: _tiles(about)) or [],
        "funnel": attempt("funnel", lambda: sections.funnel(about)),
        "quality": attempt("quality", lambda: quality.quality(about)),
        "dedup": attempt("dedup", lambda: sections.dedup(about)),
        "repeats": attempt("paragraphs", lambda: repeats.repeats(about)),
        "contamination": attempt("decontaminate", lambda: corpus.contamination(about)),
        "cutting": attempt("decontaminate", lambda: corpus.cutting(about)) or {},
        "pii": attempt("pii", lambda: corpus.pii(about)),
        "mix": attempt("mix", lambda: corpus.mix(about)),
        "losses": attempt("losses", lambda: training.losses(about)) or [],
        "ppo": attempt("ppo", lambda: training.ppo(about)),
        "evaluation": attempt("evaluation", lambda: training.evaluation(about)),
        "comparisons": attempt("answers", lambda: training.comparisons(about)) or [],
        "lineage_svg": lineage_svg(lineage) if lineage else None,
        "mermaid": mermaid(lineage) if lineage else None,
        "sources": attempt("sources", lambda: sections.sources(about)) or [],
        "licences": attempt("licences", lambda: _licences(about)) or [],
        "environments": _environments(about),
        "problems": problems,
    }
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "interval": interval, "size": size, "words": words}
    environment.tests["interval"] = training.is_interval
    return environment.get_template("report.html").render(style=(HERE / "style.css").read_text("utf8"), **values)


def _licences(about: Subject) -> list[dict[str, Any]]:
    """The licences of every source in each model, or in the last artifact where there is no model."""
    models = [artifact for artifact in about.artifacts if "model/config.json" in artifact.manifest.files]
    return [
        {"artifact": artifact.ref, "licences": licences_of(artifact)} for artifact in models or about.artifacts[-1:]
    ]


def _stage_rows(about: Subject) -> list[dict[str, Any]]:
    """A line a stage: as the run's record has it, or from the manifests."""
    if about.record is not None:
        return list(about.record["stages"])
    return [
        {
            "stage": artifact.stage,
            "artifact": artifact.ref,
            "reused": None,
            "seconds": artifact.manifest.run.seconds,
            **artifact.manifest.counts.model_dump(include={"rows_in", "kept", "dropped", "failed"}),
        }
        for artifact in about.artifacts
    ]


def _tiles(about: Subject) -> list[tuple[str, str, str]]:
    """The few numbers to see first: (what, number, beside it)."""
    tiles: list[tuple[str, str, str]] = []
    stages = about.stages
    if "ingest" in stages and stages["ingest"].manifest.counts.rows_in:
        tiles.append(("records read", number(stages["ingest"].manifest.counts.rows_in), ""))
    last = next((stages[s] for s in TEXT if s in stages), None)
    if last is not None and last.manifest.counts.kept is not None:
        tiles.append(("documents kept", number(last.manifest.counts.kept), f"after {last.stage}"))
    if about.metrics("mix").get("tokens"):
        tiles.append(("training tokens", number(about.metrics("mix")["tokens"]), "in the mix"))
    pretrain = about.metrics("pretrain")
    if pretrain.get("heldout_loss") is not None:
        uniform = pretrain.get("uniform_loss")
        beside = f"uniform: {number(uniform)}" if uniform else ""
        tiles.append(("held-out loss", number(pretrain["heldout_loss"]), beside))
    accuracy = (about.metrics("reward").get("heldout_accuracy") or {}).get("pairs")
    if accuracy and accuracy.get("value") is not None:
        tiles.append(("reward model, held-out pairs", f"{accuracy['value']:.1%}", interval(accuracy, percent=True)))
    win = about.metrics("evaluate").get("win_rate")
    if win and win.get("value") is not None:
        tiles.append(("PPO wins against SFT", f"{win['value']:.1%}", interval(win, percent=True)))
    return tiles


def _environments(about: Subject) -> list[tuple[dict[str, str], list[str]]]:
    """What the stages ran in, with the stages: artifacts that were reused may come from another machine."""
    found: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for artifact in about.artifacts:
        manifest = artifact.manifest
        block = {**{f"crawl2chat {k}": v for k, v in manifest.code.items()}, **manifest.environment}
        found.setdefault(tuple(block.items()), []).append(artifact.stage)
    return [(dict(block), stages) for block, stages in found.items()]


def number(value: Any) -> str:
    """A number for reading: thousands apart, four digits that count; a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def interval(value: Mapping[str, Any], percent: bool = False) -> str:
    """The 95% interval of a figure and the number of cases behind it."""
    if value.get("low") is None:
        return f"n = {value.get('n', 0):,}"
    low, high = (f"{value[k]:.1%}" if percent else number(value[k]) for k in ("low", "high"))
    return f"{low} to {high}, n = {value['n']:,}"


def size(value: Any) -> str:
    """A number of bytes for reading."""
    amount = float(value or 0)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def words(name: Any) -> str:
    """A metric's name for reading."""
    return str(name).replace("_", " ")
