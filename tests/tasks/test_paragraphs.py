"""The paragraphs stage: what counts as repeated, which occurrence stays, and what is left of a document."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.reader import InputTable, Shard
from artifacts.store import Artifact, Store
from artifacts.tables import DOCUMENTS
from tasks.paragraphs import STAGE, ParagraphsConfig, repeats
from tasks.paragraphs.stage import survivor_place
from tasks.paragraphs.units import NOTHING, find_units, hash_units, without
from tasks.text.normalise import normalise
from tests.support import make_documents, put_table, read_rows, run_stage

MENU = "Home | Products | Prices | Contact us"
NOTICE = "All rights reserved by the owners of this site."
CHINESE = "本网站使用饼干以改善您的浏览体验，继续浏览即表示您同意我们的条款。"


def fnv_1a(data: bytes) -> int:
    """FNV-1a of 64 bits with MurmurHash3's finaliser, as the module's docstring has it."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ value >> 33) * factor % 2**64
    return value ^ value >> 33


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def cut(store: Store, documents: list[str] | pa.Table, **config: Any) -> Artifact:
    table = documents if isinstance(documents, pa.Table) else make_documents(documents)
    given = put_table(store, DOCUMENTS, table)
    return run_stage(STAGE, ParagraphsConfig(**{"min_remaining": 1, **config}), store, {"documents": given}).artifact


def texts(artifact: Artifact) -> list[str]:
    return [row["text"] for row in read_rows(artifact)]


def fates(artifact: Artifact) -> list[tuple[bool, str | None, float | None, float | None, str | None]]:
    names = ("kept", "reason", "score", "threshold", "detail")
    return [tuple(row[name] for name in names) for row in read_rows(artifact, "decisions")]  # type: ignore[misc]


def units_of(text: str, unit: str) -> list[str]:
    found = find_units(pa.chunked_array([[text]]), unit)
    return [bytes(found.data[b:e]).decode() for b, e in zip(found.begins, found.ends, strict=True)]


def test_units_are_what_stands_between_line_feeds_or_blank_lines() -> None:
    text = "  one line \r\n\n\ttwo lines,\nof one paragraph\n \n三 \n"
    assert units_of(text, "line") == ["one line", "two lines,", "of one paragraph", "三"]
    assert units_of(text, "paragraph") == ["one line", "two lines,\nof one paragraph", "三"]
    assert units_of(" \n\n ", "line") == units_of("", "line") == []
    found = find_units(pa.chunked_array([["a b\nčaj"], [None, "三 四"]]), "line")
    assert found.counts.tolist() == [2, 0, 1]
    assert found.characters.tolist() == [3, 3, 3]


@given(st.text(alphabet="aB9 .-_\tčŽ三ß\u0301\u00adΩ\u3000", max_size=30))
@settings(max_examples=60, deadline=None)
def test_a_hash_is_that_of_the_normal_form(text: str) -> None:
    found = find_units(pa.chunked_array([[text]]), "line")
    hashes = hash_units(found, 1)
    for begin, end, value in zip(found.begins, found.ends, hashes, strict=True):
        normal = normalise(bytes(found.data[begin:end]).decode()).encode()
        assert value == (fnv_1a(normal) if normal else NOTHING)


def test_case_punctuation_and_width_make_no_difference_and_words_do() -> None:
    column = pa.chunked_array([["Read more: HERE!", "read  more, here", "ｒｅａｄ more here", "readmore here", "***"]])
    first, second, wide, other, stars = hash_units(find_units(column, "line"), 1)
    assert first == second == wide != other
    assert stars == NOTHING
    assert hash_units(find_units(column, "line"), 17).tolist() == [0, 0, 0, 0, 0]  # the longest has 16 characters


@pytest.mark.parametrize(
    ("text", "gone", "left"),
    [
        ("A\nB\nC", {1}, "A\nC"),
        ("A\nB\n\nC", {1}, "A\n\nC"),
        ("A\n\nB\nC", {1}, "A\n\nC"),
        ("A\n  B\r\nC", {1}, "A\n  C"),
        ("\n A\nB \n", {0}, "B"),
        ("\n A\nB \n", {1}, "A"),
        ("\n A\nB \n", {0, 1}, ""),
        ("\n A\nB \n", set(), "\n A\nB \n"),
        ("一\n\n二\n三\n四", {1, 2}, "一\n\n四"),
    ],
)
def test_what_is_left_keeps_the_larger_break(text: str, gone: set[int], left: str) -> None:
    units = find_units(pa.chunked_array([["before\n ", text, None, "after"]]), "line")
    marks = np.array([False, *(number in gone for number in range(int(units.counts[1]))), False])
    found, lost = without(units, marks)
    assert found.to_pylist() == ["before\n ", left, "", "after"]
    assert lost.tolist() == [0, len(text) - len(left), 0, 0]


def test_the_occurrence_with_the_smallest_doc_id_stays(store: Store) -> None:
    documents = [f"{MENU}\nFirst.\n{NOTICE}", f"{MENU.upper()}\n\nSecond.\n\n{NOTICE}", f"Third.\n{NOTICE}"]
    made = cut(store, documents)
    assert texts(made) == [documents[0], "Second.", "Third."]
    whole, third = len(documents[1]), len(documents[2])
    assert fates(made) == [
        (True, None, None, None, None),
        (True, "paragraphs_cut", (whole - 7) / whole, None, "2 of 3 lines cut, 7 characters left"),
        (True, "paragraphs_cut", (third - 6) / third, None, "1 of 2 lines cut, 6 characters left"),
    ]
    metrics = dict(made.manifest.metrics)
    stays = {"doc_id": "d" + "0" * 31, "source": "crawl"}
    assert metrics.pop("most_repeated") == [
        {"occurrences": 3, "cut": 2, **stays, "offset": len(MENU) + 8, "characters": len(NOTICE)},
        {"occurrences": 2, "cut": 1, **stays, "offset": 0, "characters": len(MENU)},
    ]
    account = {
        "documents": 3, "documents_cut": 2, "documents_dropped": 0, "units": 8, "units_cut": 3,
        "characters": sum(map(len, documents)), "characters_removed": whole - 7 + third - 6,
    }  # fmt: skip
    assert metrics.pop("sources") == {"crawl": account}
    del account["characters"]
    assert metrics == {
        **account, "units_compared": 5, "units_distinct": 2, "units_repeated": 2, "most_occurrences": 3,
        "units_exempt": 0,
    }  # fmt: skip


def test_a_preferred_source_keeps_its_own(store: Store) -> None:
    crawl = make_documents([f"{NOTICE}\nof the crawl"], prefix="a")
    books = make_documents([f"{NOTICE}\nof the books"], source="books", prefix="b")
    both = pa.concat_tables([crawl, books])
    assert texts(cut(store, both)) == [f"{NOTICE}\nof the crawl", "of the books"]
    assert texts(cut(store, both, prefer=["books"])) == ["of the crawl", f"{NOTICE}\nof the books"]


def three_sources() -> pa.Table:
    """The crawl's doc_ids come first; `books` repeats itself and the crawl, `wiki` repeats a line of books."""
    parts = [
        make_documents([f"{NOTICE}\n{MENU}\ncrawl 1", f"{MENU}\ncrawl 2\n{CHINESE}"], prefix="a"),
        make_documents([f"书：{MENU}\n{NOTICE}", f"{NOTICE}\nbook 2\n{NOTICE}"], source="books", prefix="b"),
        make_documents([f"wiki 1\n{CHINESE}\n{NOTICE}"], source="wiki", prefix="c"),
    ]
    return pa.concat_tables(parts)


def test_exempt_sources_are_never_cut_and_the_others_lose_what_those_have(store: Store) -> None:
    given = three_sources()
    own = given.column("text").to_pylist()
    assert texts(cut(store, given)) == [own[0], f"crawl 2\n{CHINESE}", f"书：{MENU}", "book 2", "wiki 1"]
    made = cut(store, given, exempt=["books", "wiki"])
    assert texts(made) == [f"{MENU}\ncrawl 1", "crawl 2", *own[2:]]
    assert [row[1] for row in fates(made)] == ["paragraphs_cut", "paragraphs_cut", None, None, None]
    metrics = made.manifest.metrics
    assert (metrics["units_cut"], metrics["units_exempt"]) == (3, 3)  # the notice stays in four places of five
    assert metrics["sources"]["books"]["units_cut"] == metrics["sources"]["wiki"]["characters_removed"] == 0
    assert metrics["sources"]["crawl"]["units_cut"] == 3
    assert metrics["most_repeated"][0] == {
        "occurrences": 5, "cut": 1, "doc_id": "b" + "0" * 31, "source": "books", "offset": len(f"书：{MENU}\n"),
        "characters": len(NOTICE),
    }  # fmt: skip
    # A source that is exempt comes before one that is only preferred.
    both = texts(cut(store, given, prefer=["crawl", "books"], exempt=["wiki"]))
    assert both == [f"{MENU}\ncrawl 1", "crawl 2", f"书：{MENU}", "book 2", own[4]]


def test_exempt_documents_are_not_dropped_however_short(store: Store) -> None:
    given = three_sources()
    made = cut(store, given, exempt=["wiki", "books"], min_remaining=10_000)
    assert [row[0] for row in fates(made)] == [False, False, True, True, True]


def plainly(
    rows: list[tuple[str, str]], prefer: list[str], exempt: list[str], least: int, within: str
) -> list[list[str]]:
    """The lines left of (source, text) in the order of doc_ids, read from the docs: no hash, no sort, no file."""
    ranks = {source: prefer.index(source) if source in prefer else len(prefer) for source in "xyz"}
    order = sorted(range(len(rows)), key=lambda number: (ranks[rows[number][0]], number))
    seen = [(number, place, line) for number in order for place, line in enumerate(rows[number][1].split("\n"))]
    left: dict[int, list[tuple[int, str]]] = {number: [] for number in order}
    for number, place, line in seen:
        same = [(other, at) for other, at, text in seen if text == line]
        guarded = [where for where in same if rows[where[0]][0] in exempt]
        best = guarded or same[:1]
        if within == "keep":
            best = [*best, *(where for where in same if where[0] == same[0][0] and not guarded)]
        count = len({other for other, _ in same}) if within == "keep" else len(same)
        stays = count < least or (number, place) in best
        left[number] += [(place, line)] * stays
    return [[line for _, line in sorted(left[number])] for number in range(len(rows))]


SOURCES = st.lists(st.sampled_from("xyz"), unique=True, max_size=3)
WITHIN = st.sampled_from(["cut", "keep"])
LINES = st.lists(st.sampled_from(["a a", "b", "c c c", "ø", "三"]), min_size=1, max_size=4).map("\n".join)


@given(st.lists(st.tuples(st.sampled_from("xyz"), LINES), max_size=8), SOURCES, SOURCES, st.integers(2, 3), WITHIN)
@settings(max_examples=60, deadline=None)
def test_what_is_cut_is_what_a_plain_reading_cuts(
    rows: list[tuple[str, str]], prefer: list[str], exempt: list[str], least: int, within: str
) -> None:
    table = pa.concat_tables(
        [make_documents([], prefix="d")]
        + [make_documents([text], source=source, prefix=f"d{n}") for n, (source, text) in enumerate(rows)]
    )
    units = find_units(table.column("text"), "line")
    place = survivor_place(table, prefer, exempt)
    with TemporaryDirectory() as name, repeats.Partitions(Path(name) / "p", 150_000) as partitions:
        partitions.append(hash_units(units, 1))
        partitions.flush()
        np.save(f"{name}/place.npy", place)
        np.save(f"{name}/first.npy", np.concatenate([[0], np.cumsum(units.counts)])[:-1])
        files = (f"{name}/place.npy", f"{name}/first.npy")
        tasks = [repeats.RepeatTask(str(path), *files, least, within) for path in partitions.paths]
        gone = np.concatenate([repeats.find_repeats(task).cut for task in tasks])
    marks = np.zeros(len(units.begins), dtype=np.bool_)
    marks[gone] = True
    left = without(units, marks)[0].to_pylist()
    assert [text.split("\n") if text else [] for text in left] == plainly(rows, prefer, exempt, least, within)


def test_within_a_document_the_first_stays(store: Store) -> None:
    assert texts(cut(store, [f"{NOTICE}\nverse one\n{NOTICE}\nverse two\n{NOTICE}"])) == [
        f"{NOTICE}\nverse one\nverse two"
    ]


def test_a_document_may_keep_what_it_says_twice(store: Store) -> None:
    code = f"try:\n    {MENU}\nexcept ValueError:\n    {MENU}"
    documents = [code, f"{MENU}\n{NOTICE}\n{MENU}\nsecond", "third"]
    made = cut(store, documents, within="keep")
    assert texts(made) == [code, f"{NOTICE}\nsecond", "third"]
    assert made.manifest.metrics["units_cut"] == 2
    assert made.manifest.metrics["most_repeated"][0]["occurrences"] == 2  # documents
    assert texts(cut(store, documents, within="keep", min_occurrences=3)) == documents


@pytest.mark.parametrize(("least", "cuts"), [(2, 2), (3, 2), (4, 0)])
def test_a_unit_must_occur_often_enough(store: Store, least: int, cuts: int) -> None:
    made = cut(store, [f"{NOTICE}\nPage {number}" for number in range(3)], min_occurrences=least)
    assert made.manifest.metrics["units_cut"] == cuts


def test_short_units_are_left_alone(store: Store) -> None:
    documents = ["}\nshort line\nfirst", "}\nshort line\nsecond"]
    assert texts(cut(store, documents, min_characters=11)) == documents
    assert texts(cut(store, documents, min_characters=10)) == [documents[0], "}\nsecond"]


def test_paragraphs_are_compared_whole(store: Store) -> None:
    documents = [f"{MENU}\n{NOTICE}\n\nOne.", f"{NOTICE}\n\nTwo.", f"{MENU},\n{NOTICE}\n\n\nThree."]
    assert texts(cut(store, documents, unit="paragraph")) == [documents[0], documents[1], "Three."]


def test_chinese_is_compared_by_its_characters(store: Store) -> None:
    documents = [f"第一页的内容在这里。\n{CHINESE}", f"第二页的内容在这里。\n{CHINESE.replace('，', ',')}"]
    made = cut(store, documents)
    assert texts(made) == [documents[0], "第二页的内容在这里。"]
    assert fates(made)[1][2] == (len(documents[1]) - 10) / len(documents[1])


def test_what_has_too_little_left_is_dropped_and_what_was_short_before_is_not(store: Store) -> None:
    documents = [f"{NOTICE}\n{MENU}", f"{NOTICE}\n{MENU}", f"{NOTICE}\nbye", "A short one."]
    made = cut(store, documents, min_remaining=4)
    assert texts(made) == [documents[0], "A short one."]
    assert fates(made)[1:3] == [
        (False, "all_repeated", 1.0, None, "2 of 2 lines cut, 0 characters left"),
        (False, "too_short_after", (len(NOTICE) + 1) / (len(NOTICE) + 4), 4.0, "1 of 2 lines cut, 3 characters left"),
    ]
    assert made.manifest.counts.reasons == {"all_repeated": 1, "too_short_after": 1}
    assert made.manifest.counts.rows_in == 4


def pages(count: int) -> list[str]:
    """Documents that share lines by small common factors of their numbers."""
    return [
        "\n".join(
            f"Line for every multiple of {n}, the number {number // n % 7}." for n in (1, 2, 3, 5) if number % n == 0
        )
        for number in range(count)
    ]


def by_hand(documents: list[str]) -> list[str]:
    """What stays when each line is looked up among all lines before it."""
    seen: set[str] = set()
    left = []
    for text in documents:
        kept = [line for line in text.split("\n") if line not in seen]
        seen.update(kept)
        left.append("\n".join(kept))
    return [text for text in left if text]


def test_shards_files_and_the_order_of_documents_change_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = pages(120)
    one = cut(store, documents)
    assert texts(one) == by_hand(documents)
    assert one.manifest.metrics["units_cut"] == 216
    backwards = cut(Store(tmp_path / "backwards"), make_documents(documents).take(list(range(119, -1, -1))))
    assert texts(backwards) == texts(one)[::-1]
    whole = InputTable.shards

    def small(table: InputTable, rows: int = 2_048) -> list[Shard]:
        return whole(table, 7)

    guarded = pa.concat_tables([make_documents(documents), make_documents(documents[::7], "books", prefix="e")])
    kept = cut(store, guarded, exempt=["books"])
    monkeypatch.setattr(InputTable, "shards", small)
    monkeypatch.setattr(repeats, "DOCUMENTS_A_FILE", 10)
    many = cut(Store(tmp_path / "many"), documents)
    assert many.content == one.content
    assert many.manifest.metrics == one.manifest.metrics
    again = cut(Store(tmp_path / "many"), guarded, exempt=["books"])
    assert (again.content, again.manifest.metrics) == (kept.content, kept.manifest.metrics)
    assert texts(again)[-18:] == documents[::7] and kept.manifest.metrics["sources"]["crawl"]["units_cut"] > 216


def test_no_documents_give_no_documents(store: Store) -> None:
    made = cut(store, make_documents([]))
    assert (texts(made), fates(made), made.manifest.metrics["units"]) == ([], [], 0)
