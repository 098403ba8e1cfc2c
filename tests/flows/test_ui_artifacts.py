"""What a run shows in the UI, and what its log says: the artifacts' contents, and that none of them can fail a run."""

from __future__ import annotations

import base64
import logging
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from artifacts.store import Artifact, Store
from artifacts.tables import METRICS, MODEL
from flows import progress
from flows.ui import publish as sending
from flows.ui.lines import end_line, row_line, start_line, warnings
from flows.ui.publish import Shown, cell, copyable, key_of, markdown_table, publish
from flows.ui.run import artifact_of, drop_reasons, funnel, lineage, paths
from flows.ui.stage import curves, manifest_table
from tasks.execution import Outcome
from tasks.stage import Stage, StageConfig, StageContext, Summary
from tests.artifacts.chain import build
from tests.support import run_stage

LOG = logging.getLogger("tests.ui")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    return build(Store(tmp_path_factory.mktemp("chain") / "store"))


def rows_of(chain: dict[str, Artifact], *stages: str) -> list[dict[str, Any]]:
    return [Outcome(stage, chain[stage], False, 2.0).row() for stage in stages]


def value(shown: Shown, field: str) -> str:
    assert isinstance(shown.body, list)
    return next(str(row["value"]) for row in shown.body if row["field"] == field)


def test_the_manifest_names_what_was_made_and_from_what(chain: dict[str, Artifact]) -> None:
    made = chain["dedup"]
    counts = made.manifest.counts
    shown = manifest_table(Outcome("dedup", made, False, 3.25))
    assert shown.key == "dedup-manifest"
    assert [row["field"] for row in shown.body[:3]] == ["artifact", "status", "path"]  # type: ignore[index]
    assert value(shown, "artifact") == made.ref
    assert value(shown, "path") == made.path
    assert value(shown, "status") == "built in 3.2 s"
    assert value(shown, "input documents") == made.manifest.inputs[0].artifact
    assert value(shown, "rows") == f"{counts.rows_in} rows: {counts.kept} kept, {counts.dropped} dropped"
    reason, number = max(counts.reasons.items(), key=lambda item: item[1])
    assert value(shown, "reasons").startswith(f"{reason} {number} ({number / counts.rows_in:.1%})")
    assert made.ref in shown.description
    assert value(manifest_table(Outcome("dedup", made, True, 0.0)), "status") == "reused"


def test_a_funnel_counts_every_stage_and_says_why_it_ended(chain: dict[str, Artifact]) -> None:
    rows = rows_of(chain, "ingest", "dedup")
    shown = funnel(rows, "run-1", "demo", "disk | full")
    assert isinstance(shown.body, str)
    for row in rows:
        line = next(line for line in shown.body.splitlines() if line.startswith(f"| {row['stage']} "))
        assert f"| {row['rows_in']} | {row['kept']} |" in line
        assert f"{row['kept'] / row['rows_in']:.1%}" in line
    assert "**It ended early.** disk \\| full" in shown.body
    assert "ended early" in shown.description
    assert "ended early" not in funnel(rows, "run-1", "demo", "").body


def test_drop_reasons_add_up_to_what_was_dropped(chain: dict[str, Artifact]) -> None:
    artifacts = [chain["ingest"], chain["dedup"]]
    shown = drop_reasons(artifacts, "run-1")
    assert shown is not None and isinstance(shown.body, list)
    for artifact in artifacts:
        counts = artifact.manifest.counts
        listed = [int(row["rows"]) for row in shown.body if row["stage"] == artifact.stage]
        assert sum(listed) == sum(counts.reasons.values())
        assert listed == sorted(listed, reverse=True)
    assert drop_reasons([], "run-1") is None


def test_lineage_is_a_mermaid_graph_with_one_edge_between_two_artifacts(chain: dict[str, Artifact]) -> None:
    made = chain["dedup"]
    alone = lineage(made.store, [made], "run-1")
    assert alone is not None and isinstance(alone.body, str)
    graph = alone.body.partition("```mermaid\n")[2].partition("```")[0]
    assert f'["dedup<br/>{made.recipe[:8]}"]' in graph
    assert f'["ingest<br/>{chain["ingest"].recipe[:8]}"]' in graph
    artifacts = list(chain.values())
    whole = lineage(made.store, artifacts, "run-1")
    assert whole is not None and isinstance(whole.body, str)
    edges = re.findall(r"(n\d+) -->\|\"[^\"]+\"\| (n\d+)", whole.body)
    assert len(edges) == len(set(edges)) >= len(artifacts) - 1
    assert lineage(made.store, [], "run-1") is None


def test_paths_lead_to_report_record_and_artifacts(chain: dict[str, Artifact]) -> None:
    rows = rows_of(chain, "ingest", "dedup")
    store = chain["ingest"].store
    shown = paths(store, rows, "run-1", "")
    assert isinstance(shown.body, str)
    for place in (f"{store.url}/reports/run-1.html", f"{store.url}/runs/run-1.json", rows[1]["path"]):
        assert f"\n{place}\n" in shown.body
    assert [artifact_of(store, row) for row in rows] == [chain["ingest"], chain["dedup"]]


class NoConfig(StageConfig):
    pass


def training(name: str, names: dict[str, list[float]]) -> Stage:
    def run(context: StageContext) -> Summary:
        rows = [
            {"step": step, "name": key, "value": found}
            for key, values in names.items()
            for step, found in enumerate(values)
        ]
        context.writer("data").write(pa.Table.from_pylist(rows, schema=METRICS.schema))
        context.path("model/model.safetensors").write_bytes(b"x")
        return Summary()

    return Stage(name, 1, NoConfig, {}, {"data": METRICS, "model": MODEL}, run)


def test_curves_are_images_with_their_text(tmp_path: Path) -> None:
    def trained(name: str, names: dict[str, list[float]]) -> Artifact:
        return run_stage(training(name, names), NoConfig(), Store(tmp_path)).artifact

    shown = curves(trained("ppo", {"reward": [0.5, 1.5], "kl": [0.0, 2.0]}))
    assert shown is not None and isinstance(shown.body, str)
    assert shown.key == "ppo-curves"
    images = re.findall(r"!\[([^\]]*)\]\(data:image/png;base64,([^)]+)\)", shown.body)
    assert [text.partition(".")[0] for text, _ in images] == ["Reward", "KL to the SFT model"]
    for _, image in images:
        assert base64.b64decode(image).startswith(b"\x89PNG")
        assert len(image) < 40_000
    assert "PPO-ptx from 0.500 to 1.500." in shown.body
    drawn = curves(trained("pretrain", {"train_loss": [3.0 - 0.05 * step for step in range(40)]}))
    assert drawn is not None  # a running mean over two steps ends between the last two values
    assert drawn.description == "Pretraining: loss: Train from 3.000 to 1.075."
    assert curves(trained("sft", {"other": [1.0]})) is None


def test_nothing_that_cannot_be_shown_fails_a_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[str] = []

    def send(shown: Shown) -> None:
        if shown.key == "refused":
            raise OSError("no server")
        sent.append(shown.key)

    def broken() -> Shown:
        raise ValueError("a damaged table")

    monkeypatch.setattr(sending, "_send", send)
    with caplog.at_level(logging.INFO):
        publish([lambda: Shown("one", "", ""), lambda: None, broken, lambda: Shown("two", "", "")], LOG)
        assert sent == ["one", "two"]
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "a damaged table" in caplog.text
        publish([lambda: Shown("refused", "", ""), lambda: Shown("three", "", "")], LOG)
    assert sent == ["one", "two"]
    assert "refused could not be shown in the UI: OSError: no server" in caplog.text


def test_names_of_files_become_no_markup() -> None:
    assert cell("a|b <img src=x> [x](y) `c` *d* \n e") == "a\\|b &lt;img src=x&gt; \\[x\\](y) \\`c\\` \\*d\\* e"
    assert markdown_table(("name", "rows"), [("a|b", 1234), ("c", None)], ("rows",)).splitlines() == [
        "| name | rows |",
        "| --- | --: |",
        "| a\\|b | 1,234 |",
        "| c | – |",
    ]
    assert copyable("a```b").startswith("````text\n")
    assert key_of("ppo_without_ptx", "manifest") == "ppo-without-ptx-manifest"


def test_a_stage_is_two_lines_in_the_log_and_a_warning_where_needed(
    chain: dict[str, Artifact], caplog: pytest.LogCaptureFixture
) -> None:
    made = chain["dedup"]
    given = [chain["ingest"]]
    assert start_line("dedup", {"documents": given}, "12ab") == (
        f"dedup: building recipe 12ab from documents={given[0].ref}"
    )
    counts = made.manifest.counts
    account = f"{counts.rows_in} rows: {counts.kept} kept, {counts.dropped} dropped"
    assert end_line(Outcome("dedup", made, False, 1.04)) == f"{made.ref} built in 1.0 s: {account}; {made.path}"
    assert row_line(Outcome("dedup", made, True, 0.0).row()) == f"{made.ref} reused: {account}"
    assert end_line(Outcome("dedup", made, False, 1.0, resumed=3)).endswith("; 3 shards were done before")
    warnings(Outcome("dedup", made, False, 1.0), LOG)
    assert not caplog.records
    counts.kept, counts.failed = 0, 2
    try:
        warnings(Outcome("dedup", made, True, 0.0), LOG)
        assert not caplog.records
        warnings(Outcome("dedup", made, False, 1.0), LOG)
    finally:
        del made.__dict__["manifest"]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert f"none of {counts.rows_in} rows survived" in caplog.text
    assert f"2 of {counts.rows_in} rows could not be read" in caplog.text


def test_progress_is_a_line_a_minute_and_of_training_one_a_tenth(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(progress, "ARTIFACT_SECONDS", 1e9)
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 1e9)

    def lines(training: bool, seconds_a_step: float) -> list[str]:
        caplog.clear()
        reporter = progress.StageProgress("pretrain", None, LOG, training)
        with caplog.at_level(logging.INFO):
            for step in range(1, 1001):
                clock[0] += seconds_a_step
                reporter(step, 1000, f"loss {step}")
        return [record.getMessage() for record in caplog.records]

    assert lines(training=False, seconds_a_step=0.03125) == []
    assert lines(training=False, seconds_a_step=0.125) == [
        "pretrain: 480 of 1,000: loss 480",
        "pretrain: 960 of 1,000: loss 960",
    ]
    tenths = lines(training=True, seconds_a_step=0.125)
    assert tenths == [f"pretrain: {step:,} of 1,000: loss {step}" for step in range(100, 1001, 100)]
    assert len(lines(training=True, seconds_a_step=0.0009765625)) == 0
    assert len(lines(training=True, seconds_a_step=12.0)) == 1000 * 12 // 60


def test_the_progress_of_a_stage_that_ended_well_is_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[tuple[float, str]] = []

    def publish_it(self: progress.StageProgress, percent: float, what: str) -> None:
        self._artifact = "an artifact"
        published.append((percent, what))

    monkeypatch.setattr(progress.StageProgress, "_publish", publish_it)
    monkeypatch.setattr(progress, "ARTIFACT_SECONDS", -1.0)
    with progress.stage_progress("dedup") as report:
        report(1, 4, "signing documents")
    assert published == [(25.0, "signing documents"), (100.0, "done")]
    with pytest.raises(ValueError), progress.stage_progress("dedup") as report:
        report(1, 4, "signing documents")
        raise ValueError
    assert published[2:] == [(25.0, "signing documents")]
    with progress.stage_progress("dedup"):
        pass
    assert len(published) == 3
