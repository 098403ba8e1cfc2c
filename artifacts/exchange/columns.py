"""Which columns of a table derive from which columns of another: by kinds of table (`artifacts.tables`), not by stage.

What a stage made from its input shows in the two Arrow schemas: documents that come from documents are passed on,
tokens that come from documents are their text, encoded. Columns of which nothing certain can be said (a verdict and its
score, training curves) are left out: an edge that is not there is better than one that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from artifacts.errors import RunError
from artifacts.tables import KINDS

# OpenLineage's subtypes of a direct derivation: the value itself, or something computed from it.
IDENTITY, TRANSFORMATION = "IDENTITY", "TRANSFORMATION"


@dataclass(frozen=True)
class Derivation:
    """A column of the output was made from this column of the input."""

    column: str
    origin: str
    subtype: str


Pair = tuple[str, str]  # (kind of the output, kind of the input)


def _rule(same: str = "", **made: str) -> tuple[Derivation, ...]:
    kept = [Derivation(name, name, IDENTITY) for name in same.split()]
    return (*kept, *(Derivation(name, origin, TRANSFORMATION) for name, origin in made.items()))


# Between tables of one kind every column that both have is passed on, and has no entry here.
RULES: Mapping[Pair, tuple[Derivation, ...]] = {
    ("tokens", "documents"): _rule("doc_id source", tokens="text"),
    ("sequences", "documents"): _rule("source", tokens="text", spans="doc_id"),
    ("sequences", "tokens"): _rule("source", tokens="tokens", spans="doc_id"),
    ("signatures", "documents"): _rule("doc_id", signature="text"),
    ("pairs", "documents"): (
        Derivation("doc_a", "doc_id", IDENTITY),
        Derivation("doc_b", "doc_id", IDENTITY),
        Derivation("jaccard", "text", TRANSFORMATION),
    ),
    ("decisions", "documents"): _rule("doc_id"),
    ("decisions", "conversations"): (Derivation("doc_id", "prompt_id", IDENTITY),),
    ("decisions", "samples"): (Derivation("doc_id", "prompt_id", IDENTITY),),
    ("samples", "conversations"): _rule("prompt_id source split", messages="messages", responses="messages"),
    ("rankings", "samples"): _rule(
        "prompt_id messages source split", responses="responses", ranks="responses", policy="policy"
    ),
    ("rollouts", "conversations"): _rule("prompt_id", response="messages"),
    ("comparisons", "conversations"): _rule(
        "prompt_id", messages="messages", response_a="messages", response_b="messages"
    ),
}

# Tables about the work, not of it: what follows does not read them as its data.
ABOUT = frozenset({"decisions", "metrics", "pairs", "signatures", "rollouts", "comparisons"})


def kind_of(schema: pa.Schema) -> str | None:
    """The kind of a table: of those whose columns it all has, the one with the most."""
    best, most = None, 0
    for name, kind in KINDS.items():
        try:
            kind.check(schema, name)
        except RunError:
            continue
        if len(kind.schema) > most:
            best, most = name, len(kind.schema)
    return best


def derivations(output: pa.Schema, given: pa.Schema, metrics: Mapping[str, Any]) -> list[Derivation]:
    """What the output's columns derive from in one input, in the output's order.

    Args:
        metrics: of the manifest. A stage that passes documents on, but changes some of their texts, counts them there
            (`documents_cut`, `documents_changed`): the text is then no longer the same.
    """
    pair = (kind_of(output), kind_of(given))
    if pair[0] is None or pair[1] is None:
        return []
    if pair[0] == pair[1]:
        changed = metrics.get("documents_cut") or metrics.get("documents_changed")
        found = [
            Derivation(name, name, TRANSFORMATION if name == "text" and changed else IDENTITY)
            for name in output.names
            if name in given.names and output.field(name).type == given.field(name).type
        ]
    else:
        found = [
            rule
            for rule in RULES.get((pair[0], pair[1]), ())
            if rule.column in output.names and rule.origin in given.names
        ]
    return sorted(found, key=lambda rule: output.names.index(rule.column))
