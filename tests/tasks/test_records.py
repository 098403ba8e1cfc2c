"""Records out of files of every form, and dialogues in one form."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.text.records import (
    BadRecord,
    Record,
    instruction_prompt,
    normalise_messages,
    prompt_id,
    prompt_of,
    read_records,
    split_transcript,
)


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_lines_are_numbered_as_in_the_file_and_bad_ones_are_named(tmp_path: Path, name: str) -> None:
    text = b'{"a": 1}\n\n{"a": \n[1]\n{"a": "\xff"}\n{"a": 2}'
    found = list(read_records(write(tmp_path, name, text), name))
    assert [(type(r).__name__, r.line) for r in found] == [
        ("Record", 1),
        ("BadRecord", 3),
        ("BadRecord", 4),
        ("BadRecord", 5),
        ("Record", 6),
    ]
    problems = [r.problem for r in found if isinstance(r, BadRecord)]
    assert problems[0].startswith("not JSON")
    assert problems[1] == "a record must be an object with named fields, this is a list"
    assert problems[2] == "not UTF-8 at byte 7 of the line"


def test_half_a_surrogate_pair_is_a_bad_record(tmp_path: Path) -> None:
    text = '{"a": "\\ud83d\\ude00"}\n{"a": "\\ud83d"}'
    whole, half = read_records(write(tmp_path, "s.jsonl", text), "s.jsonl")
    assert whole == Record("s.jsonl", 1, {"a": "\U0001f600"})
    assert isinstance(half, BadRecord) and "surrogate" in half.problem


def test_the_name_decides_the_format_not_the_path(tmp_path: Path) -> None:
    path = write(tmp_path, "0a1b2c", '[{"a": 1}, 7, {"a": 3}]')
    found = list(read_records(path, "list.json"))
    assert found[0] == Record("list.json", 1, {"a": 1})
    assert isinstance(found[1], BadRecord) and found[1].line == 2
    assert found[2] == Record("list.json", 3, {"a": 3})


def test_json_may_be_one_object_or_lines_or_broken(tmp_path: Path) -> None:
    assert list(read_records(write(tmp_path, "o.json", '{"a": 1}'), "o.json")) == [Record("o.json", 1, {"a": 1})]
    lines = list(read_records(write(tmp_path, "l.json", '{"a": 1}\n{"a": 2}\n'), "l.json"))
    assert lines == [Record("l.json", 1, {"a": 1}), Record("l.json", 2, {"a": 2})]
    (bad,) = read_records(write(tmp_path, "b.json", '[\n{"a": 1},\n{"a" 2}]'), "b.json")
    assert isinstance(bad, BadRecord) and bad.line == 3
    assert "nothing of the file is read" in bad.problem


def test_a_cut_off_gzip_file_keeps_what_could_be_read(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(json.dumps({"n": n, "t": str(n) * 50}).encode() + b"\n" for n in range(5000)))
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    found = list(read_records(path, "cut.jsonl.gz"))
    assert isinstance(found[-1], BadRecord) and "cannot be read on" in found[-1].problem
    assert len(found) > 100 and all(isinstance(record, Record) for record in found[:-1])


def test_parquet_rows_without_their_empty_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table({"prompt": ["a", "b"], "messages": [[{"role": "user", "content": "x"}], None]})
    pq.write_table(table, path)
    assert [r.value for r in read_records(path, "t.parquet") if isinstance(r, Record)] == [
        {"prompt": "a", "messages": [{"role": "user", "content": "x"}]},
        {"prompt": "b"},
    ]
    path.write_bytes(path.read_bytes()[:40])
    (bad,) = read_records(path, "t.parquet")
    assert isinstance(bad, BadRecord) and bad.problem.startswith("not readable as Parquet")


OPENAI = [{"role": "user", "content": " Hi "}, {"role": "assistant", "content": "Hello."}]


@pytest.mark.parametrize(
    "given",
    [
        OPENAI,
        [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}],
        "\n\nHuman: Hi\n\nAssistant: Hello.",
        [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, {"role": "assistant", "content": "Hello."}],
    ],
)
def test_every_form_gives_the_same_messages(given: object) -> None:
    assert normalise_messages(given) == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]


def test_neighbouring_turns_of_one_speaker_are_joined() -> None:
    text = "\n\nHuman: One\n\nHuman: Two\n\nAssistant: A: b\n\nc"
    assert normalise_messages(text) == [
        {"role": "user", "content": "One\n\nTwo"},
        {"role": "assistant", "content": "A: b\n\nc"},
    ]
    assert len(split_transcript(text)) == 3


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([], "the list of messages is empty"),
        (3, "messages must be a list of turns or a string, not a number"),
        ([{"content": "x"}], 'turn 1 has no "role" (or "from")'),
        ([{"role": "user", "content": "x"}, {"role": "tool", "content": "y"}], "turn 2 has the role 'tool'"),
        ([{"role": "user"}], 'turn 1 has no text in "content" (or "value")'),
        ([{"role": "assistant", "content": "x"}], "does not begin with a turn of the user's"),
        ([{"role": "user", "content": " "}], "turn 1, the user's, is empty"),
        (
            [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}],
            "turn 2 is a system message; one may stand at the beginning only",
        ),
    ],
)
def test_what_is_missing_is_said(given: object, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        normalise_messages(given)


def test_an_instruction_with_history_and_input() -> None:
    value = {"instruction": "And now?", "input": "x = 1", "history": [["Hi", "Hello."]], "system": "Be brief."}
    assert instruction_prompt(value) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "And now?\nx = 1"},
    ]
    with pytest.raises(ValueError, match='"instruction" is missing'):
        instruction_prompt({"input": "x"})
    with pytest.raises(ValueError, match="entry 1 is not a pair"):
        instruction_prompt({"instruction": "x", "history": [["only one"]]})


def test_a_prompt_is_the_same_with_and_without_its_answer() -> None:
    conversation = normalise_messages(OPENAI)
    assert prompt_of(conversation) == conversation[:1]
    # BLAKE2b-128 of [{"content":"Hi","role":"user"}]
    assert prompt_id(conversation) == prompt_id(conversation[:1]) == "0aa6c3fd4db41462694eefe06ab89f97"
    assert prompt_id([{"role": "user", "content": "hi"}]) != prompt_id(conversation)
