"""Prompts to answer, taken from conversations: each once, short enough, in an order that the seed alone decides."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifacts.errors import UserError
from artifacts.reader import InputTable
from tasks.text.hashing import unit_interval
from tasks.text.records import prompt_of
from tasks.training.chat_format import encode_prompt
from tasks.training.shapes import Split


@dataclass(frozen=True)
class Prompt:
    """A conversation up to where the answer begins; `ids` are its tokens in the chat format."""

    prompt_id: str
    messages: list[dict[str, str]]
    source: str
    split: str
    ids: list[int]


@dataclass
class Prompts:
    """The prompts of a table, and why its other rows gave none (`other_split`, `duplicate_prompt`, …)."""

    rows: int = 0
    kept: list[Prompt] = field(default_factory=list)
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def choose(self, number: int | None, seed: int, salt: str) -> list[Prompt]:
        """The prompts in the order of a hash of their ids, at most `number`; the rest is counted as `not_chosen`."""
        ordered = sorted(self.kept, key=lambda prompt: (unit_interval(prompt.prompt_id, seed, salt), prompt.prompt_id))
        if number is not None and len(ordered) > number:
            self.reasons["not_chosen"] += len(ordered) - number
            ordered = ordered[:number]
        self.kept = ordered
        return ordered

    def why(self) -> str:
        """The reasons with their counts, for a message."""
        return ", ".join(f"{reason} {count}" for reason, count in sorted(self.reasons.items())) or "the table is empty"

    def account(self) -> dict[str, Any]:
        """What a stage's `Summary` says of these rows."""
        return {
            "rows_in": self.rows,
            "kept": len(self.kept),
            "dropped": self.rows - len(self.kept) - self.failed,
            "failed": self.failed,
            "reasons": dict(sorted(self.reasons.items())),
        }


def read_prompts(conversations: InputTable, tokenizer: Any, split: Split, max_tokens: int) -> Prompts:
    """The prompts of a conversations table: of this split, each prompt_id once, at most `max_tokens` long.

    Answers behind the last turn of the user's are left off: the model is to give its own.
    """
    found = Prompts()
    seen: set[str] = set()
    for batch in conversations.batches(["prompt_id", "messages", "source", "split"]):
        for row in batch.to_pylist():
            found.rows += 1
            if split != "all" and row["split"] != split:
                found.reasons["other_split"] += 1
            elif row["prompt_id"] in seen:
                found.reasons["duplicate_prompt"] += 1
            else:
                seen.add(row["prompt_id"])
                _add(found, row, tokenizer, max_tokens)
    return found


def _add(found: Prompts, row: dict[str, Any], tokenizer: Any, max_tokens: int) -> None:
    messages = prompt_of(row["messages"])
    try:
        ids = encode_prompt(tokenizer, messages)
    except ValueError:
        found.failed += 1
        found.reasons["not_a_conversation"] += 1
        return
    if len(ids) > max_tokens:
        found.reasons["prompt_too_long"] += 1
        return
    found.kept.append(Prompt(row["prompt_id"], messages, row["source"], row["split"], ids))


def prompt_limit(stage: str, context: int, new_tokens: int, wanted: int | None) -> int:
    """The longest prompt that leaves room for the answer, or `wanted` if that is shorter.

    Raises:
        UserError: there is no room for a prompt, or `wanted` leaves too little for the answer.
    """
    room = context - new_tokens
    if room < 1:
        raise UserError(
            f"{stage}.max_new_tokens leaves no room for a prompt in the model's context of {context} tokens: lower it"
        )
    if wanted is not None and wanted > room:
        raise UserError(
            f"{stage}.max_prompt_tokens is {wanted}, but the model's context of {context} tokens leaves {room} beside "
            f"{stage}.max_new_tokens: lower one of them"
        )
    return room if wanted is None else wanted


def tokenizer_bytes(model_folder: Path) -> bytes:
    """The tokenizer of a model's folder, to compare: models that read one another's token ids must share it."""
    path = model_folder / "tokenizer.json"
    return path.read_bytes() if path.exists() else b""


def context_of(model_folder: Any) -> int:
    """The longest input in tokens of a model's folder."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model_folder, local_files_only=True, trust_remote_code=False)
    return int(getattr(config, "max_position_embeddings", None) or 2**20)
