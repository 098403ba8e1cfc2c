"""Rankings as token ids, cut to what the model can read."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from artifacts.reader import InputTable
from artifacts.tables import RANKINGS
from tasks.text.records import opening_id
from tasks.training.chat_format import encode_prompt, encode_text, end_id


@dataclass(frozen=True)
class Example:
    """One ranking. `ids` are K sequences of prompt, answer and end token; `lengths` the answers' own tokens."""

    number: int
    prompt_id: str
    ids: list[list[int]]
    ranks: list[int]
    lengths: list[int]
    group: str

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(better, worse) of all pairs that are not tied."""
        places = range(len(self.ranks))
        return [(a, b) for a in places for b in places if self.ranks[a] < self.ranks[b]]


@dataclass
class Examples:
    """The rankings of a table by split, with the account of what could not be used."""

    train: list[Example] = field(default_factory=list)
    heldout: list[Example] = field(default_factory=list)
    rows: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    prompts_cut: int = 0
    answers_too_long: int = 0

    @property
    def account(self) -> dict[str, Any]:
        kept = len(self.train) + len(self.heldout)
        return {"rows": self.rows, "kept": kept, "reasons": dict(sorted(self.reasons.items()))}


def fit(
    prompt: list[int], answers: list[list[int]], max_tokens: int, min_prompt: int
) -> tuple[list[list[int]], list[int]]:
    """Prompt + answer for each answer that fits, and the places of those.

    All answers keep the same prompt, cut from the left to what the longest one leaves, but not below `min_prompt`
    tokens (or its whole length, if that is less); an answer that does not fit then is left out.
    """
    least = min(len(prompt), min_prompt)
    places = [place for place, answer in enumerate(answers) if least + len(answer) <= max_tokens]
    if not places:
        return [], []
    room = max_tokens - max(len(answers[place]) for place in places)
    kept = prompt[-room:]
    return [kept + answers[place] for place in places], places


def openings(conversations: InputTable) -> dict[str, set[str]]:
    """The splits in which each dialogue's opening (`opening_id`) stands in the demonstrations."""
    found: dict[str, set[str]] = {}
    for batch in conversations.batches(["messages", "split"]):
        for row in batch.to_pylist():
            found.setdefault(opening_id(row["messages"]), set()).add(row["split"])
    return found


def read_examples(
    table: InputTable,
    tokenizer: Any,
    max_tokens: int,
    min_prompt: int,
    demonstrated: Mapping[str, Container[str]] | None = None,
) -> Examples:
    """Every ranking of the table: kept, or dropped as `only_ties` or `too_long` (fewer than two answers fit).

    Where the shares held out of rankings and of demonstrations differ, a dialogue can be on one side here and on the
    other there (`demonstrated`, from `openings`). It is neither measured, since the SFT model has learnt it
    (`learnt_in_sft`), nor learnt, since the policy is to be judged on it unseen (`heldout_prompt`).
    """
    found = Examples()
    for batch in table.batches(RANKINGS.schema.names):
        for row in batch.to_pylist():
            sides = (demonstrated or {}).get(opening_id(row["messages"]), ())
            example: Example | str
            if row["split"] == "heldout" and "train" in sides:
                example = "learnt_in_sft"
            elif row["split"] != "heldout" and "heldout" in sides:
                example = "heldout_prompt"
            else:
                example = _example(found, row, tokenizer, max_tokens, min_prompt)
            found.rows += 1
            if isinstance(example, str):
                found.reasons[example] = found.reasons.get(example, 0) + 1
            else:
                (found.heldout if row["split"] == "heldout" else found.train).append(example)
    return found


def _example(
    found: Examples, row: Mapping[str, Any], tokenizer: Any, max_tokens: int, min_prompt: int
) -> Example | str:
    if len(set(row["ranks"])) < 2:
        return "only_ties"
    end = end_id(tokenizer)
    prompt = encode_prompt(tokenizer, row["messages"])
    answers = [[*encode_text(tokenizer, response), end] for response in row["responses"]]
    ids, places = fit(prompt, answers, max_tokens, min_prompt)
    found.answers_too_long += len(answers) - len(places)
    ranks = [row["ranks"][place] for place in places]
    if len(set(ranks)) < 2:
        return "too_long"
    lengths = [len(answers[place]) - 1 for place in places]
    found.prompts_cut += len(ids[0]) - len(answers[places[0]]) < len(prompt)
    return Example(found.rows, row["prompt_id"], ids, ranks, lengths, f"{row['source']}/{row['axis']}")
