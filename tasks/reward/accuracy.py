"""How often a reward model prefers what people (or the annotator) preferred."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.reward.examples import Example
from tasks.training.intervals import mean_interval, wilson


def pair_accuracy(examples: Sequence[Example], scores: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Shares of untied pairs in which the better answer has the higher score; equal scores are not right.

    `pairs` has a Wilson 95% interval over pairs. The pairs of one prompt are not independent, whether of one ranking or
    of several annotators', so `prompts` gives the mean of each prompt's own share with an interval over prompts.
    `groups` is `pairs` for each source and axis.
    """
    right: dict[str, list[int]] = {}
    by_prompt: dict[str, list[int]] = {}
    for example, given in zip(examples, scores, strict=True):
        hits = [int(given[better] > given[worse]) for better, worse in example.pairs]
        right.setdefault(example.group, []).extend(hits)
        by_prompt.setdefault(example.prompt_id, []).extend(hits)
    total = [hit for hits in right.values() for hit in hits]
    return {
        "pairs": wilson(sum(total), len(total)),
        "prompts": mean_interval([sum(hits) / len(hits) for hits in by_prompt.values()]),
        "groups": {group: wilson(sum(hits), len(hits)) for group, hits in sorted(right.items())},
    }


def length_accuracy(examples: Sequence[Example]) -> dict[str, Any]:
    """The accuracy of preferring the longer answer, over the pairs that differ in length: the baseline to beat."""
    hits = [
        int(example.lengths[better] > example.lengths[worse])
        for example in examples
        for better, worse in example.pairs
        if example.lengths[better] != example.lengths[worse]
    ]
    return wilson(sum(hits), len(hits))
