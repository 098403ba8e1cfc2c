"""The dataset card (`README.md`) of an artifact: `datasets.load_dataset(folder)` reads its front matter."""

from __future__ import annotations

from pathlib import Path

import yaml

from artifacts.manifest import Manifest


def write_card(folder: Path, manifest: Manifest) -> None:
    """Write `README.md`: a config a table (`data` is the default one), the counts, and where it comes from."""
    tables = sorted({path.parent.name for path in folder.glob("*/*.parquet")})
    configs = [
        {
            "config_name": name,
            "data_files": [{"split": "train", "path": f"{name}/*.parquet"}],
            **({"default": True} if name == "data" else {}),
        }
        for name in tables
    ]
    licences = sorted({source.licence for source in manifest.sources if source.licence})
    front = {"configs": configs, "tags": ["crawl2chat", manifest.stage]}
    if licences:
        front["license_name"] = ", ".join(licences)
    counts = manifest.counts
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip(),
        "---",
        "",
        f"# {manifest.stage}@{manifest.recipe}",
        "",
        f"Written by the stage `{manifest.stage}` of crawl2chat (version {manifest.stage_version} of the stage).",
        "",
    ]
    if counts.rows_in is not None:
        lines += [
            f"Rows in {counts.rows_in}: kept {counts.kept}, dropped {counts.dropped}, failed {counts.failed}.",
            "",
        ]
        lines += [f"- {reason}: {count}" for reason, count in counts.reasons.items()] + [""]
    if manifest.inputs:
        lines += ["Read:", ""] + [f"- {entry.name}: `{entry.artifact}`" for entry in manifest.inputs] + [""]
    if manifest.sources:
        lines += ["Sources:", ""]
        lines += [f"- {s.name} ({s.licence or 'licence not stated'})" for s in manifest.sources] + [""]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf8")
