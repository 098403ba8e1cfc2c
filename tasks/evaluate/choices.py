"""Public evaluation sets: multiple choice by likelihood, and cloze by greedy prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from artifacts.sources import Source
from tasks.text.hashing import unit_interval
from tasks.text.records import BadRecord, read_records


@dataclass(frozen=True)
class Item:
    """One question: a context and a continuation for each option, and the right option; None: a cloze item, whose one
    continuation must be predicted greedily."""

    options: list[tuple[str, str]]
    gold: int | None


@dataclass
class EvaluationSet:
    """The items of one file that are used, how many it has, and how many of its records fit no known form."""

    name: str
    items: list[Item] = field(default_factory=list)
    available: int = 0
    bad: int = 0
    first_problem: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> EvaluationSet:
        items = [Item([(a, b) for a, b in item["options"]], item["gold"]) for item in value["items"]]
        return cls(**{**value, "items": items})

    @property
    def chance(self) -> float | None:
        """Expected accuracy of guessing; None for a cloze set."""
        sizes = [len(item.options) for item in self.items if item.gold is not None]
        return sum(1 / size for size in sizes) / len(sizes) if sizes else None


def read_items(source: Source, limit: int, seed: int) -> EvaluationSet:
    """At most `limit` items of a file, chosen by a hash of their line."""
    found = EvaluationSet(Path(source.name.removesuffix(".gz")).stem)
    kept: list[tuple[float, Item]] = []
    for record in read_records(source.path, source.name):
        try:
            if isinstance(record, BadRecord):
                raise ValueError(record.problem)
            item = parse(record.value)
        except ValueError as error:
            found.bad += 1
            found.first_problem = found.first_problem or f"; {record.file}:{record.line}: {error}"
            continue
        kept.append((unit_interval(f"{source.sha256}:{record.line}", seed, "evaluation-item"), item))
    found.available = len(kept)
    found.items = [item for _, item in sorted(kept, key=lambda pair: pair[0])[:limit]]
    return found


def parse(value: Mapping[str, Any]) -> Item:
    """An item from `{query, choices, gold}`, `{context_options, continuation, gold}` or `{context, continuation}`.

    A query that begins with `Question:` gets `Answer:` on the next line before the choice, as its authors print it.

    Raises:
        ValueError: what is missing.
    """
    gold = value.get("gold")
    if isinstance(value.get("query"), str) and isinstance(value.get("choices"), Sequence):
        query = value["query"].rstrip()
        if query.startswith("Question:"):
            query += "\nAnswer:"
        options = [(query, f" {str(choice).strip()}") for choice in value["choices"]]
    elif isinstance(value.get("context_options"), Sequence) and isinstance(value.get("continuation"), str):
        options = [(str(text).rstrip(), f" {value['continuation'].strip()}") for text in value["context_options"]]
    elif isinstance(value.get("context"), str) and isinstance(value.get("continuation"), str):
        return Item([(value["context"].rstrip(), f" {value['continuation'].strip()}")], None)
    else:
        raise ValueError("neither query and choices, nor context and continuation")
    if not isinstance(gold, int) or not 0 <= gold < len(options) or len(options) < 2:
        raise ValueError(f"gold is {gold!r} for {len(options)} choices")
    return Item(options, gold)
