"""A programmatic annotator. It is no person and judges no truth: rows of it are marked `simulated`.

It stands in where nobody has ranked anything, so that the stages after it have something that can be learnt and that
looks like a better answer. For each answer

    score = ended + stop + distinct + closeness + overlap + noise * (2 u - 1)

each of the first five within 0 and 1: `ended`: the policy ended it itself; `stop`: its last character is a full stop,
question or exclamation mark; `distinct`: the share of its word trigrams that are not repetitions; `closeness`:
min(n + 1, t + 1) / max(n + 1, t + 1) for n words and a wanted length of t; `overlap`: the share of the question's words
of four letters and more that occur in it. `u` in [0, 1) comes from a hash of annotator, prompt and answer. Scores are
rounded to a step, and answers with equal rounded scores are tied.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tasks.text.hashing import unit_interval

NAME = "simulated"
STOPS = (".", "!", "?", "。", "！", "？")
# One character is a word where text has no spaces.
WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W぀-ヿ㐀-鿿가-힯]+")


def words(text: str) -> list[str]:
    """Lower-case words; each CJK character is one."""
    return WORD.findall(text.lower())


def score(question: str, answer: str, ended: bool, target_words: int) -> float:
    """The formula of the module without its noise, in [0, 5]. An answer without words gets `ended` alone."""
    found = words(answer)
    if not found:
        return float(ended)
    stop = answer.rstrip().endswith(STOPS)
    trigrams = [tuple(found[start : start + 3]) for start in range(max(len(found) - 2, 1))]
    distinct = len(set(trigrams)) / len(trigrams)
    length, target = len(found) + 1, target_words + 1
    closeness = min(length, target) / max(length, target)
    wanted = sorted({word for word in words(question) if len(word) > 3 or not word.isascii()})
    overlap = len(set(wanted) & set(found)) / len(wanted) if wanted else 0.0
    return ended + stop + distinct + closeness + overlap


def rank(
    question: str,
    answers: Sequence[str],
    ended: Sequence[bool],
    *,
    annotator: str,
    seed: int,
    noise: float,
    target_words: int,
    step: float,
) -> tuple[list[int], list[float]]:
    """Ranks (1 = best, equal rounded scores share a rank) and the rounded scores of the answers to one question."""
    scores = []
    for answer, complete in zip(answers, ended, strict=True):
        draw = unit_interval(f"{annotator}\0{question}\0{answer}", seed, "simulated-annotator")
        raw = score(question, answer, complete, target_words) + noise * (2 * draw - 1)
        scores.append(round(raw / step) * step)
    order = sorted(set(scores), reverse=True)
    return [order.index(value) + 1 for value in scores], scores
