"""Instruction files of every form become conversations; what does not is counted and named."""

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
from artifacts.store import Store
from artifacts.tables import CRAWL
from tasks.demonstrations import STAGE, DemonstrationsConfig
from tasks.demonstrations.formats import read_demonstrations
from tasks.execution import Outcome
from tasks.stage import Stage, StageConfig, StageContext, Summary
from tests.support import read_rows, run_stage

MIRROR = os.environ.get("CRAWL2CHAT_MIRROR")
HI = {"role": "user", "content": "Hi"}
HELLO = {"role": "assistant", "content": "Hello."}
PROMPT_1 = [HI, HELLO, {"role": "user", "content": "More"}]


def jsonl(folder: Path, name: str, *records: Any) -> str:
    path = folder / name
    text = "\n".join(r if isinstance(r, str) else json.dumps(r) for r in records).encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return str(path)


def run(tmp_path: Path, *data: str, seed: int = 0, **config: Any) -> Outcome:
    return run_stage(STAGE, DemonstrationsConfig(data=list(data), **config), Store(tmp_path / "store"), seed=seed)


@pytest.mark.parametrize(
    "record",
    [
        {"instruction": "Hi", "input": "", "output": "Hello."},
        {"instruction": "Hi", "output": ["Hello.", "No."]},
        {"instruction": "Hi", "output": ["No.", "Hello."], "ranks": [2, 1]},
        {"instruction": "Hi", "instances": [{"input": "", "output": "Hello."}]},
        {"prompt": "Hi", "chosen": "Hello.", "rejected": "No."},
        {"prompt": [HI], "completion": "Hello."},
        {"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": " Hello.", "rejected": " No."},
        {"prompt": "Hi", "chosen": [HI, HELLO], "rejected": [HI, {**HELLO, "content": "No."}]},
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello.", "rejected": "\n\nHuman: Hi\n\nAssistant: No."},
        {"messages": [HI, HELLO]},
        {"messages": [HI], "chosen": HELLO, "rejected": HI},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]},
        {
            "conversations": [{"from": "human", "value": "Hi"}],
            "chosen": {"from": "gpt", "value": "Hello."},
            "rejected": {"from": "gpt", "value": "No."},
        },
        {"question": "Hi", "answer": "Hello."},
    ],
)
def test_every_form_gives_the_same_conversation(record: dict[str, Any]) -> None:
    (found,) = read_demonstrations(record)
    assert found.messages == [HI, HELLO]
    assert (found.answer, found.note) == (None, "")


def test_history_and_system_come_first() -> None:
    record = {
        "instruction": "More",
        "input": "x",
        "output": "Yes.",
        "history": [["Hi", "Hello."]],
        "system": "Be brief.",
    }
    (found,) = read_demonstrations(record)
    assert [(turn["role"], turn["content"]) for turn in found.messages] == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello."),
        ("user", "More\nx"),
        ("assistant", "Yes."),
    ]


def test_the_checkable_answer_is_kept_apart() -> None:
    (found,) = read_demonstrations({"question": "2 + 3?", "answer": "2 + 3 = <<2+3=5>>5\n#### 5"})
    assert found.answer == "5"
    assert found.messages[-1]["content"].endswith("#### 5")
    (found,) = read_demonstrations({"context": "Two and three. How many?", "answer": "5"})
    assert (found.messages[0]["content"], found.answer) == ("Two and three. How many?", "5")


def test_an_unanswered_last_turn_is_cut_off_and_said() -> None:
    (found,) = read_demonstrations({"messages": [*PROMPT_1]})
    assert found.messages == [HI, HELLO]
    assert found.note == "the last turn is the user's and was cut off"


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"text": "x", "b": 1}, "no demonstration: its fields are b, text; wanted are instruction and output"),
        ({}, "its fields are none"),
        ({"instruction": "Hi"}, "the answer is missing"),
        ({"instruction": "Hi", "output": []}, '"output" is an empty list'),
        ({"instruction": "Hi", "output": {"a": 1}}, '"output" holds no text'),
        ({"instruction": 3, "output": "x"}, '"instruction" must be a text, not a number'),
        ({"instruction": "", "output": "x"}, "turn 1, the user's, is empty"),
        ({"instruction": "Hi", "output": "x", "history": [["one"]]}, '"history" entry 1 is not a pair'),
        ({"messages": [HI]}, "no turn of the assistant's"),
        ({"conversations": [{"from": "alien", "value": "x"}]}, "turn 1 has the role 'alien'"),
        ({"instruction": "Hi", "instances": ["x"]}, '"instances" entry 1 is not an object'),
        ({"chosen": "no transcript"}, "no turn of the assistant's"),
    ],
)
def test_what_is_missing_is_said(record: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_demonstrations(record)
    assert problem in str(caught.value)


def test_every_record_is_accounted_for(tmp_path: Path) -> None:
    data = jsonl(
        tmp_path,
        "d.jsonl",
        {"instruction": "a", "output": "one"},
        {"instruction": "a", "output": "another"},
        "not json",
        {"instruction": "a", "output": "one"},
        {"instruction": "b", "output": " "},
        {"instruction": "c", "output": "x" * 50},
        {"text": "?"},
    )
    artifact = run(tmp_path, data, max_characters=40).artifact
    counts = artifact.manifest.counts
    assert (counts.rows_in, counts.kept, counts.dropped, counts.failed) == (7, 2, 3, 2)
    assert counts.reasons == {"bad_record": 2, "duplicate": 1, "empty_answer": 1, "too_long": 1}
    decisions = read_rows(artifact, "decisions")
    assert decisions[2]["detail"].startswith("d.jsonl:3: not JSON")
    assert decisions[2]["failed"] and decisions[6]["failed"]
    assert decisions[3]["detail"] == "d.jsonl:4: the same as d.jsonl:1"
    assert decisions[6]["detail"].startswith("d.jsonl:7: no demonstration: its fields are text")
    assert (decisions[5]["score"], decisions[5]["threshold"]) == (51.0, 40.0)
    rows = read_rows(artifact)
    assert [row["messages"][1]["content"] for row in rows] == ["one", "another"]
    # Two answers to one prompt: one prompt, on one side.
    assert rows[0]["prompt_id"] == rows[1]["prompt_id"] == decisions[0]["doc_id"]
    assert rows[0]["split"] == rows[1]["split"]
    assert rows[0]["source"] == "demonstrations"


def test_gz_json_and_parquet_files(tmp_path: Path) -> None:
    record = {"instruction": "Hi", "output": "Hello."}
    table = tmp_path / "t.parquet"
    pq.write_table(pa.table({"prompt": ["p"], "chosen": ["c"], "rejected": ["r"]}), table)
    listed = tmp_path / "l.json"
    listed.write_text(json.dumps([record, {"messages": [HI, {**HELLO, "content": "Good day."}]}]))
    artifact = run(
        tmp_path, jsonl(tmp_path, "z.jsonl.gz", {**record, "input": "you"}), str(listed), str(table)
    ).artifact
    assert [[turn["content"] for turn in row["messages"]] for row in read_rows(artifact)] == [
        ["Hi\nyou", "Hello."],
        ["Hi", "Hello."],
        ["Hi", "Good day."],
        ["p", "c"],
    ]


def test_the_split_and_the_draw_belong_to_the_prompt(tmp_path: Path) -> None:
    records = [{"instruction": f"question {n}", "output": f"answer {n}"} for n in range(400)]
    first = jsonl(tmp_path, "a.jsonl", *records)
    second = jsonl(tmp_path, "b.jsonl", *reversed(records[:300]))
    whole = run(tmp_path, first, heldout_fraction=0.25).artifact
    part = run(tmp_path, second, heldout_fraction=0.25, max_records=100).artifact
    splits = {row["prompt_id"]: row["split"] for row in read_rows(whole)}
    heldout = sum(split == "heldout" for split in splits.values())
    assert 70 <= heldout <= 130  # 100 expected, 3.5 standard deviations
    rows = read_rows(part)
    assert len(rows) == 100
    assert all(splits[row["prompt_id"]] == row["split"] for row in rows)
    assert part.manifest.counts.reasons == {"over_limit": 200}
    dropped = [row for row in read_rows(part, "decisions") if not row["kept"]]
    kept = [row for row in read_rows(part, "decisions") if row["kept"]]
    assert max(row["draw"] for row in kept) < dropped[0]["threshold"] == min(row["draw"] for row in dropped)
    other = run(tmp_path, first, heldout_fraction=0.25, seed=1).artifact
    assert {row["prompt_id"]: row["split"] for row in read_rows(other)} != splits


def test_all_branches_of_a_dialogue_are_on_one_side(tmp_path: Path) -> None:
    # Trained on whole, the longer one of a pair holds the shorter one's prompt and an answer to it.
    records = []
    for n in range(60):
        records.append({"instruction": f"question {n}", "output": "one answer"})
        records.append({"instruction": "And?", "history": [[f"question {n}", "another"]], "output": "more"})
    rows = read_rows(run(tmp_path, jsonl(tmp_path, "tree.jsonl", *records), heldout_fraction=0.5).artifact)
    assert len(rows) == 120 and {row["split"] for row in rows} == {"train", "heldout"}
    assert all(one["split"] == other["split"] for one, other in zip(rows[::2], rows[1::2], strict=True))


def test_a_file_without_a_demonstration_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"bad\.jsonl holds no demonstration \(2 records; the first: bad\.jsonl:1: "):
        run(tmp_path, jsonl(tmp_path, "bad.jsonl", "[]", {"a": 1}))
    with pytest.raises(UserError, match=r"empty\.jsonl holds no demonstration \(0 records\)"):
        run(tmp_path, jsonl(tmp_path, "empty.jsonl"))
    with pytest.raises(UserError, match=r"nothing is left of 1 records \(1 empty_answer\)"):
        run(tmp_path, jsonl(tmp_path, "blank.jsonl", {"instruction": "a", "output": ""}))
    with pytest.raises(UserError, match="nothing to read"):
        run(tmp_path)
    assert not Store(tmp_path / "store").artifacts()


class _NoConfig(StageConfig):
    pass


def _crawled(context: StageContext) -> Summary:
    record = {"instruction": "What does add do?", "input": "", "output": "Add two numbers."}
    context.path("instructions/docstrings.jsonl").write_text(json.dumps(record) + "\n")
    return Summary()


def test_docstrings_of_the_crawl_are_read_where_a_manifest_names_them(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    crawl = run_stage(Stage("crawl", 1, _NoConfig, {}, {"data": CRAWL}, _crawled), _NoConfig(), store).artifact
    config = DemonstrationsConfig(data=["data_manifests/pydoc-docstrings.yaml"])
    (row,) = read_rows(run_stage(STAGE, config, store, {"crawl": crawl}).artifact)
    assert row["source"] == "pydoc-docstrings"
    assert row["messages"] == [
        {"role": "user", "content": "What does add do?"},
        {"role": "assistant", "content": "Add two numbers."},
    ]
    with pytest.raises(UserError, match="made by the stage crawl; give the input 'crawl'"):
        run_stage(STAGE, config, store)
    with pytest.raises(UserError, match="only docstrings are instructions"):
        run_stage(STAGE, DemonstrationsConfig(data=["data_manifests/pydoc.yaml"]), store, {"crawl": crawl})
    # Not asked for, not read: another recipe, although the crawl is given.
    other = DemonstrationsConfig(data=[jsonl(tmp_path, "d.jsonl", {"instruction": "a", "output": "b"})])
    rows = read_rows(run_stage(STAGE, other, store, {"crawl": crawl}).artifact)
    assert [row["messages"][0]["content"] for row in rows] == ["a"]


@pytest.mark.real
@pytest.mark.skipif(MIRROR is None, reason="needs the public data: CRAWL2CHAT_MIRROR is not set")
@pytest.mark.parametrize(
    ("manifest", "rows", "kept", "multi_turn"),
    [
        ("alpaca-5000", 5000, 4998, 0),
        ("alpaca-en-demo", 999, 985, 0),
        ("alpaca-zh-demo", 1000, 992, 0),
        ("oasst-sft-zh", 689, 684, 388),
        ("self-instruct-user-oriented", 252, 252, 0),
        ("gsm8k-train", 7473, 7473, 0),
    ],
)
def test_the_public_files_load(tmp_path: Path, manifest: str, rows: int, kept: int, multi_turn: int) -> None:
    artifact = run(tmp_path, f"data_manifests/public/{manifest}.yaml").artifact
    counts = artifact.manifest.counts
    assert (counts.rows_in, counts.kept, counts.failed) == (rows, kept, 0)
    assert artifact.manifest.metrics["multi_turn"] == multi_turn
