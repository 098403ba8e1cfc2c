"""The card (`README.md`) of an artifact: `datasets.load_dataset(folder)` reads its front matter.

Every artifact has a short one in the store. That of an export says more: all sources above it with their licences, the
chain of stages, and for a model how it is opened and what it was made from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from artifacts.audit.licences import licences_of, sources_in, stated
from artifacts.graph import StoreGraph, inputs_first
from artifacts.manifest import Manifest, SourceEntry
from artifacts.store import Artifact
from artifacts.urls import address

# The names that the Hub has for licences; anything else is `other`, with its name beside.
HUB_LICENCES = frozenset(
    "apache-2.0 mit bsd-3-clause cc0-1.0 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-4.0 cc-by-nc-sa-4.0 "
    "odc-by unlicense".split()
)


def write_card(folder: Path, manifest: Manifest, licences: Sequence[str]) -> None:
    """Write `README.md`: a config a table (`data` is the default one), the counts, and where it comes from.

    Args:
        licences: of every source in it, its own and those of all that it was made from (`artifacts.audit.licences`).
    """
    front: dict[str, Any] = {"configs": _configs(path.relative_to(folder).as_posix() for path in folder.glob("*/*"))}
    front["tags"] = ["crawl2chat", manifest.stage]
    if licences:
        front |= {"license": "other", "license_name": ", ".join(licences)}
    lines = [*_front(front), *_title(manifest), *_account(manifest)]
    if manifest.inputs:
        lines += ["Read:", ""] + [f"- {entry.name}: `{entry.artifact}`" for entry in manifest.inputs] + [""]
    if manifest.sources:
        lines += ["Sources:", ""]
        lines += [f"- {s.name} ({s.licence or 'licence not stated'})" for s in manifest.sources] + [""]
    if licences:
        lines += ["Licences of every source in it:", ""] + [f"- {name}" for name in licences] + [""]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf8")


def holds(manifest: Manifest) -> str:
    """ "model", "tokenizer" or "dataset": as what an export of the artifact is laid out."""
    if "model/config.json" in manifest.files:
        return "model"
    return "tokenizer" if "model/tokenizer.json" in manifest.files else "dataset"


def export_card(whole: StoreGraph, artifact: Artifact) -> str:
    """The card of an export, without a path or a host of this machine."""
    manifest = artifact.manifest
    kind = holds(manifest)
    licences = licences_of(artifact)
    known = licences[0].lower() if len(licences) == 1 else "other"
    front: dict[str, Any] = {"license": known if known in HUB_LICENCES else "other"}
    if front["license"] == "other" and licences:
        front["license_name"] = " AND ".join(licences)
    if kind != "dataset":
        front["library_name"] = "transformers"
    if kind == "model":
        front["pipeline_tag"] = "text-classification" if _scores(artifact) else "text-generation"
    front["configs"] = _configs(manifest.files)
    front["tags"] = ["crawl2chat", manifest.stage]
    chain = inputs_first(whole, {artifact, *whole.ancestors(artifact)})
    return "\n".join(
        [
            *_front(front),
            *_title(manifest),
            *_account(manifest),
            *_usage(kind, manifest, _scores(artifact)),
            *_bases(artifact),
            *_sources(list(sources_in(artifact.store, manifest))),
            *_chain(chain),
            *_metrics(manifest.metrics),
            *_config(manifest),
        ]
    )


def _front(front: Mapping[str, Any]) -> list[str]:
    return ["---", yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True).strip(), "---", ""]


def _configs(names: Iterable[str]) -> list[dict[str, Any]]:
    tables = sorted({name.split("/")[0] for name in names if name.endswith(".parquet") and name.count("/") == 1})
    return [
        {
            "config_name": name,
            "data_files": [{"split": "train", "path": f"{name}/*.parquet"}],
            **({"default": True} if name == "data" else {}),
        }
        for name in tables
    ]


def _title(manifest: Manifest) -> list[str]:
    return [
        f"# {manifest.stage}@{manifest.recipe}",
        "",
        f"Written by the stage `{manifest.stage}` of crawl2chat (version {manifest.stage_version} of the stage).",
        "",
    ]


def _account(manifest: Manifest) -> list[str]:
    counts = manifest.counts
    if counts.rows_in is None:
        return []
    rows = f"Rows in {counts.rows_in}: kept {counts.kept}, dropped {counts.dropped}, failed {counts.failed}."
    return [rows, "", *(f"- {reason}: {count}" for reason, count in counts.reasons.items()), ""]


def _scores(artifact: Artifact) -> bool:
    """Whether it holds a reward model, which gives a number for a text, and no text."""
    if "model/config.json" not in artifact.manifest.files:
        return False
    return "ForSequenceClassification" in artifact.store.read_text(f"{artifact.folder}/model/config.json")


def _usage(kind: str, manifest: Manifest, scores: bool) -> list[str]:
    lines = ["## Use", "", "```python"]
    if kind == "model":
        name = "AutoModelForSequenceClassification" if scores else "AutoModelForCausalLM"
        lines += [f"from transformers import {name}, AutoTokenizer", "", f'model = {name}.from_pretrained("FOLDER")']
    if kind == "tokenizer":
        lines += ["from transformers import AutoTokenizer", ""]
    if kind != "dataset":
        lines += ['tokenizer = AutoTokenizer.from_pretrained("FOLDER")']
    tables = [config["config_name"] for config in _configs(manifest.files)]
    if tables:
        lines += [*([""] if kind != "dataset" else []), "from datasets import load_dataset", ""]
        lines += [f'{table} = load_dataset("FOLDER", "{table}")["train"]' for table in tables]
    return [*lines, "```", ""]


def _bases(artifact: Artifact) -> list[str]:
    """The models that it was made with: those of its inputs that hold one."""
    found = []
    for entry in artifact.manifest.inputs:
        stage, _, recipe = entry.artifact.partition("@")
        base = Artifact(artifact.store, stage, recipe, entry.content[:16])
        if artifact.store.holds(f"{base.folder}/model/config.json"):
            found.append(f"- {entry.name}: `{entry.artifact}`, content `{entry.content}`")
    return ["## Base models", "", *found, ""] if found else []


def _sources(sources: list[SourceEntry | None]) -> list[str]:
    """The external files above the artifact, those of one data manifest in one line."""
    groups: dict[tuple[str, str, str], list[SourceEntry]] = {}
    for source in sources:
        if source is not None:
            key = (source.manifest or source.name, source.role or "", stated(source.licence))
            groups.setdefault(key, []).append(source)
    lines = ["## Sources", "", "| source | role | licence | files | bytes | from |", "|---|---|---|---|---|---|"]
    for (name, role, licence), given in sorted(groups.items()):
        places = sorted({_cell(address(source.url or "") or "") for source in given} - {""})
        where = places[0] + (f" and {len(places) - 1} more" if len(places) > 1 else "") if places else ""
        size = sum(source.bytes for source in given)
        lines.append(
            f"| {' | '.join(_cell(word) for word in (name, role, licence))} | {len(given)} | {size} | {where} |"
        )
    if None in sources:
        lines += ["", "Some of what it was made from is no longer in the store: its sources are not in this list."]
    return [*lines, ""] if groups or None in sources else []


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def _chain(chain: Iterable[Artifact]) -> list[str]:
    lines = [
        "## Made by",
        "",
        "| artifact | rows in | kept | dropped | failed | content |",
        "|---|---|---|---|---|---|",
    ]
    for artifact in chain:
        manifest = artifact.manifest
        figures = [getattr(manifest.counts, name) for name in ("rows_in", "kept", "dropped", "failed")]
        cells = " | ".join("" if figure is None else str(figure) for figure in figures)
        lines.append(f"| `{artifact.ref}` | {cells} | `{manifest.content}` |")
    return [*lines, ""]


def _metrics(metrics: Mapping[str, Any]) -> list[str]:
    plain = {
        name: value
        for name, value in metrics.items()
        if isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
    }
    if not plain:
        return []
    return [
        "## Metrics",
        "",
        "| metric | value |",
        "|---|---|",
        *(f"| {_cell(n)} | {_cell(str(v))} |" for n, v in plain.items()),
        "",
    ]


def _config(manifest: Manifest) -> list[str]:
    """The config that decided the result; what lies outside the recipe (paths, workers, devices) is left out."""
    text = yaml.safe_dump({manifest.stage: manifest.config}, sort_keys=False, allow_unicode=True).strip()
    return ["## Config", "", "```yaml", text, f"seed: {manifest.seed}", "```", ""]
