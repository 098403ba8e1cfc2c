"""The decontaminate stage: what is found, what is cut, and the figures of each evaluation set."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import UserError
from artifacts.store import Artifact, Store
from artifacts.tables import DOCUMENTS
from tasks.decontaminate import STAGE, DecontaminateConfig
from tasks.decontaminate import stage as decontaminate_stage
from tasks.decontaminate.cutting import cut_out
from tasks.decontaminate.index import Index, load_grams
from tasks.decontaminate.passages import Item, item_of
from tasks.decontaminate.search import search
from tasks.text.normalise import normalise
from tasks.text.segment import spaced
from tasks.text.shingles import ngram_hashes, unit_hashes
from tests.support import make_documents, put_table, read_rows, run_stage


def words(first: int, last: int) -> str:
    return " ".join(f"word{number:04d}" for number in range(first, last))  # nine characters a word with its space


def jsonl(path: Path, *records: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf8")
    return str(path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def clean(store: Store, texts: list[str], *against: str, **config: Any) -> Artifact:
    documents = put_table(store, DOCUMENTS, make_documents(texts), label=repr(texts))
    return run_stage(
        STAGE, DecontaminateConfig(against=list(against), **config), store, {"documents": documents}
    ).artifact


def fates(artifact: Artifact) -> list[tuple[bool, str | None, float | None, str | None]]:
    return [(r["kept"], r["reason"], r["score"], r["detail"]) for r in read_rows(artifact, "decisions")]


@pytest.mark.parametrize(
    ("hits", "pieces"),
    [
        ([], ["0123456789"]),
        ([(4, 5)], ["012", "678" + "9"]),
        ([(0, 1)], ["23456789"]),
        ([(9, 10)], ["01234567"]),
        ([(7, 8), (2, 3)], ["0", "45", "9"]),
        ([(2, 3), (4, 6)], ["0", "789"]),
        ([(1, 9)], []),
    ],
)
def test_cut_out(hits: list[tuple[int, int]], pieces: list[str]) -> None:
    assert cut_out("0123456789", hits, window=1) == pieces


def test_the_hit_and_its_surroundings_go(store: Store, tmp_path: Path) -> None:
    quiz = jsonl(tmp_path / "quiz.jsonl", {"question": words(100, 113).title() + "?", "answer": "yes"})
    texts = [words(0, 200), words(200, 400), words(300, 330)]
    artifact = clean(store, texts, quiz)
    # The hit is characters 900 to 1,016 (no space behind it); 200 more on either side.
    left = [texts[0][:700].strip(), texts[0][1016 + 200 :].strip()]
    assert [row["text"] for row in read_rows(artifact)] == ["\n\n".join(left), texts[1], texts[2]]
    assert fates(artifact) == [
        (True, "decontaminated_cut", 1.0, "quiz.jsonl: 1; 2 pieces"),
        (True, None, None, None),
        (True, None, None, None),
    ]
    metrics = artifact.manifest.metrics
    assert (metrics["documents_cut"], metrics["documents_dropped"]) == (1, 0)
    assert metrics["characters_removed"] == len(texts[0]) - len("\n\n".join(left))
    assert metrics["sets"]["quiz.jsonl"] == {
        "items": 1, "items_checked": 1, "items_met": 1, "bad_records": 0, "ngrams": 1 + 1, "ngrams_met": 1,
        "ngrams_commonplace": 0, "hits": 1, "documents_met": 1,
    }  # fmt: skip


def test_each_item_is_said_to_be_clean_or_dirty(store: Store, tmp_path: Path) -> None:
    """As GPT-3's appendix C splits its test sets: by what the text held before it was cut."""
    first = tmp_path / "first.jsonl"
    first.write_text(json.dumps({"text": words(100, 114)}) + "\nnot json\n" + json.dumps({"text": words(3, 5)}) + "\n")
    second = jsonl(tmp_path / "second.jsonl", {"text": words(900, 920)}, {"text": words(101, 114)})
    artifact = clean(store, [words(0, 150), words(90, 113), words(95, 114)], str(first), second)
    names = ("set", "item", "checked", "dirty", "ngrams", "ngrams_met", "documents_met")
    assert [tuple(row[name] for name in names) for row in read_rows(artifact, "items")] == [
        ("first.jsonl", 0, True, True, 2, 2, 3),
        ("first.jsonl", 2, False, False, 0, 0, 0),
        ("second.jsonl", 0, True, False, 8, 0, 0),
        ("second.jsonl", 1, True, True, 1, 1, 2),
    ]


WORDS = st.sampled_from(
    ["the", "Cat", "sat", "on", "a", "mat", "été", "春眠", "不觉晓", "x1", "_", "-", "\n", "ﬁn", "e\u0301"]
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(WORDS, max_size=30).map(" ".join), max_size=5), st.lists(WORDS, min_size=2, max_size=12))
def test_the_compiled_search_finds_what_the_shingles_are(texts: list[str], item: list[str]) -> None:
    units = unit_hashes(spaced(normalise(" ".join(item))))
    sizes = [size for size in (2, 3, 5) if size <= len(units)]
    hashes = np.unique(np.concatenate([np.empty(0, np.uint64), *(ngram_hashes(units, size) for size in sizes)]))
    index = Index(
        [], hashes, np.array(sizes, dtype=np.int64), *(np.empty(0, dtype=np.int64) for _ in range(5)), 2,
        np.unique(ngram_hashes(units, 2)) if sizes else hashes,
    )  # fmt: skip
    with TemporaryDirectory() as folder:
        grams = load_grams(str(index.save(Path(folder))))
    expected = [
        (row, number)
        for row, text in enumerate(texts)
        for number in np.unique(grams.find(unit_hashes(spaced(normalise(text))))[0]).tolist()
    ]
    rows, numbers = search(pa.chunked_array([texts[:2], texts[2:]], pa.string()), grams)
    assert list(zip(rows.tolist(), numbers.tolist(), strict=True)) == expected


def test_twelve_words_are_no_hit_for_a_longer_item(store: Store, tmp_path: Path) -> None:
    quiz = jsonl(tmp_path / "quiz.jsonl", {"question": words(100, 120)})
    texts = [words(0, 50) + " " + words(100, 112) + " " + words(500, 550)]
    assert fates(clean(store, texts, quiz)) == [(True, None, None, None)]
    assert fates(clean(store, texts, quiz, n=12))[0][0:3] == (True, "decontaminated_cut", 1.0)


def test_short_items_are_looked_for_whole(store: Store, tmp_path: Path) -> None:
    eight = jsonl(tmp_path / "eight.jsonl", {"query": "Question: " + words(100, 108) + "\nAnswer:"})
    seven = jsonl(tmp_path / "seven.jsonl", {"query": words(100, 107)})
    artifact = clean(store, [words(0, 200)], eight, seven)
    assert fates(artifact) == [(True, "decontaminated_cut", 1.0, "eight.jsonl: 1; 2 pieces")]
    sets = artifact.manifest.metrics["sets"]
    assert [sets[name]["items_checked"] for name in ("eight.jsonl", "seven.jsonl")] == [1, 0]


def test_documents_without_a_piece_left_are_dropped(store: Store, tmp_path: Path) -> None:
    quiz = jsonl(tmp_path / "quiz.jsonl", {"text": words(20, 40)})
    artifact = clean(store, [words(0, 60), words(50, 90)], quiz)
    assert fates(artifact)[0] == (False, "contaminated", 8.0, "quiz.jsonl: 8; 0 pieces, none of 200 characters")
    assert artifact.manifest.counts.reasons == {"contaminated": 1}
    assert [row["text"] for row in read_rows(artifact)] == [words(50, 90)]


def test_documents_in_too_many_pieces_are_dropped(store: Store, tmp_path: Path) -> None:
    items = [{"text": words(1000 + 20 * number, 1013 + 20 * number)} for number in range(10)]
    quiz = jsonl(tmp_path / "quiz.jsonl", *items)
    filling = words(0, 120)  # 1,079 characters between hits
    ten = filling + "".join(f" {item['text']} {filling}" for item in items[:9])
    eleven = filling + "".join(f" {item['text']} {filling}" for item in items)
    artifact = clean(store, [ten, eleven], quiz)
    assert fates(artifact) == [
        (True, "decontaminated_cut", 9.0, "quiz.jsonl: 9; 10 pieces"),
        (False, "contaminated", 10.0, "quiz.jsonl: 10; 11 pieces"),
    ]


def test_commonplace_ngrams_are_ignored(store: Store, tmp_path: Path) -> None:
    quiz = jsonl(tmp_path / "quiz.jsonl", {"text": words(0, 13)})
    texts = [f"page {number} " + words(0, 100) for number in range(11)]
    artifact = clean(store, texts, quiz)
    assert artifact.manifest.metrics["sets"]["quiz.jsonl"]["ngrams_commonplace"] == 1
    assert {fate[1] for fate in fates(artifact)} == {None}
    assert {fate[1] for fate in fates(clean(store, texts[:10], quiz))} == {"decontaminated_cut"}


def test_cjk_by_characters_and_width(store: Store, tmp_path: Path) -> None:
    item = "春眠不觉晓处处闻啼鸟夜来风雨声"
    quiz = jsonl(tmp_path / "quiz.jsonl", {"question": item})
    before = "".join(chr(0x5000 + number) for number in range(500))
    after = "".join(chr(0x6000 + number) for number in range(500))
    text = before + "。" + "，".join(item) + "！" + after
    artifact = clean(store, [text], quiz)
    assert fates(artifact) == [(True, "decontaminated_cut", 3.0, "quiz.jsonl: 3; 2 pieces")]
    # Fifteen characters with fourteen commas; 200 characters of the surroundings include the marks next to them.
    assert read_rows(artifact)[0]["text"] == before[: 500 + 1 - 200] + "\n\n" + after[200 - 1 :]


def test_items_of_many_shapes() -> None:
    assert item_of({"query": "Question: Why?\nAnswer:", "choices": ["a", "b"], "gold": 0}) == Item(
        ("Why?",), ("a", "b"), ("Why? a", "Why? b")
    )
    assert item_of({"context_options": ["x", "y"], "continuation": "z"}) == Item(("x", "y"), ("z",), ("x z", "y z"))
    assert item_of({"passage": "p", "question": "q", "answer": True}) == Item(("p", "q"), (), ("p q",))
    assert item_of({"messages": [{"role": "user", "content": "hi"}]}) == Item((), ("user", "hi"), ())


def test_question_and_answer_together_when_both_are_short(store: Store, tmp_path: Path) -> None:
    quiz = jsonl(tmp_path / "copa.jsonl", {"query": words(100, 106), "choices": [words(106, 110), "other"]})
    artifact = clean(store, [words(0, 200)], quiz)
    assert fates(artifact)[0][1:3] == ("decontaminated_cut", 1.0)


def test_plain_text_is_read_by_paragraphs(store: Store, tmp_path: Path) -> None:
    (tmp_path / "poem.txt").write_text(words(100, 113) + "\n\n" + words(900, 920) + "\n", "utf8")
    metrics = clean(store, [words(0, 200)], str(tmp_path / "poem.txt")).manifest.metrics
    assert (metrics["sets"]["poem.txt"]["items"], metrics["sets"]["poem.txt"]["items_met"]) == (2, 1)


def test_without_evaluation_sets_everything_is_kept(store: Store) -> None:
    artifact = clean(store, ["one", "", words(0, 50)])
    assert [row["text"] for row in read_rows(artifact)] == ["one", "", words(0, 50)]
    assert artifact.manifest.metrics["sets"] == {}
    assert len(read_rows(clean(store, []))) == 0


def test_a_set_without_items_is_the_users_mistake(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match=r"empty.jsonl.*no evaluation item"):
        clean(store, ["text"], str(tmp_path / "empty.jsonl"))
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "fine"}\nnot json\n')
    assert clean(store, ["text"], str(bad)).manifest.metrics["sets"]["bad.jsonl"]["bad_records"] == 1


def pickling_map(function: Any, items: Any) -> Iterator[Any]:
    """What another process does with the work: function, items and results are sent as bytes."""
    for item in items:
        there, sent = pickle.loads(pickle.dumps((function, item)))
        yield pickle.loads(pickle.dumps(there(sent)))


def test_grain_does_not_change_a_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiz = jsonl(tmp_path / "quiz.jsonl", *({"text": words(120 * k, 120 * k + 13)} for k in range(50)))
    texts = [words(40 * k - 60, 40 * k + 90) for k in range(2, 40, 3)] + [words(5000, 5100)]
    one = clean(Store(tmp_path / "one"), texts, quiz)
    monkeypatch.setattr(decontaminate_stage, "ROWS_A_BATCH", 3)
    documents = put_table(Store(tmp_path / "other"), DOCUMENTS, make_documents(texts))
    config = DecontaminateConfig(against=[quiz])
    inputs = {"documents": documents}
    other = run_stage(STAGE, config, Store(tmp_path / "other"), inputs, mapper=pickling_map).artifact
    assert one.manifest.content == other.manifest.content
    assert one.manifest.metrics == other.manifest.metrics
    assert one.manifest.metrics["documents_cut"] > 5
