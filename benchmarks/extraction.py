"""Text from HTML against gold texts: resiliparse with this project's line filter, plain resiliparse, and trafilatura.

The 181 pages of scrapinghub's article extraction benchmark, scored as its report defines: multisets of word 4-grams,
true and false positives and false negatives of a page divided by their sum, then summed over the pages. The filter was
tuned on the pages whose id has an even first byte of SHA-256; the others are held out. The gold texts are bodies of
articles without their headlines, which this project keeps: "without h1" shows what that costs here.

    CRAWL2CHAT_MIRROR=FOLDER python benchmarks/extraction.py

FOLDER holds `html/scrapinghub_aeb`. Prints a line an extractor and part; pages a second are of CPU time on one core.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from resiliparse.extract.html2text import extract_plain_text

from tasks.ingest.extract import clean_text, decode_text
from tasks.ingest.extractors import extract_html

WORD = re.compile(r"\w+")
N = 4


def ngrams(text: str) -> Counter[tuple[str, ...]]:
    """The multiset of word 4-grams; a text of fewer words is one gram, an empty one has none."""
    words = WORD.findall(text)
    return Counter(tuple(words[at : at + N]) for at in range(max(1, len(words) - N + 1))) if words else Counter()


def counts(gold: str, found: str) -> tuple[float, float, float]:
    """True positives, false positives and false negatives of a page, as shares of their sum."""
    wanted, given = ngrams(gold), ngrams(found)
    hits = sum((wanted & given).values())
    parts = (hits, sum(given.values()) - hits, sum(wanted.values()) - hits)
    total = sum(parts) or 1
    return parts[0] / total, parts[1] / total, parts[2] / total


def score(pages: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    """F1, precision and recall of all pages."""
    hits, wrong, missed = (sum(column) for column in zip(*pages, strict=True))
    precision, recall = hits / (hits + wrong), hits / (hits + missed)
    return 2 * precision * recall / (precision + recall), precision, recall


def is_tuned(name: str) -> bool:
    """Whether the filter was tuned on the page."""
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 0


def resiliparse_alone(html: str) -> str:
    """resiliparse's main content with the options that suit these pages best."""
    return str(
        extract_plain_text(
            html, main_content=True, list_bullets=False, alt_texts=False, comments=False, preserve_formatting=True
        )
    )


def without_h1(html: str) -> str:
    """This project's extraction with the headlines taken out of the page."""
    return extract_html(html, skip=["h1"])


def trafilatura_precise(html: str) -> str:
    """trafilatura in favour of precision."""
    from trafilatura import extract

    return extract(html, include_comments=False, favor_precision=True) or ""


def measure(name: str, extract: Callable[[str], str], pages: Mapping[str, str], gold: Mapping[str, str]) -> None:
    """Print the extractor's scores and speed."""
    extract(next(iter(pages.values())))
    start = time.process_time()
    found = {key: extract(html) for key, html in pages.items()}
    seconds = time.process_time() - start
    scored = {key: counts(gold[key], clean_text(text)) for key, text in found.items()}
    for part, keys in (
        ("held out", [key for key in pages if not is_tuned(key)]),
        ("tuned on", [key for key in pages if is_tuned(key)]),
        ("all", list(pages)),
    ):
        f1, precision, recall = score([scored[key] for key in keys])
        sys.stdout.write(
            f"{name:22} {part:9} {len(keys):4} pages  F1 {f1:.4f}  precision {precision:.4f}  recall {recall:.4f}"
            f"  {len(pages) / seconds:6.0f} pages/s\n"
        )
    sys.stdout.flush()


def main() -> None:
    """Score every extractor that is installed."""
    roots = [Path(part) for part in os.environ.get("CRAWL2CHAT_MIRROR", "").split(os.pathsep) if part]
    folder = next((root / "html/scrapinghub_aeb" for root in roots if (root / "html/scrapinghub_aeb").is_dir()), None)
    if folder is None:
        sys.stdout.write("no html/scrapinghub_aeb under CRAWL2CHAT_MIRROR: nothing to measure\n")
        return
    gold = {key: entry["articleBody"] for key, entry in json.loads((folder / "ground-truth.json").read_text()).items()}
    pages = {}
    for key in gold:
        body = gzip.decompress((folder / "html" / f"{key}.html.gz").read_bytes())
        pages[key] = decode_text(body, "utf-8", True)[0]
    extractors: dict[str, Callable[[str], str]] = {
        "resiliparse + filter": extract_html,
        "  without h1": without_h1,
        "resiliparse": resiliparse_alone,
    }
    try:
        import trafilatura  # noqa: F401

        extractors["trafilatura"] = lambda html: extract_html(html, extractor="trafilatura")
        extractors["trafilatura, precise"] = trafilatura_precise
    except ImportError:
        pass
    for name, extract in extractors.items():
        measure(name, extract, pages, gold)


if __name__ == "__main__":
    main()
