"""Shard results as bytes: what comes back, what is refused, and what a digest of code and items depends on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tasks.resume
from tasks.codec import Damaged, NotStorable, WorkFile, decode
from tasks.codec import encode as buffers_of
from tasks.dedup.signing import Signed
from tasks.resume import ResumableMap
from tasks.stage import serial_map

WORK = Path("/nowhere")


def encode(value: Any, work: Path) -> bytes:
    return b"".join(buffers_of(value, work))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_values_come_back_with_their_types(value: Any) -> None:
    found = decode(encode(value, WORK), WORK, "tests")
    assert found == value
    assert repr(found) == repr(value)  # 1 and True, (1,) and [1] are told apart


def test_arrays_tables_and_dataclasses_come_back() -> None:
    signed = Signed(
        np.array(["a" * 32, "b" * 32], dtype="S32"),
        np.array([1, 2], dtype=np.int64),
        np.array([], dtype=np.int32),
        np.arange(6, dtype=np.uint32).reshape(2, 3),
    )
    found = decode(encode([signed, np.float64("nan")], WORK), WORK, "tasks")
    assert type(found[0]) is Signed and type(found[1]) is np.float64
    for name in ("text_hash", "characters", "shingles", "signatures"):
        ours, theirs = getattr(found[0], name), getattr(signed, name)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert np.array_equal(ours, theirs)
    table = pa.table({"tokens": pa.array([[1, 2], [], None], pa.list_(pa.uint16())), "a": ["x", None, "\u5b57"]})
    back = decode(encode((table, table.slice(1, 1)), WORK), WORK, "tasks")
    assert back[0].equals(table, check_metadata=True) and back[1].equals(table.slice(1, 1))


def test_every_byte_counts() -> None:
    data = encode({"a": [1, 2.5, "x"]}, WORK)
    for place in range(len(data)):
        altered = data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]
        with pytest.raises(Damaged):
            decode(altered, WORK, "tests")
        with pytest.raises(Damaged):
            decode(data[:place], WORK, "tests")


def test_what_cannot_be_kept_is_refused() -> None:
    for value in (object(), {1, 2}, np.array([object()]), print, WORK):
        with pytest.raises(NotStorable):
            encode(value, WORK)
    # A class of another package, or one that nobody has imported, is never made.
    with pytest.raises(Damaged):
        decode(encode(WorkLike("x"), WORK), WORK, "tasks")


@dataclass(frozen=True)
class WorkLike:
    path: str


def test_a_file_comes_back_only_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "rows.arrow").write_bytes(b"rows")
    data = encode(WorkFile(str(tmp_path / "rows.arrow")), tmp_path)
    assert decode(data, tmp_path, "tests") == WorkFile(str(tmp_path / "rows.arrow"))
    (tmp_path / "rows.arrow").write_bytes(b"Rows")
    with pytest.raises(Damaged):
        decode(data, tmp_path, "tests")


def test_the_code_digest_follows_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "tasks" / "text" / "helper.py"
    helper.parent.mkdir(parents=True)
    helper.write_text("def shingle(): return 5\n")
    monkeypatch.setattr(tasks.resume, "CHECKOUT", tmp_path)
    digest = tasks.resume.code_digest.__wrapped__
    before = digest()
    assert digest() == before
    helper.write_text("def shingle(): return 6\n")
    assert digest() != before
    monkeypatch.setattr(tasks.resume.metadata, "version", lambda name: "0")
    helper.write_text("def shingle(): return 5\n")
    assert digest() != before


@dataclass(frozen=True)
class Asks:
    model: str
    number: int


def answer(item: Asks) -> str:
    CALLS.append(item.number)
    return f"{Path(item.model).read_text()} {item.number}"


CALLS: list[int] = []


def test_files_of_the_draft_stand_by_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.resume, "WORTH_SECONDS", 0.0)
    work = tmp_path / "work"

    def attempt(draft: str, model: str, numbers: list[int]) -> tuple[list[str], int]:
        folder = tmp_path / draft
        folder.mkdir()
        (folder / "model").write_text(model)
        mapper = ResumableMap(serial_map, work, folder, tmp_path)
        return list(mapper(answer, [Asks(str(folder / "model"), number) for number in numbers])), mapper.found

    CALLS.clear()
    assert attempt("one", "a", [1, 2]) == (["a 1", "a 2"], 0)
    assert attempt("two", "a", [3, 2, 1]) == (["a 3", "a 2", "a 1"], 2)
    assert attempt("three", "b", [1]) == (["b 1"], 0)
    assert CALLS == [1, 2, 3, 1]
