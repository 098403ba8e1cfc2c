"""The store's blocklist: its entries, its records, and what it does to recipes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts.audit.blocklist import PATH, Blocklist, block, blocklist_source, listed, requests, store_blocklist
from artifacts.errors import RunError
from artifacts.lineage import takedown
from artifacts.store import Store
from artifacts.tables import DOCUMENTS
from artifacts.urls import canonical_url
from tasks.execution import find_sources, recipe_of
from tasks.ingest.config import IngestConfig
from tasks.ingest.stage import STAGE
from tests.support import make_documents, put_table

ID = "0123456789abcdef" * 2


def test_all_that_names_a_page_the_closest_first() -> None:
    found = Blocklist(["example.org", "a.example.org/x", "HTTP://a.example.org:80/x", ID.upper(), "b.example.org"])
    assert found.keys("http://a.example.org/x", ID) == [
        ("doc_id", ID),
        ("url", "http://a.example.org/x"),
        ("bare", "a.example.org/x"),
        ("host", "example.org"),
    ]
    assert found.match("http://a.example.org/x", ID) == "doc_id"
    assert found.match("http://c.b.example.org/", "f" * 32) == "host b.example.org"
    assert found.match("http://example.com/", "f" * 32) is None
    assert found.blocks_host("b.example.org") and not found.blocks_host("example.com")


LABELS = st.text("abc", min_size=1, max_size=2)
HOSTS = st.lists(LABELS, min_size=1, max_size=3).map(".".join)


@given(st.lists(HOSTS, max_size=4), HOSTS)
def test_a_host_is_blocked_with_all_below_it(entries: list[str], host: str) -> None:
    url = canonical_url(f"http://{host}/page")
    blocked = any(host == entry or host.endswith(f".{entry}") for entry in entries)
    assert (Blocklist(entries).match(url, ID) is not None) == blocked
    assert Blocklist(entries).blocks_host(host) == blocked


PLACES = [
    "http://a.org/x",
    "https://a.org/x",
    "https://a.org:8443/x",
    "http://a.org:8080/x",
    "HTTP://A.org:8080/%78",
    "http://sub.a.org:8080/y",
    "http://someone:word@a.org/x",
    "http://[2001:db8::1]:8080/x",
    "http://b.org/x?key=1",
    "http://b.org/x?key=2",
]
# An entry, and which of the places it names.
NAMED = [
    ("a.org", [0, 1, 2, 3, 4, 5, 6]),
    ("a.org:8080", [3, 4, 5]),
    ("A.ORG:8080/", [3, 4, 5]),
    ("*.a.org:80", [0, 6]),
    ("a.org:443", [1]),
    ("a.org/x", [0, 1, 2, 3, 4, 6]),
    ("//a.org/x", [0, 1, 2, 3, 4, 6]),
    ("a.org:443/x", [1]),
    ("a.org:8080/x", [3, 4]),
    ("a.org:80/x", [0, 6]),
    ("a.org:8080?x", []),
    ("http://a.org/x", [0, 6]),
    ("http://a.org:8080/x", [3, 4]),
    ("http://other:secret@a.org/x", [0, 6]),
    ("other:secret@a.org/x", [0, 1, 2, 3, 4, 6]),
    ("token@a.org/x", [0, 1, 2, 3, 4, 6]),
    ("other:secret@a.org:8080", [3, 4, 5]),
    ("someone@a.org", []),
    ("[2001:db8::1]:8080", [7]),
    ("[2001:DB8::1]", [7]),
    ("2001:db8::1", [7]),
    ("[2001:db8::1]/x", [7]),
    ("http://b.org/x?key=1", [8]),
]


@pytest.mark.parametrize(("entry", "named"), NAMED)
def test_an_entry_without_a_scheme_holds_for_any_port_unless_it_names_one(entry: str, named: list[int]) -> None:
    found = Blocklist([entry])
    assert [n for n, url in enumerate(PLACES) if found.match(canonical_url(url), ID)] == named


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store, table = Store(tmp_path_factory.mktemp("store")), make_documents([f"page {url}" for url in PLACES])
    put_table(store, DOCUMENTS, table.set_column(table.schema.get_field_index("url"), "url", pa.array(PLACES)))
    return store


@pytest.mark.parametrize(("entry", "named"), NAMED)
def test_takedown_finds_what_the_next_ingest_will_block(crawled: Store, entry: str, named: list[int]) -> None:
    found = takedown(crawled, [entry], dry_run=True)
    assert sorted(document["url"] for document in found["documents"]) == sorted(PLACES[n] for n in named)
    assert bool(found["unmatched"]) == (not named)


def test_no_password_of_an_entry_is_stored(tmp_path: Path) -> None:
    store = Store(tmp_path)
    Path(store.root, "takedown").mkdir()
    Path(store.root, PATH).write_text("http://bob:hunter2@old.org/\n")  # of an earlier version of this program
    asked = ["https://bob:hunter2@a.org/x?key=1", "bob:hunter2@b.org", "hunter2@c.org/x", "file:a@b.txt#1"]
    block(store, asked, reason="see https://bob:hunter2@mail.org/1")
    request, _ = block(store, [], lifted=["bob:hunter2@b.org"])
    assert request.lifted == ["b.org"]
    assert listed(store) == ["c.org/x", "file:a@b.txt#1", "http://old.org/", "https://a.org/x?key=1"]
    assert requests(store)[0].reason == "see https://redacted@mail.org/1"
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes(), path


def test_takedowns_add_up_whatever_their_order(tmp_path: Path) -> None:
    first, second = Store(tmp_path / "a"), Store(tmp_path / "b")
    for store, lists in ((first, (["b.org", "a.org"], ["a.org"])), (second, (["a.org"], ["b.org"]))):
        for entries in lists:
            request, path = block(store, entries, reason="asked by its owner")
            assert path == str(Path(store.root, PATH))
    assert Path(first.root, PATH).read_bytes() == Path(second.root, PATH).read_bytes() == b"a.org\nb.org\n"
    record = json.loads(Path(second.root, f"takedown/{request.id}.json").read_text())
    assert (record["entries"], record["reason"], bool(record["user"])) == (["b.org"], "asked by its owner", True)
    chain = [json.loads(path.read_text()) for path in sorted(Path(second.root, "runs/chain").iterdir())]
    digest = hashlib.sha256(Path(second.root, f"takedown/{request.id}.json").read_bytes()).hexdigest()
    assert chain[-1]["payload"] == {"record": f"takedown/{request.id}.json", "sha256": digest}


def test_what_was_added_by_hand_stays_and_what_was_lifted_goes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    block(store, ["http://a.org/x", "b.org"])
    with open(Path(store.root, PATH), "a") as stream:
        stream.write("c.org\n")
    block(store, ["d.org"])
    assert listed(store) == ["b.org", "c.org", "d.org", "http://a.org/x"]
    block(store, [], lifted=["HTTP://A.org:80/x", "C.ORG"])
    assert listed(store) == ["b.org", "d.org"]
    block(store, ["c.org"])
    assert listed(store) == ["b.org", "c.org", "d.org"]
    assert [len(request.entries) for request in requests(store)] == [2, 1, 0, 1]
    assert store.stages() == [] and store.is_empty()


def test_a_damaged_record_is_not_passed_over(tmp_path: Path) -> None:
    store = Store(tmp_path)
    request, _ = block(store, ["a.org"])
    Path(store.root, f"takedown/{request.id}.json").write_text("{")
    with pytest.raises(RunError, match=request.id):
        block(store, ["b.org"])
    assert listed(store) == ["a.org"]


def test_only_entries_change_a_recipe(tmp_path: Path) -> None:
    store, other = Store(tmp_path / "store"), tmp_path / "mine.txt"
    other.write_text("z.org\n")

    def recipe(blocklist: str | None = None) -> str:
        config = IngestConfig(paths=[str(other)], blocklist=blocklist)
        return recipe_of(STAGE, config, {}, find_sources(STAGE, config, store, {}), 0)

    clean, mine = recipe(), recipe(str(other))
    config = IngestConfig(paths=[str(other)])
    assert STAGE.sources is not None
    assert clean == recipe_of(STAGE, config, {}, STAGE.sources(config), 0)
    block(store, ["a.org"])
    blocked = recipe()
    assert len({clean, mine, blocked, recipe(str(other))}) == 4
    assert recipe(str(Path(store.root, PATH))) == blocked  # the same file named by the config is one source
    block(store, ["a.org"], reason="again")
    assert recipe() == blocked
    block(store, [], lifted=["a.org"])
    assert recipe() == clean and store_blocklist(store) is None


def test_a_reader_is_not_disturbed_by_the_next_takedown(tmp_path: Path) -> None:
    store = Store(tmp_path)
    block(store, ["a.org"])
    source = blocklist_source(store)
    block(store, ["b.org"])
    assert source is not None and source.path.read_bytes() == b"a.org\n"
    assert (source.name, source.role, source.sha256) == (
        "blocklist.txt",
        "blocklist",
        hashlib.sha256(b"a.org\n").hexdigest(),
    )


def test_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = Store(f"memory://{tmp_path.name}")
    assert blocklist_source(store) is None and listed(store) == []
    _, path = block(store, ["a.org"])
    assert path == f"memory://{tmp_path.name}/takedown/blocklist.txt"
    source = blocklist_source(store)
    assert source is not None and source.path.read_text() == "a.org\n"
