"""People in the loop: samples are handed out, rankings matched, and a run waits for them and goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from artifacts.audit.verify import verify
from artifacts.errors import RunError
from artifacts.store import Artifact, Store
from artifacts.tables import SAMPLES
from flows.config import load_pipeline
from flows.planning import inputs_for
from flows.waiting import WaitingForRankings, missing_rankings, resume_ready, wait_for_rankings
from tasks.label import STAGE, LabelConfig
from tasks.text.records import prompt_id
from tests.flows.runs import Deployed, served
from tests.flows.test_pipeline import crawl2chat
from tests.support import put_table, read_rows, run_stage

PEOPLE = LabelConfig(annotator="people")
PROMPTS = ["Why is the sky blue?", "Name a prime.", "Say nothing.", "為什麼？"]
ANSWERS = [["Light scatters.", "It is.", " Paint. "], ["7", "8", "7"], ["", ""], ["因為。", "所以。"]]


def put_samples(store: Store) -> Artifact:
    rows = [
        {
            "prompt_id": prompt_id([{"role": "user", "content": prompt}]),
            "messages": [{"role": "user", "content": prompt}],
            "responses": answers,
            "ended": [True] * len(answers),
            "policy": "sft@0123456789abcdef",
            "source": "asked",
            "split": "heldout" if prompt == PROMPTS[3] else "train",
        }
        for prompt, answers in zip(PROMPTS, ANSWERS, strict=True)
    ]
    return put_table(store, SAMPLES, pa.Table.from_pylist(rows, schema=SAMPLES.schema), "sample")


def handed_out(samples: Artifact) -> tuple[Path, list[dict[str, Any]]]:
    with pytest.raises(WaitingForRankings):
        wait_for_rankings("label", PEOPLE, {"samples": [samples]})
    folder = Path(samples.store.root) / "labelling" / samples.recipe
    return folder, [json.loads(line) for line in (folder / "to_rank.jsonl").read_text("utf8").splitlines()]


def write(folder: Path, name: str, *records: Any) -> None:
    lines = [record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records]
    (folder / name).write_text("".join(line + "\n" for line in lines), "utf8")


def rank_all(folder: Path, lines: list[dict[str, Any]], name: str = "rankings-anna.jsonl") -> None:
    write(folder, name, *({**line, "ranks": list(range(1, len(line["responses"]) + 1))} for line in lines))


@pytest.fixture
def samples(tmp_path: Path) -> Artifact:
    return put_samples(Store(tmp_path / "store"))


def test_what_is_handed_out_can_be_ranked_and_says_how(samples: Artifact) -> None:
    folder, lines = handed_out(samples)
    # The prompt whose answers are all the same text cannot be ranked, and equal answers are one.
    assert [line["messages"][0]["content"] for line in lines] == [PROMPTS[0], PROMPTS[1], PROMPTS[3]]
    assert [sorted(line["responses"]) for line in lines] == [
        ["It is.", "Light scatters.", "Paint."],
        ["7", "8"],
        ["因為。", "所以。"],
    ]
    assert all(line["ranks"] is None for line in lines)
    assert "rankings-NAME.jsonl" in (folder / "README.md").read_text()
    before = (folder / "to_rank.jsonl").read_bytes()
    assert handed_out(samples)[1] == lines and (folder / "to_rank.jsonl").read_bytes() == before


def test_rankings_are_matched_to_the_samples(samples: Artifact) -> None:
    folder, lines = handed_out(samples)
    write(
        folder,
        "rankings-anna.jsonl",
        {**lines[0], "responses": ["It is.", "Light scatters.", "Paint."], "ranks": [2, 1, 2]},
        {**lines[1], "ranks": [1, 2]},  # replaced by the line below
        {"messages": lines[1]["messages"], "output": ["8", "7"]},
        lines[2],  # not ranked yet
        {"instruction": "Nobody asked this", "output": ["a", "b"]},
        {**lines[2], "responses": ["因為。", "made up"], "ranks": [1, 2]},
        "{not json",
        {**lines[2], "ranks": [1, 1], "annotator": "cleo"},
    )
    write(folder, "rankings-ben.jsonl", {**lines[0], "responses": ["Paint.", "It is."], "ranks": [1, 2]})
    write(folder, "notes.jsonl", {"not": "read"})
    artifact = run_stage(STAGE, PEOPLE, samples.store, {"samples": samples}).artifact
    rows = {(row["prompt_id"], row["annotator"]): row for row in read_rows(artifact)}
    first, second, fourth = (line["prompt_id"] for line in lines)
    assert set(rows) == {(first, "anna"), (first, "ben"), (second, "anna"), (fourth, "cleo")}
    # The answers are the samples', as they were sampled.
    assert rows[first, "anna"]["responses"] == ["It is.", "Light scatters.", " Paint. "]
    assert rows[first, "anna"]["ranks"] == [2, 1, 2]
    assert rows[first, "anna"]["policy"] == ["sft@0123456789abcdef"] * 3
    assert (rows[second, "anna"]["responses"], rows[second, "anna"]["ranks"]) == (["8", "7"], [1, 2])
    assert (rows[fourth, "cleo"]["ranks"], rows[fourth, "cleo"]["split"]) == ([1, 1], "heldout")
    assert {row["source"] for row in rows.values()} == {"asked"}

    counts = artifact.manifest.counts
    # 9 records and 4 prompts; kept: 4 records and 3 prompts.
    assert (counts.rows_in, counts.kept, counts.dropped, counts.failed) == (13, 7, 3, 3)
    assert counts.reasons == {"bad_record": 3, "no_preference": 1, "not_ranked": 1, "superseded": 1}
    details = [row["detail"] for row in read_rows(artifact, "decisions") if row["failed"]]
    assert details[0] == "rankings-anna.jsonl:5: no prompt of the samples"
    assert details[1] == "rankings-anna.jsonl:6: answer 2 is none of this prompt's samples"
    assert details[2].startswith("rankings-anna.jsonl:7: not JSON")
    assert [(entry.name, entry.role) for entry in artifact.manifest.sources] == [
        ("rankings-anna.jsonl", "rankings"),
        ("rankings-ben.jsonl", "rankings"),
    ]
    assert verify(samples.store).problems == []


def test_the_recipe_follows_the_rankings_and_not_what_is_wanted(samples: Artifact) -> None:
    folder, lines = handed_out(samples)
    rank_all(folder, lines)
    made = run_stage(STAGE, PEOPLE, samples.store, {"samples": samples})
    assert run_stage(STAGE, LabelConfig(annotator="people", wanted=2), samples.store, {"samples": samples}).reused
    rank_all(folder, lines[:1], "rankings-ben.jsonl")
    again = run_stage(STAGE, PEOPLE, samples.store, {"samples": samples})
    assert not again.reused and again.artifact.recipe != made.artifact.recipe
    # Another annotator neither reads these files nor changes its recipe by them.
    simulated = run_stage(STAGE, LabelConfig(annotator="simulated"), samples.store, {"samples": samples})
    assert simulated.artifact.manifest.sources == []


@pytest.mark.parametrize(("wanted", "needed"), [(1.0, 3), (0.5, 2), (0.01, 1), (2, 2), (99, 3)])
def test_how_many_are_wanted(samples: Artifact, wanted: float, needed: int) -> None:
    config = LabelConfig(annotator="people", wanted=wanted)
    folder, lines = handed_out(samples)
    rank_all(folder, lines[: needed - 1])
    missing = missing_rankings("label", config, {"samples": [samples]})
    assert missing is not None
    assert str(missing).startswith(f"waiting for rankings: {needed - 1} of {needed} prompts in {folder} ")
    with pytest.raises(RunError, match=f"{needed - 1} of {needed} wanted prompts are ranked"):
        run_stage(STAGE, config, samples.store, {"samples": samples})
    rank_all(folder, lines[:needed])
    assert missing_rankings("label", config, {"samples": [samples]}) is None
    assert missing_rankings("reward", config, {"samples": [samples]}) is None


def write_config(folder: Path) -> str:
    path = folder / "people.yaml"
    path.write_text(yaml.safe_dump({"name": "people", "workers": 1, "label": {"annotator": "people"}}))
    return str(path)


def test_the_command_line_ends_with_where_to_label(tmp_path: Path) -> None:
    samples, config = put_samples(Store(tmp_path / "store")), write_config(tmp_path)
    words = ("stage", "label", "--config", config, "--input", f"samples={samples.ref}")
    waiting = crawl2chat(tmp_path, *words)
    folder, lines = handed_out(samples)
    assert waiting.returncode == 1
    assert f"waiting for rankings: 0 of 3 prompts in {folder}" in waiting.stderr
    assert "the same command goes on from there" in waiting.stderr and "Traceback" not in waiting.stderr
    assert len(lines) == 3 and waiting.stdout == ""


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployed, Path]]:
    folder = tmp_path_factory.mktemp("people")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(folder / "prefect"))
        patch.delenv("PREFECT_API_URL", raising=False)
        with served(write_config(folder), str(folder / "store")) as deployed:
            yield deployed, folder


def test_a_deployments_run_is_suspended_and_goes_on_when_the_rankings_are_there(
    deployed: tuple[Deployed, Path],
) -> None:
    runs, home = deployed
    store = Store(home / "store")
    samples = put_samples(store)
    run = runs.run("stage/people-label", {"inputs": {"samples": samples.ref}})
    folder, lines = handed_out(samples)
    assert run.state is not None and (run.state.name, run.state.is_paused()) == ("Suspended", True)
    shown = runs.client.read_artifacts()
    wanted = [artifact for artifact in shown if artifact.key == "rankings-wanted"]
    assert "**0 of 3** prompts are ranked" in str(wanted[0].data)
    assert f"`{folder}/to_rank.jsonl`" in str(wanted[0].data)

    # Too few yet: the watcher leaves it, and the button Resume only makes it look again.
    rank_all(folder, lines[:2])
    assert resume_ready(store.url) == []
    runs.client.resume_flow_run(run.id)
    early = runs.execute(run.id)
    assert early.state is not None and early.state.name == "Suspended"

    rank_all(folder, lines)
    assert resume_ready(store.url) == [str(run.id)]
    assert resume_ready(store.url) == []
    resumed = runs.client.read_flow_run(run.id)
    assert resumed.state is not None and resumed.state.is_scheduled()
    done = runs.execute(run.id)
    assert done.state is not None and done.state.is_completed(), done.state
    config = load_pipeline(str(home / "people.yaml"))
    assert inputs_for(config, store, "label", {"samples": [samples.ref]})["samples"] == [samples]
    assert len(read_rows(store.resolve("label@latest"))) == 3
    # Three tries, three records, of which the last one is whole.
    tries = [json.loads(path.read_text()) for path in sorted((home / "store" / "runs").glob("*.json"))]
    assert [record["ok"] for record in tries] == [False, False, True]
    assert verify(store).problems == []


def test_a_run_that_was_cancelled_is_not_resumed(deployed: tuple[Deployed, Path]) -> None:
    from prefect.states import Cancelled

    runs, home = deployed
    store = Store(home / "other")
    samples = put_samples(store)
    run = runs.run("stage/people-label", {"store": store.url, "inputs": {"samples": samples.ref}})
    runs.client.set_flow_run_state(run.id, Cancelled(), force=True)
    folder, lines = handed_out(samples)
    rank_all(folder, lines)
    assert resume_ready(store.url) == []
    assert list((folder / "waiting").iterdir()) == []
    state = runs.client.read_flow_run(run.id).state
    assert state is not None and state.is_cancelled()
