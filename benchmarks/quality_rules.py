"""The heuristic rules against datatrove's filters, document by document: how often they agree, and how fast they are.

    python benchmarks/quality_rules.py TEXTS.jsonl...    (or CRAWL2CHAT_MIRROR set)

Both judge each document by each family of rules with the same bounds: Gopher's quality, Gopher's repetition, C4 and
FineWeb. Printed for each family are the documents that both drop, that one drops, and that none does, and the rates:
documents a second of CPU time, the best of `ROUNDS`.
Languages are all said to be English, as datatrove's filters take them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.quality.heuristics import HeuristicsConfig, judge_texts, rules_of

# datatrove's numbers where they differ from the papers'.
SETTINGS: dict[str, dict[str, Any]] = {
    "gopher": {},
    "repetition": {},
    "c4": {"min_sentences": 5, "min_words_per_line": 3},
    "fineweb": {"max_duplicate_line_characters": 0.01, "max_newlines_per_word": 0.3},
}
ROUNDS = 3
MIRRORED = ("quality/llamafactory_c4_demo.jsonl", "quality/dclm_agreement_data.jsonl")


def texts(arguments: list[str]) -> list[str]:
    """The `text` of every record of the files named, or of the mirror's web texts."""
    folders = [Path(part) for part in os.environ.get("CRAWL2CHAT_MIRROR", "").split(os.pathsep) if part]
    files = [Path(name) for name in arguments] or [folder / name for folder in folders for name in MIRRORED]
    records = (json.loads(line) for path in files if path.exists() for line in path.read_text("utf8").splitlines())
    found = [record.get("text") or record.get("content") or "" for record in records]
    return [text for text in found if text.strip()]


def ours(family: str, given: list[str]) -> list[str]:
    """The reason for which each text is dropped, empty if it is kept."""
    config = HeuristicsConfig.model_validate({family: {"enabled": True, **SETTINGS[family]}})
    rules = rules_of(config)
    languages = pa.array(["en"] * len(given))
    verdict = judge_texts(pa.array(given), languages, config, np.zeros(len(given), dtype=np.bool_))
    return [rules[number].reason if number >= 0 else "" for number in verdict.first]


def peers() -> dict[str, Callable[[str], str]]:
    """datatrove's filters by family: each gives the reason, empty if it keeps the text."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    def judging(keeper: Any) -> Callable[[str], str]:
        def judge(text: str) -> str:
            answer = keeper.filter(Document(text=text, id="0"))
            return answer[1] if isinstance(answer, tuple) else "" if answer else "dropped"

        return judge

    return {
        "gopher": judging(GopherQualityFilter()),
        "repetition": judging(GopherRepetitionFilter()),
        "c4": judging(C4QualityFilter()),
        "fineweb": judging(FineWebQualityFilter()),
    }


def each(judge: Callable[[str], str], given: list[str]) -> list[str]:
    """The judgement on each text."""
    return [judge(text) for text in given]


def timed(work: Callable[[list[str]], list[str]], given: list[str], rounds: int) -> tuple[list[str], float]:
    """What it gives, and its least CPU time in seconds."""
    found: list[str] = []
    least = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        found = work(given)
        least = min(least, time.process_time() - began)
    return found, least


def main() -> None:
    """Print a paragraph a family."""
    given = texts(sys.argv[1:])
    if not given:
        sys.stdout.write("no texts: name files of JSON lines with a field `text`, or set CRAWL2CHAT_MIRROR\n")
        return
    say = sys.stdout.write
    for family, judge in peers().items():
        ours(family, given[:2])  # compiles
        judge(given[0])
        mine, my_time = timed(partial(ours, family), given, 3 * ROUNDS)
        theirs, peer_time = timed(partial(each, judge), given, ROUNDS)
        table = Counter((bool(a), bool(b)) for a, b in zip(mine, theirs, strict=True))
        agree = (table[True, True] + table[False, False]) / len(given)
        rates = f"{len(given) / my_time:,.0f}/s, datatrove {len(given) / peer_time:,.0f}/s"
        say(
            f"{family}: {len(given)} texts, agree {agree:.1%}: both drop {table[True, True]}, only ours "
            f"{table[True, False]}, only datatrove {table[False, True]}, both keep {table[False, False]}; "
            f"{rates}, ratio {peer_time / my_time:.0f}\n"
        )
        differing = Counter((a or "kept", b or "kept") for a, b in zip(mine, theirs, strict=True) if bool(a) != bool(b))
        for (a, b), count in differing.most_common(6):
            say(f"    {count}: ours {a}, datatrove {b}\n")


if __name__ == "__main__":
    main()
