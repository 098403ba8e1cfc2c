"""takedown's search of a table against the blocklist asked about every row, on URLs in all kinds of spellings."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from artifacts.audit.blocklist import Blocklist
from artifacts.lineage import takedown
from artifacts.store import Store
from artifacts.tables import DOCUMENTS
from artifacts.urls import canonical_url
from tests.support import make_documents, put_table

SCHEMES = ["http://", "https://", "HTTP://", "ftp://", "gopher://", "http:\\\\", "ht\ttp://", "//", ""]
HOSTS = ["a.org", "sub.a.org", "A.oRg", "ba.org", "a.org.net", "a.org.", "%61.org", "a%2Eorg", "a\t.org", "a\n.org"]
HOSTS += [
    "b\u00fccher.org",
    "B\u00dcCHER.org",
    "xn--bcher-kva.org",
    "b%C3%BCcher.org",
    "[::1]",
    "[::A]",
    "127.0.0.1",
    "a-b.org",
]
PORTS = ["", "", "", ":80", ":443", ":8080", ":", ":0080"]
PATHS = [
    "",
    "/",
    "/x",
    "/X",
    "/%78",
    "/a/../x",
    "/./x",
    "\\x",
    "/x/",
    "/x y",
    "/\u00fc",
    "/%c3%bc",
    "/x%2fy",
    "/x\ty",
    "/page.html",
]
TAILS = ["", "", "", "?", "?k=1", "?k=%31", "?see=http://a.org/x", "#top", "?k=1#top", "/b\u00fccher.org"]
AROUND = [("", ""), ("", ""), ("", ""), ("<", ">"), (" ", " "), ("\t", "\n")]
ODD = [
    "file:notes.txt#1",
    " file:notes.txt#1 ",
    "<urn:a.org>",
    "urn:a.org",
    "dns:a.org",
    "a.org",
    "http://",
    "http://[a",
    "",
    " ",
]


def spelt(chance: random.Random) -> str:
    before, after = chance.choice(AROUND)
    user = chance.choice(["", "", "", "someone:word@", "a.org@"])
    parts = [SCHEMES[: chance.choice([2, 9])], HOSTS[: chance.choice([3, 18])], PORTS, PATHS, TAILS]
    scheme, *rest = (chance.choice(part) for part in parts)
    return f"{before}{scheme}{user}{''.join(rest)}{after}"


ENTRIES = [
    "a.org",
    "A.ORG:80",
    "sub.a.org",
    "*.a.org:8080",
    "a.org/x",
    "a.org:443/x",
    "http://a.org/x",
    "https://a.org/x?k=1",
]
ENTRIES += [
    "b\u00fccher.org",
    "xn--bcher-kva.org",
    "http://b\u00fccher.org/\u00fc",
    "b\u00fccher.org/x",
    "[::1]",
    "::1",
    "[::a]/x",
    "127.0.0.1",
]
ENTRIES += ["http://a.org:8080/", "a.org/page.html", "http://%61.ORG/a/../%78", "ftp://a.org/x/", "gopher://a.org/x"]
ENTRIES += ["file:notes.txt#1", "urn:a.org", "http://[a", "d" + "7".zfill(31), "0" * 31 + "7", "nowhere.example"]
LISTS = [[entry] for entry in ENTRIES]
LISTS += [ENTRIES[5:8], ["a.org/x", "d" + "0" * 31], [f"http://a.org/{n}" for n in range(90)] + ["http://a.org/x"]]
LISTS += [
    [*ENTRIES[:4], *(f"h{n}.org" for n in range(20))],
    [f"h{n}.org/x" for n in range(20)] + ["a.org/x", "https://b\u00fccher.org/x"],
]


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, str | None]]:
    """A store of one table, and its doc_ids with their URLs."""
    chance, store = random.Random(7), Store(tmp_path_factory.mktemp("store"))
    urls = [*ODD, *(spelt(chance) for _ in range(1000)), None]
    table = make_documents([f"page {number}" for number in range(len(urls))])
    put_table(store, DOCUMENTS, table.set_column(table.schema.get_field_index("url"), "url", pa.array(urls)))
    return store, dict(zip(table["doc_id"].to_pylist(), urls, strict=True))


@pytest.mark.parametrize("entries", LISTS, ids=lambda entries: f"{entries[0]} of {len(entries)}")
def test_takedown_names_every_page_that_the_list_names(
    crawled: tuple[Store, dict[str, str | None]], entries: list[str]
) -> None:
    (store, rows), blocklist = crawled, Blocklist(entries)
    named = {doc_id: url for doc_id, url in rows.items() if blocklist.keys(canonical_url(url or ""), doc_id)}
    found = takedown(store, entries, dry_run=True)
    assert {document["doc_id"]: document["url"] for document in found["documents"]} == named
    assert found["unmatched"] or named
