"""MinHash signatures a second from text: this project's against datasketch's, document by document, in the same run.

Both make 112 permutations over word 5-grams (character 5-grams for Chinese), on one core. Ours normalises with NFKC and
takes the exact-duplicate hash as well; the peer lower-cases and splits with one regular expression. The peer is run
with its default hash (SHA-1) and, where the package is installed, with xxhash.

    python benchmarks/dedup_signatures.py

With CRAWL2CHAT_MIRROR set, the news articles of `neardup/minhash_articles` are measured too.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from datasketch import MinHash

from tasks.dedup.minhash import signature
from tasks.dedup.signing import text_hash
from tasks.text.normalise import normalise
from tasks.text.segment import spaced
from tasks.text.shingles import ngram_hashes, unit_hashes

PERMUTATIONS, SHINGLE, ROUNDS = 112, 5, 3
_PEER_UNITS = re.compile(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+")


def ours(text: str) -> None:
    """What `tasks.dedup.signing.sign_shard` does with a document."""
    normal = normalise(text)
    text_hash(text, normal)
    signature(ngram_hashes(unit_hashes(spaced(normal)), SHINGLE), PERMUTATIONS)


def datasketch_with(hash_function: Callable[[bytes], int] | None) -> Callable[[str], None]:
    """A document's MinHash as datasketch's documentation makes it, in one batch."""

    def sign(text: str) -> None:
        units = _PEER_UNITS.findall(text.lower())
        shingles = {" ".join(units[i : i + SHINGLE]) for i in range(max(len(units) - SHINGLE + 1, 1))}
        MinHash(PERMUTATIONS, hashfunc=hash_function).update_batch([shingle.encode() for shingle in shingles])

    return sign


def rate(sign: Callable[[str], None], texts: Sequence[str]) -> float:
    """Documents a second, the best of some rounds after one document to warm up."""
    sign(texts[0])
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for text in texts:
            sign(text)
        best = min(best, time.perf_counter() - start)
    return len(texts) / best


def generated_english(documents: int) -> list[str]:
    """Sentences of invented words, Zipf-distributed, 400 words a document."""
    draw = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkqjxz"))
    vocabulary = ["".join(draw.choice(letters[:20], size=size)) for size in draw.integers(2, 11, size=20_000)]
    numbers = np.minimum(draw.zipf(1.2, size=(documents, 400)), len(vocabulary)) - 1
    return [
        " ".join(vocabulary[n].title() + "," if i % 12 == 0 else vocabulary[n] for i, n in enumerate(row))
        for row in numbers.tolist()
    ]


def generated_chinese(documents: int) -> list[str]:
    """Characters, Zipf-distributed, with a comma every twelve, 600 a document."""
    draw = np.random.default_rng(1)
    numbers = np.minimum(draw.zipf(1.1, size=(documents, 600)), 3_000) - 1
    return ["".join(chr(0x4E00 + n) + ("，" if i % 12 == 0 else "") for i, n in enumerate(row)) for row in numbers]


def news() -> list[str]:
    """The news articles of the mirror, if there is one."""
    for folder in filter(None, os.environ.get("CRAWL2CHAT_MIRROR", "").split(os.pathsep)):
        path = Path(folder) / "neardup/minhash_articles/articles_1000.train"
        if path.exists():
            return [line.split(" ", 1)[1] for line in path.read_text("utf8").splitlines()]
    return []


def main() -> None:
    """Print a line a corpus: rates and ratios."""
    peers: dict[str, Callable[[bytes], int] | None] = {"datasketch (SHA-1)": None}
    try:
        import xxhash

        peers["datasketch (xxhash)"] = xxhash.xxh32_intdigest
    except ImportError:
        pass
    corpora = {
        "generated English": generated_english(500),
        "generated Chinese": generated_chinese(500),
        "news articles": news(),
    }
    for name, texts in corpora.items():
        if not texts:
            continue
        mine = rate(ours, texts)
        for peer, function in peers.items():
            theirs = rate(datasketch_with(function), texts)
            sys.stdout.write(
                f"{name}, {len(texts)} texts: ours {mine:,.0f}/s, {peer} {theirs:,.0f}/s, ratio {mine / theirs:.1f}\n"
            )


if __name__ == "__main__":
    main()
