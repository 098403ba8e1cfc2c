"""The stage `demonstrations`: instruction files and a crawl's docstrings, as the conversations that SFT learns from.

Every record ends as a conversation or as a decision with a reason. A conversation's split is a function of its opening
alone, so that neither a prompt nor another branch of its dialogue stands on both sides, in whatever files it is met.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa

from artifacts.digest import canonical_json
from artifacts.errors import UserError
from artifacts.sources import Source, crawl_sources, resolve_sources
from artifacts.tables import CONVERSATIONS, CRAWL, DECISIONS
from tasks.demonstrations.config import DemonstrationsConfig
from tasks.demonstrations.formats import Demonstration, read_demonstrations
from tasks.stage import Stage, StageContext, Summary
from tasks.text.hashing import split_of, unit_interval
from tasks.text.records import BadRecord, Record, opening_id, prompt_id, read_records

DOCSTRINGS = "docstrings"
# The checkable answer of a record that has one (GSM8K's `#### 18`), null elsewhere.
COLUMNS = CONVERSATIONS.schema.append(pa.field("answer", pa.string()))


@dataclass
class _Entry:
    """One conversation, or one bad record, on its way: what is decided of it so far."""

    key: str
    place: str
    source: str
    demonstration: Demonstration | None = None
    reason: str = ""
    detail: str = ""
    score: float | None = None
    threshold: float | None = None
    draw: float | None = None

    @property
    def length(self) -> int:
        assert self.demonstration is not None
        return sum(len(turn["content"]) for turn in self.demonstration.messages)


def sources(config: DemonstrationsConfig) -> list[Source]:
    """The instruction files, and before them the manifests that ask for the docstrings of the crawl."""
    return crawl_sources(config.data) + resolve_sources(config.data, "demonstrations")


def run(context: StageContext) -> Summary:
    """Write conversations and decisions, in the order of files and records.

    Raises:
        UserError: there is nothing to read, or a file in which not one record is a demonstration.
    """
    config: DemonstrationsConfig = context.config
    entries: list[_Entry] = []
    files = list(_files(context))
    for number, (source, path) in enumerate(files):
        context.progress(number, len(files), "instruction files")
        found = list(_read(source, path))
        if all(entry.demonstration is None for entry in found):
            first = f"; the first: {found[0].detail}" if found else ""
            raise UserError(f"demonstrations: {source.name} holds no demonstration ({len(found)} records{first})")
        entries += found
    _decide(entries, config, context.seed)
    kept = [entry for entry in entries if not entry.reason]
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(Counter(e.reason for e in entries).items()))
        raise UserError(f"demonstrations: nothing is left of {len(entries)} records ({reasons})")
    rows = [_row(entry, config.heldout_fraction, context.seed) for entry in kept]
    context.writer("data").write(pa.Table.from_pylist(rows, schema=COLUMNS))
    context.writer("decisions").write(pa.Table.from_pylist(list(map(_decision, entries)), schema=DECISIONS.schema))
    return Summary(metrics=_metrics(rows))


def _files(context: StageContext) -> Iterator[tuple[Source, Path]]:
    artifacts = context.inputs.get("crawl", ())
    for source in context.sources:
        part = source.option("part")
        if part is None:
            yield source, source.path
        elif part != DOCSTRINGS:
            raise UserError(f"demonstrations: {source.name} names the crawl's {part}; only docstrings are instructions")
        elif not artifacts:
            raise UserError(f"demonstrations: {source.name} is made by the stage crawl; give the input 'crawl'")
        for artifact in artifacts if part is not None else ():
            path = artifact.local() / "instructions" / f"{part}.jsonl"
            if not path.is_file():
                raise UserError(f"demonstrations: {artifact.ref} holds no docstrings (crawl.parts leaves them out)")
            yield source, path
    if not context.sources:
        raise UserError("demonstrations: nothing to read: name instruction files in demonstrations.data (or sft.data)")


def _read(source: Source, path: Path) -> Iterator[_Entry]:
    name = path.name if source.option("part") else source.name
    for record in read_records(path, name):
        place = f"{record.file}:{record.line}"
        if isinstance(record, BadRecord):
            yield _bad(source, place, record.problem)
            continue
        try:
            found = read_demonstrations(record.value)
        except ValueError as error:
            yield _bad(source, place, str(error))
            continue
        yield from _entries(source, record, found)


def _bad(source: Source, place: str, problem: str) -> _Entry:
    key = blake2b(f"{source.sha256}:{place}".encode(), digest_size=16).hexdigest()
    return _Entry(key, place, source.source, None, "bad_record", f"{place}: {problem}")


def _entries(source: Source, record: Record, found: list[Demonstration]) -> Iterator[_Entry]:
    for demonstration in found:
        place = f"{record.file}:{record.line}"
        detail = f"{place}: {demonstration.note}" if demonstration.note else place
        yield _Entry(prompt_id(demonstration.messages), place, source.source, demonstration, detail=detail)


def _decide(entries: list[_Entry], config: DemonstrationsConfig, seed: int) -> None:
    """Say of each conversation why it is dropped, if it is. Of equal conversations the first stays."""
    first: dict[bytes, str] = {}
    left: dict[str, list[_Entry]] = {}
    for entry in entries:
        if entry.demonstration is None:
            continue
        messages = entry.demonstration.messages
        same = blake2b(canonical_json(messages).encode(), digest_size=16).digest()
        if not all(turn["content"] for turn in messages if turn["role"] == "assistant"):
            entry.reason = "empty_answer"
        elif entry.length > config.max_characters:
            entry.reason, entry.score, entry.threshold = "too_long", float(entry.length), float(config.max_characters)
        elif same in first:
            entry.reason, entry.detail = "duplicate", f"{entry.place}: the same as {first[same]}"
        else:
            first[same] = entry.place
            left.setdefault(entry.source, []).append(entry)
    if config.max_records is not None:
        for of_source in left.values():
            _limit(of_source, config.max_records, seed)


def _limit(entries: list[_Entry], most: int, seed: int) -> None:
    """Keep the `most` entries with the lowest draws; draws come from prompts, so a source keeps them when it grows."""
    for entry in entries:
        entry.draw = unit_interval(entry.key, seed, "max_records")
    ordered = sorted(entries, key=lambda entry: (entry.draw, entry.key))
    for entry in ordered[most:]:
        entry.reason, entry.threshold = "over_limit", ordered[most].draw


def _row(entry: _Entry, heldout_fraction: float, seed: int) -> dict[str, Any]:
    assert entry.demonstration is not None
    return {
        "prompt_id": entry.key,
        "messages": entry.demonstration.messages,
        "source": entry.source,
        "split": split_of(opening_id(entry.demonstration.messages), seed, heldout_fraction),
        "answer": entry.demonstration.answer,
    }


def _decision(entry: _Entry) -> dict[str, Any]:
    return {
        "doc_id": entry.key,
        "kept": not entry.reason,
        "failed": entry.reason == "bad_record",
        "reason": entry.reason,
        "score": entry.score,
        "threshold": entry.threshold,
        "draw": entry.draw,
        "detail": entry.detail,
        "url": None,
    }


def _metrics(rows: list[dict[str, Any]]) -> dict[str, Any]:
    answers = [sum(turn["role"] == "assistant" for turn in row["messages"]) for row in rows]
    return {
        "conversations_by_source": dict(sorted(Counter(row["source"] for row in rows).items())),
        "conversations_by_split": dict(sorted(Counter(row["split"] for row in rows).items())),
        "prompts": len({row["prompt_id"] for row in rows}),
        "answers": sum(answers),
        "multi_turn": sum(count > 1 for count in answers),
        "characters": sum(len(turn["content"]) for row in rows for turn in row["messages"]),
    }


STAGE = Stage(
    "demonstrations",
    2,
    DemonstrationsConfig,
    {"crawl": CRAWL},
    {"data": CONVERSATIONS, "decisions": DECISIONS},
    run,
    optional=frozenset({"crawl"}),
    sources=sources,
)
