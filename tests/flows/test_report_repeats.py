"""The report on paragraphs: the account of each source, and the units repeated most, as text and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from artifacts.store import Artifact, Store
from artifacts.tables import DOCUMENTS
from flows.report import write_report
from flows.report.collect import subject_of
from flows.report.repeats import EXCERPT, repeats
from tasks.paragraphs import STAGE, ParagraphsConfig
from tests.flows.test_report import HOSTILE, read
from tests.support import make_documents, put_table, run_stage

TITLE = "e\u0301 你好 👩‍👩‍👧 " + HOSTILE
LONG = "a line that goes on and on \u202eand turns " * 10


@pytest.fixture
def cut(tmp_path: Path) -> Artifact:
    store = Store(tmp_path / "store")
    given = pa.concat_tables(
        [
            make_documents([f"é 三 👍🏽\n{TITLE}\nof the books", f"{TITLE}\n{TITLE}\r\nend"], "books", prefix="a"),
            make_documents([f"{TITLE}\n{LONG}\n{number} of the crawl" for number in range(3)], HOSTILE, prefix="b"),
            make_documents([LONG, "nothing that is repeated"], "news", prefix="c"),
        ]
    )
    config = ParagraphsConfig(exempt=["books"], min_remaining=10)
    return run_stage(STAGE, config, store, {"documents": put_table(store, DOCUMENTS, given)}).artifact


def test_what_was_cut_of_each_source_and_which_units_most(cut: Artifact) -> None:
    found = repeats(subject_of(Store(Path(cut.path).parent.parent), cut))
    assert found is not None
    names = ("units_cut", "units_exempt", "documents_cut", "documents_dropped")
    assert [found[name] for name in names] == [6, 2, 3, 1]
    shares = {row["source"]: (row["exempt"], row["units_cut"], row["units_share"]) for row in found["sources"]}
    assert shares == {"books": (True, 0, "0.00%"), HOSTILE: (False, 5, "55.56%"), "news": (False, 1, "50.00%")}
    assert {row["source"]: row["characters_share"] for row in found["sources"]}["books"] == "0.00%"
    most = [(row["occurrences"], row["cut"], row["source"], row["text"]) for row in found["most"]]
    begins = " ".join(LONG[:EXCERPT].split()) + "…"
    assert most == [(6, 3, "books", TITLE), (4, 3, HOSTILE, begins)]


def test_hostile_lines_stay_text(cut: Artifact, tmp_path: Path) -> None:
    page = read(write_report(Store(Path(cut.path).parent.parent), cut, tmp_path / "r.html"))
    assert "Could not be shown" not in page.text
    assert page.tags["img"] == 0 and page.tags["bdi"] == 2  # what turns the direction of writing turns its own cell
    assert page.text.count(TITLE) == 1 and "Repeated lines" in page.text
    words = " ".join(page.text.split())
    assert "Of 17 lines, 11 are long enough to be compared; 2 different ones occur 2 times or more." in words
    assert "2 stay because their sources are exempt. 3 of 7 documents are shorter now; 1 had fewer than 10" in words


def test_text_that_is_no_longer_there_is_not_shown(cut: Artifact, tmp_path: Path) -> None:
    store = Store(Path(cut.path).parent.parent)
    (given,) = store.artifacts("given")
    shutil.rmtree(given.path)
    page = read(write_report(Store(store.url), cut, tmp_path / "r.html"))
    assert page.text.count("(the text is no longer in the store)") == 2 and TITLE not in page.text


def test_a_run_that_cut_nothing_has_no_figure(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    given = put_table(store, DOCUMENTS, make_documents(["one line that stands alone"]))
    made = run_stage(STAGE, ParagraphsConfig(), store, {"documents": given}).artifact
    page = read(write_report(store, made, tmp_path / "r.html"))
    assert page.tags["figure"] == 0 and "Repeated most" not in page.text
    assert "0 occurrences were cut, and 0.00% of all characters with them. 0 of 1 documents" in page.text
