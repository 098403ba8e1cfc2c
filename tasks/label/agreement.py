"""How far annotators agree where more than one judged the same pair of answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tasks.training.intervals import wilson


def agreement(rankings: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Agreement over all pairs of answers to one prompt that two annotators judged.

    `strict` counts the pairs on which both named a better one (what Ouyang et al. 2022 give as 73-77% for their
    labelers); `with_ties` counts all, a tie agreeing with a tie only. Each with its Wilson 95% interval, whose n counts
    pairs of judgements. `prompts` is the number of prompts with an answer pair judged more than once.
    """
    judgements: dict[tuple[str, str, str], dict[str, int]] = {}
    for row in rankings:
        answers, ranks = row["responses"], row["ranks"]
        for left in range(len(answers)):
            for right in range(left + 1, len(answers)):
                order = _sign(ranks[left] - ranks[right])
                first, second = answers[left], answers[right]
                if first > second:
                    first, second, order = second, first, -order
                # An annotator's own second look at a pair is no second opinion.
                judgements.setdefault((row["prompt_id"], first, second), {}).setdefault(row["annotator"], order)
    agreed = strict = same = total = 0
    prompts: dict[str, None] = {}
    for (prompt, _, _), by_annotator in judgements.items():
        orders = list(by_annotator.values())
        if len(orders) > 1:
            prompts[prompt] = None
        for number, one in enumerate(orders):
            for other in orders[number + 1 :]:
                total += 1
                same += one == other
                if one and other:
                    strict += 1
                    agreed += one == other
    return {"prompts": len(prompts), "strict": wilson(agreed, strict), "with_ties": wilson(same, total)}


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
