"""What decontaminate's workers do: find the documents that share n-grams, and cut the shared places out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from artifacts.reader import Shard
from tasks.decontaminate.index import Ints, load_grams
from tasks.decontaminate.search import search
from tasks.text.segment import unit_spans
from tasks.text.shingles import unit_hashes

BETWEEN_PIECES = "\n\n"


@dataclass(frozen=True)
class SearchTask:
    shard: Shard
    grams: str  # path of `Index.save`


def search_shard(task: SearchTask) -> tuple[Ints, Ints]:
    """(row within the table, number of the n-gram): each n-gram once a document, rows ascending."""
    rows, numbers = search(task.shard.read(["text"]).column("text"), load_grams(task.grams))
    return rows + task.shard.first_row, numbers


@dataclass(frozen=True)
class CutTask:
    shard: Shard
    rows: Ints  # within the table
    grams: str
    ignored: NDArray[np.int64]  # commonplace n-grams, ascending
    window: int
    min_piece: int


@dataclass(frozen=True)
class Cut:
    """A document after cutting: the text that is left (may be empty), and into how many pieces it fell."""

    row: int
    text: str
    pieces: int


def cut_shard(task: CutTask) -> list[Cut]:
    """Cut the given documents of a shard."""
    grams = load_grams(task.grams)
    texts = task.shard.read(["text"]).column("text").take(task.rows - task.shard.first_row).to_pylist()
    cuts = []
    for row, text in zip(task.rows.tolist(), texts, strict=True):
        units, starts, ends = unit_spans(text)
        numbers, first, last = grams.find(unit_hashes(" ".join(units)))
        live = ~np.isin(numbers, task.ignored)
        hits = [(starts[a], ends[b - 1]) for a, b in zip(first[live], last[live], strict=True)]
        pieces = cut_out(text, hits, task.window)
        kept = [piece.strip() for piece in pieces]
        kept = [piece for piece in kept if piece and len(piece) >= task.min_piece]
        cuts.append(Cut(row, BETWEEN_PIECES.join(kept), len(pieces)))
    return cuts


def cut_out(text: str, hits: Sequence[tuple[int, int]], window: int) -> list[str]:
    """What is left of a text without its hits and `window` characters on either side of each, in order.

    Args:
        hits: (first character, character after the last), in any order; they may overlap.
    """
    pieces = []
    position = 0
    for start, end in sorted(hits):
        if start - window > position:
            pieces.append(text[position : start - window])
        position = max(position, end + window)
    if position < len(text):
        pieces.append(text[position:])
    return pieces
