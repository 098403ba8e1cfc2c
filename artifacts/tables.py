"""The tables that stages exchange: their names and Arrow schemas.

Columns listed here keep their names and meanings (docs/architecture.md); a stage may add columns of its own behind
them. `TableKind.check` is what the contract calls on every table that enters or leaves a stage.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from artifacts.errors import RunError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class TableKind:
    """A named table: `name` is the kind, `schema` the columns every such table has, in any order."""

    name: str
    schema: pa.Schema

    def check(self, schema: pa.Schema, where: str) -> None:
        """Raise `RunError` naming the first column of this kind that `schema` lacks or types differently."""
        for field in self.schema:
            index = schema.get_field_index(field.name)
            if index < 0:
                raise RunError(f"{where}: a {self.name} table needs the column {field.name!r} ({field.type})")
            found = schema.field(index).type
            if not _compatible(found, field.type):
                raise RunError(f"{where}: column {field.name!r} is {found}, a {self.name} table has {field.type}")


def _compatible(found: pa.DataType, wanted: pa.DataType) -> bool:
    if found == wanted:
        return True
    if _is_list(found) and _is_list(wanted):
        return _compatible(found.value_type, wanted.value_type)
    # Token ids are uint16 up to a vocabulary of 65,536 and uint32 above it.
    return bool(pa.types.is_unsigned_integer(found) and pa.types.is_unsigned_integer(wanted))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind))


MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SPANS = pa.list_(
    pa.struct([("doc_id", pa.string()), ("start", pa.int32()), ("length", pa.int32()), ("offset", pa.int64())])
)

DOCUMENTS = TableKind(
    "documents",
    pa.schema(
        [
            ("doc_id", pa.string()),
            ("url", pa.string()),
            ("date", pa.string()),
            ("source", pa.string()),
            ("lang", pa.string()),
            ("lang_score", pa.float64()),
            ("text", pa.string()),
            ("warc_file", pa.string()),
            ("warc_offset", pa.int64()),
            ("content_type", pa.string()),
            ("charset", pa.string()),
        ]
    ),
)

# One row an input row. `failed` separates what could not be read from what was judged and dropped; `url` is filled by
# ingest alone, whose dropped rows appear in no other table.
DECISIONS = TableKind(
    "decisions",
    pa.schema(
        [
            ("doc_id", pa.string()),
            ("kept", pa.bool_()),
            ("failed", pa.bool_()),
            ("reason", pa.string()),
            ("score", pa.float64()),
            ("threshold", pa.float64()),
            ("draw", pa.float64()),
            ("detail", pa.string()),
            ("url", pa.string()),
        ]
    ),
)

PAIRS = TableKind(
    "pairs",
    pa.schema([("doc_a", pa.string()), ("doc_b", pa.string()), ("jaccard", pa.float64()), ("accepted", pa.bool_())]),
)
SIGNATURES = TableKind("signatures", pa.schema([("doc_id", pa.string()), ("signature", pa.list_(pa.uint32()))]))

# The WARC files of a crawl lie beside this table in `warc/`; a row says where each fetch was written.
FETCHES = TableKind(
    "fetches",
    pa.schema(
        [
            ("url", pa.string()),
            ("status", pa.int32()),
            ("bytes", pa.int64()),
            ("warc_file", pa.string()),
            ("warc_offset", pa.int64()),
        ]
    ),
)

TOKENS = TableKind(
    "tokens", pa.schema([("doc_id", pa.string()), ("source", pa.string()), ("tokens", pa.list_(pa.uint32()))])
)

# In training order: step s of batch B reads rows s*B to (s+1)*B. A span's `start` counts in the row, `offset` in the
# document's own tokens.
SEQUENCES = TableKind(
    "sequences",
    pa.schema([("tokens", pa.list_(pa.uint32())), ("spans", SPANS), ("source", pa.string()), ("epoch", pa.int32())]),
)

CONVERSATIONS = TableKind(
    "conversations",
    pa.schema([("prompt_id", pa.string()), ("messages", MESSAGES), ("source", pa.string()), ("split", pa.string())]),
)

# `messages` is the prompt (it ends with the user's turn); ranks: 1 = best, ties allowed.
RANKINGS = TableKind(
    "rankings",
    pa.schema(
        [
            ("prompt_id", pa.string()),
            ("messages", MESSAGES),
            ("responses", pa.list_(pa.string())),
            ("ranks", pa.list_(pa.int32())),
            ("annotator", pa.string()),
            ("axis", pa.string()),
            ("policy", pa.list_(pa.string())),
            ("source", pa.string()),
            ("split", pa.string()),
        ]
    ),
)

# K responses a prompt from one policy. `split` is that of the prompt.
SAMPLES = TableKind(
    "samples",
    pa.schema(
        [
            ("prompt_id", pa.string()),
            ("messages", MESSAGES),
            ("responses", pa.list_(pa.string())),
            ("ended", pa.list_(pa.bool_())),
            ("policy", pa.string()),
            ("source", pa.string()),
            ("split", pa.string()),
        ]
    ),
)

ROLLOUTS = TableKind(
    "rollouts",
    pa.schema(
        [
            ("step", pa.int32()),
            ("prompt_id", pa.string()),
            ("response", pa.string()),
            ("reward", pa.float64()),
            ("kl", pa.float64()),
            ("length", pa.int32()),
            ("ended", pa.bool_()),
            ("advantage_mean", pa.float64()),
        ]
    ),
)

METRICS = TableKind("metrics", pa.schema([("step", pa.int64()), ("name", pa.string()), ("value", pa.float64())]))

# Answers of two policies to the same unseen prompt, side by side, with the reward model's score of each.
COMPARISONS = TableKind(
    "comparisons",
    pa.schema(
        [
            ("prompt_id", pa.string()),
            ("messages", MESSAGES),
            ("policy_a", pa.string()),
            ("policy_b", pa.string()),
            ("response_a", pa.string()),
            ("response_b", pa.string()),
            ("reward_a", pa.float64()),
            ("reward_b", pa.float64()),
        ]
    ),
)

# A training stage's product is a folder `model/` that `from_pretrained` opens; it has no rows to check.
MODEL = TableKind("model", pa.schema([]))
TOKENIZER = TableKind("tokenizer", pa.schema([]))
CRAWL = FETCHES

KINDS = {
    kind.name: kind
    for kind in (
        DOCUMENTS,
        DECISIONS,
        PAIRS,
        SIGNATURES,
        FETCHES,
        TOKENS,
        SEQUENCES,
        CONVERSATIONS,
        RANKINGS,
        SAMPLES,
        ROLLOUTS,
        METRICS,
        COMPARISONS,
    )
}
