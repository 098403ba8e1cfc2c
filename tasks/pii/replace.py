"""What pii's workers do: find personal data in a shard's texts and put placeholders in its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from artifacts.reader import Shard
from tasks.pii.addresses import find_email, find_ipv4, find_ipv6
from tasks.pii.phones import REGIONS, find_phones
from tasks.pii.scan import AT, COLONS, NUMBER, Candidates, scan

KINDS = ("email", "ipv4", "ipv6", "phone")
BEFORE, AFTER = 48, 8  # bytes of the surroundings that a candidate is judged by


@dataclass(frozen=True)
class Rules:
    """What is looked for and what is put in its place, by the names of `KINDS`; those that are missing stay."""

    placeholders: dict[str, str]
    private_ip: bool = False
    phone_regions: tuple[str, ...] = ()


@dataclass(frozen=True)
class PiiTask:
    shard: Shard
    rules: Rules


def replace_shard(task: PiiTask) -> pa.Table:
    """The texts that changed: `row` (within the table), `text`, and how many of each kind of `KINDS` were replaced."""
    table = task.shard.read(["text", "lang"])
    found = replace(table.column("text").combine_chunks(), table.column("lang").to_pylist(), task.rules)
    return found.set_column(0, "row", pc.add(found.column("row"), task.shard.first_row))


def replace(texts: pa.Array, langs: list[str | None], rules: Rules) -> pa.Table:
    """As `replace_shard`, for an array of texts; `row` counts from its first."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    candidates = scan(pc.fill_null(texts, ""))
    rows: list[int] = []
    changed: list[bytes] = []
    counts: list[list[int]] = []
    for row, first, last in _rows(candidates):
        hits = find(candidates, first, last, langs[row] or "", rules)
        if hits:
            rows.append(row)
            begin, end = candidates.offsets[row : row + 2].tolist()
            changed.append(_fill(candidates.data, begin, end, hits, rules))
            counts.append([sum(kind == name for _, _, kind in hits) for name in KINDS])
    columns = {"row": pa.array(rows, pa.int64()), "text": pa.array(changed, pa.binary()).cast(pa.string())}
    numbers = np.array(counts, dtype=np.int32).reshape(-1, len(KINDS))
    return pa.table(columns | {name: pa.array(numbers[:, place]) for place, name in enumerate(KINDS)})


def _rows(candidates: Candidates) -> Iterator[tuple[int, int, int]]:
    """(row, its first candidate, the one after its last) for every row that has some."""
    rows, first = np.unique(candidates.row, return_index=True)
    ends = [*first.tolist(), len(candidates.row)][1:]
    yield from zip(rows.tolist(), first.tolist(), ends, strict=True)


Hit = tuple[int, int, str]  # first byte, byte after the last, kind


def find(candidates: Candidates, first: int, last: int, lang: str, rules: Rules) -> list[Hit]:
    """What the candidates `first` to `last` of one row turn out to be, in order and without overlaps.

    Where two overlap, an e-mail address goes before an IP address, that before a telephone number.
    """
    regions = rules.phone_regions or REGIONS.get(lang[:2].lower(), ())
    low, high = candidates.offsets[candidates.row[first] : candidates.row[first] + 2].tolist()
    found: list[Hit] = []
    for place in range(first, last):
        kind, start, end = int(candidates.kind[place]), int(candidates.start[place]), int(candidates.end[place])
        begin = _boundary(candidates.data, max(low, start - BEFORE), start)
        window = candidates.data[begin : min(high, end + AFTER)].tobytes()
        text = window.decode("utf8", "ignore")
        inside = len(window[: start - begin].decode("utf8", "ignore"))
        until = len(window[: end - begin].decode("utf8", "ignore"))
        for a, b, name in _judge(kind, text, inside, until, regions, rules):
            if text[a:b] != rules.placeholders[name]:
                at = begin + len(text[:a].encode())
                found.append((at, at + len(text[a:b].encode()), name))
    order = {name: number for number, name in enumerate(KINDS)}
    chosen: list[Hit] = []
    for hit in sorted(found, key=lambda hit: (order[hit[2]], hit)):
        if all(hit[1] <= other[0] or other[1] <= hit[0] for other in chosen):
            chosen.append(hit)
    return sorted(chosen)


def _judge(
    kind: int, text: str, start: int, end: int, regions: tuple[str, ...], rules: Rules
) -> Iterator[tuple[int, int, str]]:
    wanted = rules.placeholders
    if kind == AT and "email" in wanted:
        found = find_email(text, text.index("@", start))
        if found:
            yield *found, "email"
    if kind == NUMBER and "ipv4" in wanted:
        for a, b in find_ipv4(text, start, end, rules.private_ip):
            yield a, b, "ipv4"
    if kind == NUMBER and "phone" in wanted:
        for a, b in find_phones(text, start, end, regions):
            yield a, b, "phone"
    if kind == COLONS and "ipv6" in wanted:
        for a, b in find_ipv6(text, start, end, rules.private_ip):
            yield a, b, "ipv6"


def _boundary(data: np.ndarray, place: int, end: int) -> int:
    """The first place from `place` on at which a character begins."""
    while place < end and data[place] & 0xC0 == 0x80:
        place += 1
    return place


def _fill(data: np.ndarray, begin: int, end: int, hits: list[Hit], rules: Rules) -> bytes:
    pieces, place = [], begin
    for first, last, kind in hits:
        pieces += [data[place:first].tobytes(), rules.placeholders[kind].encode()]
        place = last
    return b"".join([*pieces, data[place:end].tobytes()])
