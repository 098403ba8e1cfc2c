"""Invented pages, some thousand at a time: each batch is a function of the seed and its first page's number."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from artifacts.tables import DOCUMENTS

Ints = npt.NDArray[np.int64]

BATCH = 8_192  # a row group: the stages after this one meet the same batches
HOSTS, WORDS = 5_000, 20_000
CRAWL_FILES, CURATED_FILES, CURATED_SHARE = 10, 2, 0.04
DUPLICATES, EXACT = 0.16, 0.4  # of the pages with odd numbers: 8% of all are duplicates, 40% of these exact


@dataclass(frozen=True)
class Origins:
    """Which pages of a batch repeat which: `origin` is a page's own place if it repeats none."""

    origin: Ints
    exact: npt.NDArray[np.bool_]

    @property
    def unique(self) -> npt.NDArray[np.bool_]:
        return self.origin == np.arange(len(self.origin))


def origins(seed: int, first: int, rows: int) -> Origins:
    draw = np.random.default_rng([seed, 1, first])
    places = np.arange(rows)
    repeats = (places % 2 == 1) & (draw.random(rows) < DUPLICATES)
    earlier = np.maximum(places - 1 - 2 * draw.integers(0, 20, rows), 0) // 2 * 2
    return Origins(np.where(repeats, earlier, places), repeats & (draw.random(rows) < EXACT))


@cache
def vocabulary() -> pa.Array:
    draw = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkqjxz"))
    words = ["".join(draw.choice(letters[:20], size=size)) for size in draw.integers(2, 11, size=WORDS)]
    return pa.array([word + "." if number % 15 == 0 else word for number, word in enumerate(words)])


def texts(seed: int, first: int, rows: int) -> pa.Array:
    """Texts of 30 to 120 words, a few hundred characters; a near-duplicate has one word of its own."""
    found = origins(seed, first, rows)
    draw = np.random.default_rng([seed, 2, first])
    lengths = draw.integers(30, 121, rows)[found.origin]
    ends = np.cumsum(lengths)
    starts = ends - lengths
    words = (draw.random(ends[-1]) ** 3 * WORDS).astype(np.int32)
    words = words[np.repeat(starts[found.origin] - starts, lengths) + np.arange(ends[-1])]
    near = ~found.unique & ~found.exact
    words[starts[near] + lengths[near] // 2] = draw.integers(0, WORDS, near.sum())
    lists = pa.ListArray.from_arrays(np.append(0, ends).astype(np.int32), vocabulary().take(pa.array(words)))
    return pc.binary_join(lists, " ")


def curated_from(total: int) -> int:
    """The number of the first page that comes from a curated file and not from the crawl."""
    return total - int(total * CURATED_SHARE)


def file_of(number: int, total: int) -> str:
    border = curated_from(total)
    if number < border:
        return f"crawl-{number * CRAWL_FILES // border:02d}.warc.gz"
    return f"book-{(number - border) * CURATED_FILES // (total - border)}.txt"


def url_of(number: int, seed: int, total: int) -> str:
    """Hosts differ in size as on the web; one page of fifty is the one before it, fetched again."""
    if number >= curated_from(total):
        return f"file:{file_of(number, total)}#{number}"
    if number % 50 == 49:
        number -= 1
    draw = int.from_bytes(blake2b(b"%d %d" % (seed, number), digest_size=8).digest())
    host = int(HOSTS * (draw % 10_007 / 10_007) ** 3)
    page = f"http://www{host}.example.org/{('en', 'docs', 'News', 'a/b')[draw % 4]}/page-{number}.html"
    return page + ("", f"?id={number}", "?q=%E4%BD%A0", "", "", "", "", "", "", "")[draw // 7 % 10]


def doc_id_of(url: str, number: int) -> str:
    return blake2b(f"{url} {number}".encode(), digest_size=16).hexdigest()


def pages(seed: int, first: int, rows: int, total: int) -> pa.Table:
    """Rows of a documents table: pages `first` to `first + rows` of `total`."""
    numbers = range(first, first + rows)
    urls = [url_of(number, seed, total) for number in numbers]
    curated = [number >= curated_from(total) for number in numbers]
    return pa.table(
        {
            "doc_id": [doc_id_of(url, number) for url, number in zip(urls, numbers, strict=True)],
            "url": urls,
            "date": [f"2026-01-{1 + number % 28:02d}T00:00:{number % 60:02d}Z" for number in numbers],
            "source": ["books" if known else "crawl" for known in curated],
            "lang": ["en"] * rows,
            "lang_score": np.random.default_rng([seed, 3, first]).random(rows) / 2 + 0.5,
            "text": texts(seed, first, rows),
            "warc_file": [file_of(number, total) for number in numbers],
            "warc_offset": np.arange(first, first + rows) * 1_000,
            "content_type": ["text/plain" if known else "text/html" for known in curated],
            "charset": ["utf-8"] * rows,
        },
        schema=DOCUMENTS.schema,
    )
