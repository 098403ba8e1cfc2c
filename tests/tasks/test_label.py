"""label: every published form of a preference, rankings out of pairs, the simulated annotator, real files."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from artifacts.errors import UserError
from artifacts.sources import Source
from artifacts.store import Store
from artifacts.tables import SAMPLES
from tasks.label import STAGE, LabelConfig
from tasks.label import stage as label_stage
from tasks.label.agreement import agreement
from tasks.label.formats import read_preference
from tasks.label.merge import merge
from tasks.label.simulated import rank, score
from tasks.text.records import prompt_id
from tasks.training.intervals import mean_interval, paired_difference, wilson
from tests.support import put_table, read_rows, run_stage

ASKED = [{"role": "user", "content": "Why?"}]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def source(path: Path, **options: Any) -> Source:
    size = path.stat().st_size
    return Source(path.name, path, f"{size:064x}", size, "preferences", options=tuple(options.items()))


def label(store: Store, monkeypatch: pytest.MonkeyPatch, sources: list[Source], **fields: Any) -> Any:
    monkeypatch.setattr(label_stage, "resolve_sources", lambda entries, default: sources)
    stage = label_stage.Stage(**{**STAGE.__dict__, "sources": lambda config: sources})
    return run_stage(stage, LabelConfig(**fields), store).artifact


@pytest.mark.parametrize(
    "value",
    [
        {"prompt": "Why?", "chosen": "Yes.", "rejected": "No."},
        {"prompt": "\n\nHuman: Why?\n\nAssistant:", "chosen": " Yes.", "rejected": " No."},
        {"chosen": "\n\nHuman: Why?\n\nAssistant: Yes.", "rejected": "\n\nHuman: Why?\n\nAssistant: No."},
        {"instruction": "Why?", "input": "", "output": ["Yes.", "No."]},
        {"instruction": "Why?", "chosen": "Yes.", "rejected": "No."},
        {
            "conversations": [{"from": "human", "value": "Why?"}],
            "chosen": {"from": "gpt", "value": "Yes."},
            "rejected": {"from": "gpt", "value": "No."},
        },
        {"messages": ASKED, "responses": ["Yes.", "No."], "ranks": [1, 2]},
        {
            "chosen": [*ASKED, {"role": "assistant", "content": "Yes."}],
            "rejected": [*ASKED, {"role": "assistant", "content": "No."}],
        },
        {"prompt": "Why?", "completion_a": "Yes.", "completion_b": "No.", "preference": "a-is-slightly-better"},
    ],
)
def test_every_form_says_the_same(value: dict[str, Any]) -> None:
    judged = read_preference(value)
    assert (judged.messages, judged.responses, judged.ranks) == (ASKED, ["Yes.", "No."], [1, 2])


def test_the_verdicts_of_a_pairwise_judgement() -> None:
    value = {"prompt": "Why?", "completion_a": "A", "completion_b": "B", "model_a": "m", "model_b": "n"}
    found = {word: read_preference({**value, "preference": word}).ranks for word in ("a-is-better", "b", "tie")}
    assert found == {"a-is-better": [1, 2], "b": [2, 1], "tie": [1, 1]}
    assert read_preference({**value, "preference": "tie"}).policy == ["m", "n"]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"prompt": "Why?", "chosen": "Yes."}, "rejected is missing"),
        ({"chosen": "Yes.", "rejected": "No."}, "prompt is missing"),
        ({"instruction": "Why?", "output": "Yes."}, "one answer, not a list"),
        ({"instruction": "Why?", "output": ["Yes."]}, "two answers or more"),
        ({"instruction": "Why?"}, "no preference"),
        ({"prompt": "Why?", "completion_a": "A", "completion_b": "B", "preference": "c"}, "preference is 'c'"),
        ({"messages": ASKED, "responses": ["A", "B"], "ranks": [1]}, "1 numbers for 2 answers"),
        ({"messages": ASKED, "responses": ["A", "B"], "ranks": [0, 1]}, "from 1 on"),
        (
            {"chosen": "\n\nHuman: Why?\n\nAssistant: Yes.", "rejected": "\n\nHuman: How?\n\nAssistant: No."},
            "do not share their prompt",
        ),
    ],
)
def test_what_is_missing_is_said(value: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_preference(value)


def test_pairs_become_a_ranking_only_where_they_determine_one() -> None:
    assert merge([("a", "b", -1), ("b", "c", -1)]) == {"a": 1, "b": 2, "c": 3}
    assert merge([("c", "b", 1), ("a", "b", -1), ("a", "c", -1)]) == {"a": 1, "b": 2, "c": 3}
    assert merge([("a", "b", 0), ("b", "c", -1)]) == {"a": 1, "b": 1, "c": 2}
    assert merge([("a", "b", 0), ("b", "c", 0)]) == {"a": 1, "b": 1, "c": 1}
    assert merge([("a", "b", -1), ("a", "c", -1)]) is None  # b against c was never asked
    assert merge([("a", "b", -1), ("b", "c", -1), ("c", "a", -1)]) is None  # a circle
    assert merge([("a", "b", 0), ("a", "b", -1)]) is None  # a tie with a winner
    assert merge([("a", "b", -1), ("c", "d", -1)]) is None  # two islands


def test_all_branches_of_a_dialogue_are_on_one_side(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = []
    for number in range(60):
        lines.append({"instruction": f"{number}?", "output": ["Yes.", "No."]})
        lines.append({"instruction": "Why?", "history": [[f"{number}?", "Yes."]], "output": ["So.", "Because."]})
    path = tmp_path / "tree.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    rows = read_rows(label(store, monkeypatch, [source(path)], heldout_fraction=0.5))
    assert len(rows) == 120 and {row["split"] for row in rows} == {"train", "heldout"}
    assert all(one["split"] == other["split"] for one, other in zip(rows[::2], rows[1::2], strict=True))


def test_a_file_is_accounted_for_record_by_record(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judgement(prompt: str, a: str, b: str, verdict: str, who: str) -> dict[str, str]:
        return {"prompt": prompt, "completion_a": a, "completion_b": b, "preference": verdict, "evaluator": who}

    lines = [
        {"prompt": "One?", "chosen": "Yes.", "rejected": "No."},
        {"prompt": "One?", "chosen": "Same.", "rejected": "Same."},
        {"prompt": "One?", "chosen": "Yes."},
        judgement("Two?", "x", "y", "a-is-better", "ann"),
        judgement("Two?", "y", "z", "tie", "ann"),
        judgement("Two?", "x", "y", "b-is-better", "bob"),
        {"instruction": "Three?", "output": ["best", "worse", "best", "worst"]},
    ]
    path = tmp_path / "made.jsonl"
    path.write_text("\n".join([*map(json.dumps, lines), "{broken"]) + "\n")
    artifact = label(store, monkeypatch, [source(path, axis="harmless", annotator="human")], heldout_fraction=0)
    counts = artifact.manifest.counts
    assert (counts.rows_in, counts.kept, counts.dropped, counts.failed) == (8, 5, 1, 2)
    assert counts.reasons == {"bad_record": 2, "no_preference": 1}
    details = [row["detail"] for row in read_rows(artifact, "decisions") if row["failed"]]
    assert details[0] == "made.jsonl:3: rejected is missing"
    assert details[1].startswith("made.jsonl:8: not JSON")
    rows = read_rows(artifact)
    assert [(row["responses"], row["ranks"], row["annotator"]) for row in rows] == [
        (["Yes.", "No."], [1, 2], "human"),
        (["x", "y", "z"], [1, 2, 2], "ann"),
        (["x", "y"], [2, 1], "bob"),
        (["best", "worse", "worst"], [1, 2, 4], "human"),
    ]
    assert {row["axis"] for row in rows} == {"harmless"}
    assert {row["split"] for row in rows} == {"train"}
    assert rows[0]["prompt_id"] == prompt_id([{"role": "user", "content": "One?"}])
    found = artifact.manifest.metrics
    assert (found["pairs"], found["tied_pairs"]) == (1 + 2 + 1 + 3, 1)
    # ann and bob both judged x against y, and differ.
    assert found["agreement"]["strict"]["value"] == 0
    assert found["agreement"]["strict"]["n"] == 1


def test_gzip_and_parquet_read_like_plain_lines(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": f"{n}?", "chosen": "Yes.", "rejected": "No."} for n in range(3)]
    zipped, parquet = tmp_path / "made.jsonl.gz", tmp_path / "made.parquet"
    with gzip.open(zipped, "wt") as stream:
        stream.write("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), parquet)
    first = label(store, monkeypatch, [source(zipped)])
    second = label(store, monkeypatch, [source(parquet)])
    assert first.recipe != second.recipe
    assert len(read_rows(first)) == 3
    assert read_rows(first) == read_rows(second)


@pytest.mark.parametrize("text", ["", '{"instruction": "Why?", "output": "So."}\n'])
def test_a_file_without_preferences_is_the_users_error(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path = tmp_path / "sft.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=r"sft\.jsonl holds no preference"):
        label(store, monkeypatch, [source(path)])


def test_nothing_to_rank_is_the_users_error(store: Store) -> None:
    with pytest.raises(UserError, match=r"label\.data"):
        run_stage(STAGE, LabelConfig(), store)


def test_the_simulated_score() -> None:
    # 5 words, 3 trigrams, all distinct; "sort" of the question's sort, list occurs.
    assert score("Sort a list?", "They sort it in place.", True, 5) == pytest.approx(1 + 1 + 1 + 1 + 0.5)
    assert score("Sort a list?", "They sort it in place", False, 11) == pytest.approx(0 + 0 + 1 + 6 / 12 + 0.5)
    assert score("?", "a a a a a a", True, 6) == pytest.approx(1 + 0 + 1 / 4 + 1 + 0)
    assert score("Why?", "", True, 5) == 1
    assert score("为什么", "因为。", False, 2) == pytest.approx(0 + 1 + 1 + 1 + 1 / 3)


def test_the_simulated_ranks_have_ties_and_a_noise_that_repeats() -> None:
    answers = ["They sort it in place.", "They sort it in place!", "no"]
    plain: dict[str, Any] = {"seed": 0, "target_words": 5, "step": 0.25}
    ranks, scores = rank("Sort a list?", answers, [True] * 3, annotator="simulated", noise=0, **plain)
    assert ranks == [1, 1, 2]
    assert scores[0] == 4.5
    noisy = [
        rank(f"Sort {n}?", answers, [True] * 3, annotator=name, noise=1.0, **plain)[0]
        for n in range(40)
        for name in ("simulated", "simulated", "simulated-2")
    ]
    assert noisy[::3] == noisy[1::3]
    assert noisy[::3] != noisy[2::3]


def samples(count: int) -> pa.Table:
    rows = [
        {
            "prompt_id": f"{number:032x}",
            "messages": [{"role": "user", "content": f"What does function{number} return?"}],
            "responses": [f"It returns function{number}.", "It it it it it it", "Nothing", "Nothing"],
            "ended": [True, False, True, False],
            "policy": "sft@1",
            "source": "docstrings",
            "split": "heldout" if number % 4 == 0 else "train",
        }
        for number in range(count)
    ]
    rows[1]["responses"] = ["Same"] * 4
    return pa.Table.from_pylist(rows, schema=SAMPLES.schema)


def test_samples_are_ranked_by_the_simulated_annotator(store: Store) -> None:
    given = put_table(store, SAMPLES, samples(40), "sample")
    config = LabelConfig(annotator="simulated", second_opinions=0.5, noise=0)
    artifact = run_stage(STAGE, config, store, {"samples": given}).artifact
    counts = artifact.manifest.counts
    assert (counts.rows_in, counts.kept, counts.dropped) == (40, 39, 1)
    assert counts.reasons == {"no_preference": 1}
    rows = read_rows(artifact)
    assert {row["annotator"] for row in rows} == {"simulated", "simulated-2"}
    assert all(row["responses"][0].startswith("It returns") and row["ranks"][0] == 1 for row in rows)
    assert all(len(row["responses"]) == 3 for row in rows)
    assert rows[0]["split"] == "heldout"
    assert rows[0]["policy"] == ["sft@1"] * 3
    # Without noise the two never differ.
    assert artifact.manifest.metrics["agreement"]["with_ties"]["value"] == 1.0
    twice = artifact.manifest.metrics["agreement"]["prompts"]
    assert len(rows) == 39 + twice
    assert 10 <= twice <= 30


def test_samples_without_an_annotator_are_dropped_by_name(store: Store) -> None:
    given = put_table(store, SAMPLES, samples(3), "sample")
    artifact = run_stage(STAGE, LabelConfig(), store, {"samples": given}).artifact
    assert artifact.manifest.counts.reasons == {"no_annotator": 3}
    assert read_rows(artifact) == []


def test_agreement_counts_pairs_not_rankings() -> None:
    rows = [
        {"prompt_id": "p", "responses": ["a", "b", "c"], "ranks": [1, 2, 3], "annotator": "x"},
        {"prompt_id": "p", "responses": ["c", "b", "a"], "ranks": [1, 2, 2], "annotator": "y"},
        {"prompt_id": "p", "responses": ["a", "b"], "ranks": [2, 1], "annotator": "x"},
        {"prompt_id": "q", "responses": ["a", "b"], "ranks": [1, 2], "annotator": "y"},
    ]
    found = agreement(rows)
    # a-b: x says a, y a tie; a-c: x says a, y says c; b-c: x says b, y says c.
    assert found["prompts"] == 1
    assert (found["strict"]["value"], found["strict"]["n"]) == (0, 2)
    assert (found["with_ties"]["value"], found["with_ties"]["n"]) == (0, 3)


def test_intervals() -> None:
    found = wilson(8, 10)
    assert found["low"] == pytest.approx(0.4901625, abs=1e-6)
    assert found["high"] == pytest.approx(0.9433178, abs=1e-6)
    assert wilson(0, 0) == {"value": None, "low": None, "high": None, "n": 0}
    assert wilson(10, 10)["high"] == pytest.approx(1.0)
    found = mean_interval([1.0, 2.0, 3.0, 4.0])
    assert found["mean"] == 2.5
    assert found["high"] == pytest.approx(2.5 + 1.959964 * 1.2909944 / 2)
    found = paired_difference([2.0, 3.0, 5.0], [1.0, 2.0, 4.0])
    assert (found["mean"], found["low"], found["high"]) == (1.0, 1.0, 1.0)


REAL = {
    "helpful-base/test.jsonl.gz": (2354, 2343, 2, 9),
    "harmless-base/test.jsonl.gz": (2312, 2307, 0, 5),
    "llamafactory_dpo_en_demo.json": (300, 300, 0, 0),
    "llamafactory_dpo_zh_demo.json": (300, 300, 0, 0),
    "oasst_rm_zh_ranked.json": (775, 772, 3, 0),
    "open_instruct_tulu1_human_pairs.jsonl": (1150, 1110, 40, 0),
}


def real_file(name: str) -> Path:
    for folder in filter(None, os.environ.get("CRAWL2CHAT_MIRROR", "").split(":")):
        for path in sorted(Path(folder).rglob(Path(name).name)):
            if str(path).endswith(name):
                return path
    pytest.skip(f"{name} is not in CRAWL2CHAT_MIRROR")


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_files_are_accounted_for(name: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = label(store, monkeypatch, [source(real_file(name))])
    counts = artifact.manifest.counts
    assert (counts.rows_in, counts.kept, counts.dropped, counts.failed) == REAL[name]
    if "tulu1" in name:
        rows, found = read_rows(artifact), artifact.manifest.metrics
        assert found["annotators"] == 16
        assert max(len(row["responses"]) for row in rows) == 4
        assert found["agreement"]["prompts"] > 100
    if "oasst" in name:
        assert artifact.manifest.metrics["by_responses"]["10"] == 1
