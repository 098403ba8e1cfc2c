"""MinHash signatures a second: this project's against datatrove's, datasketch's and rensa's, in the same run.

All make 112 permutations over word 5-grams (character 5-grams for Chinese, but datatrove's), on one core; rates are by
CPU time, the best of some rounds taken in turns. From text: ours reads an Arrow column, normalises with NFKC and takes
the exact-duplicate hash as well; datatrove's `MinhashDedupSignature` simplifies, tokenises, hashes and permutes (its
files are not written); datasketch is given n-grams of a lower-cased text split by one regular expression, with SHA-1
and with xxhash. Over ready shingles: ours and datasketch's `affine32` permute the same 32-bit hashes and must agree in
every bit; rensa is given n-grams as strings, because its hashing cannot be taken apart.

    python benchmarks/dedup_signatures.py

A peer that is not installed is passed over. With CRAWL2CHAT_MIRROR set, the news articles of
`neardup/minhash_articles` are measured too.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasketch import MinHash

from tasks.dedup.minhash import shingle_hash32, sign_rows
from tasks.dedup.signing import shingle_column, sign_column
from tasks.text.shingles import text_ngrams

PERMUTATIONS, SHINGLE, ROUNDS = 112, 5, 3
SLOW = 40  # documents a round of a peer that takes milliseconds for each
_PEER_UNITS = re.compile(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+")


def peer_shingles(text: str) -> list[str]:
    """The n-grams that datasketch and rensa are given."""
    units = _PEER_UNITS.findall(text.lower())
    return list({" ".join(units[i : i + SHINGLE]) for i in range(max(len(units) - SHINGLE + 1, 1))})


def datasketch_text(hash_function: Callable[[bytes], int] | None, texts: Sequence[str]) -> None:
    """A document's MinHash as datasketch's documentation makes it, in one batch."""
    for text in texts:
        MinHash(PERMUTATIONS, hashfunc=hash_function).update_batch([s.encode() for s in peer_shingles(text)])


def datasketch_ready(hashes: Sequence[list[int]]) -> None:
    """Permutations alone."""
    for values in hashes:
        MinHash(PERMUTATIONS, hashfunc=int).update_batch(values)


def text_peers() -> dict[str, Callable[[Sequence[str]], None]]:
    """What makes signatures from text, where it is installed."""
    found: dict[str, Callable[[Sequence[str]], None]] = {"datasketch (SHA-1)": partial(datasketch_text, None)}
    try:
        import xxhash

        found["datasketch (xxhash)"] = partial(datasketch_text, xxhash.xxh32_intdigest)
    except ImportError:
        pass
    try:
        import datatrove.utils.hashes.xxhash as hashes
        import xxhash
        from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

        # datatrove 0.10.1 hands xxhash a str, which xxhash 4 takes no longer.
        hashes.xxhash64 = lambda data: xxhash.xxh64_intdigest(data.encode())
        step: Any = MinhashDedupSignature("/tmp", MinhashConfig(n_grams=SHINGLE, num_buckets=14, hashes_per_bucket=8))

        def datatrove(texts: Sequence[str]) -> None:
            for text in texts:
                step.get_signature(step.get_shingles(text))

        found = {"datatrove": datatrove, **found}
    except ImportError:
        pass
    return found


def rensa_ready(sets: Sequence[list[str]]) -> None:
    """Hashing of strings and permutations."""
    from rensa import RMinHash

    for shingles in sets:
        minhash = RMinHash(num_perm=PERMUTATIONS, seed=1)
        minhash.update(shingles)
        minhash.digest()


def rates(contests: dict[str, tuple[Callable[[Any], Any], Any, int]]) -> dict[str, float]:
    """Documents a CPU second of each (function, argument, documents): the best round, rounds taken in turns."""
    best = dict.fromkeys(contests, 0.0)
    for function, argument, _ in contests.values():
        function(argument[:1])
    for _ in range(ROUNDS):
        for name, (function, argument, documents) in contests.items():
            start = time.process_time()
            function(argument)
            best[name] = max(best[name], documents / (time.process_time() - start))
    return best


def compare(title: str, texts: list[str]) -> None:
    """Print rates and ratios for one corpus."""
    column = pa.chunked_array([pa.array(texts, pa.large_string())])
    contests: dict[str, tuple[Callable[[Any], Any], Any, int]] = {
        "ours": (lambda column: sign_column(column, SHINGLE, PERMUTATIONS), column, len(texts)),
        **{name: (peer, texts[:SLOW], len(texts[:SLOW])) for name, peer in text_peers().items()},
    }
    found = rates(contests)
    found["exact shingle sets"] = rates({"": (lambda column: shingle_column(column, SHINGLE), column, len(texts))})[""]
    say(f"{title}, {len(texts)} texts of {sum(map(len, texts)) / len(texts):,.0f} characters, from text", found)
    compare_ready(title, texts)


def compare_ready(title: str, texts: list[str]) -> None:
    """The same over ready shingles, after a check that ours and datasketch's signatures are equal."""
    ngrams = [text_ngrams(text, SHINGLE) for text in texts]
    ends = np.cumsum([len(hashes) for hashes in ngrams])
    bounds = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1).astype(np.int64)
    together, out = np.concatenate(ngrams), np.empty((len(texts), PERMUTATIONS), dtype=np.uint32)
    hashes = [shingle_hash32(values).tolist() for values in ngrams]
    sign_rows(together, bounds, out)
    theirs = MinHash(PERMUTATIONS, hashfunc=int)
    theirs.update_batch(hashes[0])
    if theirs.hashvalues.tolist() != out[0].tolist():
        raise SystemExit("the signatures differ from datasketch's")
    some = min(len(texts), 5 * SLOW)
    contests: dict[str, tuple[Callable[[Any], Any], Any, int]] = {
        "ours": (lambda bounds: sign_rows(together, bounds, out), bounds, len(texts)),
        "datasketch (affine32)": (datasketch_ready, hashes[:some], some),
    }
    try:
        import rensa  # noqa: F401

        contests["rensa (strings)"] = (rensa_ready, [peer_shingles(text) for text in texts[:some]], some)
    except ImportError:
        pass
    say(f"{title}, over ready shingles", rates(contests))


def say(title: str, found: dict[str, float]) -> None:
    """A line for each rate, with ours divided by it."""
    sys.stdout.write(f"{title}\n")
    for name, rate in found.items():
        sys.stdout.write(f"    {name}: {rate:,.0f}/s, ratio {found['ours'] / rate:.1f}\n")
    sys.stdout.flush()


def generated_english(documents: int) -> list[str]:
    """Sentences of invented words, Zipf-distributed, 400 words and 2,800 characters a document."""
    draw = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkqjxz"))
    vocabulary = ["".join(draw.choice(letters[:20], size=size)) for size in draw.integers(2, 11, size=20_000)]
    numbers = np.minimum(draw.zipf(1.2, size=(documents, 400)), len(vocabulary)) - 1
    return [
        " ".join(vocabulary[n].title() + "," if i % 12 == 0 else vocabulary[n] for i, n in enumerate(row))
        for row in numbers.tolist()
    ]


def with_typography(texts: list[str]) -> list[str]:
    """The same texts with a curly apostrophe, a dash or an accent every hundred characters, as pages have them."""
    marks = ("’s ", " — ", "é ")
    return ["".join(text[i : i + 100] + marks[i // 100 % 3] for i in range(0, len(text), 100)) for text in texts]


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
    """Print rates and ratios for each corpus."""
    english = generated_english(500)
    compare("generated English", english)
    compare("English with typography", with_typography(english))
    compare("generated Chinese", generated_chinese(500))
    if articles := news():
        compare("news articles", articles)


if __name__ == "__main__":
    main()
