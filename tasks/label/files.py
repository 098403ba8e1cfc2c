"""Preference files: an entry a record, and the rankings that the entries give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from artifacts.sources import Source
from tasks.label.formats import Judged, read_preference
from tasks.label.merge import merge
from tasks.text.hashing import split_of
from tasks.text.records import BadRecord, opening_id, prompt_id, read_records


@dataclass
class Entry:
    """One record or sampled prompt on its way: the row of its ranking if it is kept, and its decision."""

    key: str
    judged: Judged | None
    reason: str = ""
    detail: str = ""
    failed: bool = False


def read_entries(source: Source, needs_ranks: bool = False) -> list[Entry]:
    """One entry a record of the file, in its order.

    Args:
        needs_ranks: a list of responses without ranks is `not_ranked`, and not a list with the best first.
    """
    entries = []
    for record in read_records(source.path, source.name):
        place = f"{record.file}:{record.line}"
        key = blake2b(f"{source.sha256}:{record.line}".encode(), digest_size=16).hexdigest()
        if isinstance(record, BadRecord):
            entries.append(Entry(key, None, "bad_record", f"{place}: {record.problem}", failed=True))
            continue
        if needs_ranks and record.value.get("responses") is not None and record.value.get("ranks") is None:
            entries.append(Entry(key, None, "not_ranked", place))
            continue
        try:
            judged = _distinct(read_preference(record.value))
        except ValueError as error:
            entries.append(Entry(key, None, "bad_record", f"{place}: {error}", failed=True))
            continue
        if len(judged.responses) < 2:
            entries.append(Entry(key, None, "no_preference", f"{place}: all answers are the same text"))
        else:
            entries.append(Entry(key, judged, detail=place))
    return entries


def _distinct(judged: Judged) -> Judged:
    """Without answers that repeat another one's text: the better place counts."""
    order = sorted(range(len(judged.responses)), key=lambda index: judged.ranks[index])
    best: dict[str, int] = {}
    for index in order:
        best.setdefault(judged.responses[index], index)
    kept = sorted(best.values())
    return replace(
        judged,
        responses=[judged.responses[index] for index in kept],
        ranks=[judged.ranks[index] for index in kept],
        policy=[judged.policy[index] for index in kept] if judged.policy else [],
    )


def rankings_of(source: Source, entries: list[Entry], heldout_fraction: float, seed: int) -> list[dict[str, Any]]:
    """The rows of a file; judgements of pairs by one person on one prompt become one ranking where they allow it."""
    groups: dict[tuple[str, ...], list[Judged]] = {}
    for number, entry in enumerate(entries):
        if entry.judged is None:
            continue
        judged = entry.judged
        identity = prompt_id(judged.messages)
        if judged.pairwise and judged.annotator is not None:
            groups.setdefault((identity, judged.annotator), []).append(judged)
        else:
            groups[(identity, "", str(number))] = [judged]
    rows = []
    for (identity, *_), members in groups.items():
        split = split_of(opening_id(members[0].messages), seed, heldout_fraction)
        for judged in _merged(members):
            rows.append(
                {
                    "prompt_id": identity,
                    "messages": judged.messages,
                    "responses": judged.responses,
                    "ranks": judged.ranks,
                    "annotator": judged.annotator or str(source.option("annotator", "unknown")),
                    "axis": str(source.option("axis", "helpful")),
                    "policy": judged.policy,
                    "source": source.source,
                    "split": split,
                }
            )
    return rows


def _merged(members: list[Judged]) -> list[Judged]:
    if len(members) == 1:
        return members
    ranking = merge([(m.responses[0], m.responses[1], m.ranks[0] - m.ranks[1]) for m in members])
    if ranking is None:
        return members
    policies = {
        answer: name for member in members for answer, name in zip(member.responses, member.policy, strict=False)
    }
    named = len(policies) == len(ranking)
    return [
        replace(
            members[0],
            responses=list(ranking),
            ranks=list(ranking.values()),
            policy=[policies[answer] for answer in ranking] if named else [],
        )
    ]
