"""The n-grams of the evaluation sets, as an array to search in, and where each of them comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import UserError
from artifacts.sources import Source
from tasks.decontaminate.config import DecontaminateConfig
from tasks.decontaminate.passages import Item, read_items, set_name
from tasks.text.normalise import normalise
from tasks.text.records import BadRecord
from tasks.text.segment import spaced
from tasks.text.shingles import Hashes, ngram_hashes, unit_hashes

Ints = NDArray[np.int64]
PREFIX = 4


@dataclass(frozen=True)
class Grams:
    """What a worker searches for: distinct hashes, ascending, of n-grams of the given sizes.

    Attributes:
        prefix: units that every n-gram begins with, at most `PREFIX`; `openings` marks their hashes by the upper 24
            bits: nearly every place of a clean document ends there.
    """

    hashes: Hashes
    sizes: Ints
    prefix: int
    openings: NDArray[np.uint8]

    def find(self, units: Hashes) -> tuple[Ints, Ints, Ints]:
        """Hits among a document's unit hashes: (number of the n-gram, first unit, unit after the last)."""
        numbers, starts, ends = [], [], []
        for size in self.sizes[self.sizes <= len(units)]:
            own = ngram_hashes(units, int(size))
            place = np.searchsorted(self.hashes, own)
            at = np.flatnonzero(self.hashes[np.minimum(place, len(self.hashes) - 1)] == own)
            numbers.append(place[at])
            starts.append(at)
            ends.append(at + size)
        if not numbers:
            return (np.empty(0, dtype=np.int64),) * 3
        return np.concatenate(numbers), np.concatenate(starts), np.concatenate(ends)


@dataclass(frozen=True)
class Index:
    """The evaluation sets.

    Attributes:
        names: of the sets, in the order of the config.
        item_set: the set of each item.
        item_record: its place in the set, counted from 0 over all records, bad ones too.
        gram, item: which n-gram (a number into `grams`, ascending) occurs in which item, distinct.
        bad_records: for each set, the records that could not be read.
        prefix, prefixes: the hashes of the n-grams' first units, and how many units these are (`Grams`).
    """

    names: list[str]
    grams: Hashes
    sizes: Ints
    item_set: Ints
    item_record: Ints
    gram: Ints
    item: Ints
    bad_records: Ints
    prefix: int
    prefixes: Hashes

    def save(self, folder: Path) -> Path:
        """Write what workers need, under a name that says what is in it."""
        digest = blake2b(self.grams.tobytes() + self.sizes.tobytes(), digest_size=16).hexdigest()
        path = folder / f"grams-{digest}.npz"
        with path.open("wb") as stream:
            np.savez(stream, hashes=self.grams, sizes=self.sizes, prefixes=self.prefixes, prefix=self.prefix)
        return path

    def sets_of(self, grams: Ints) -> list[tuple[str, int]]:
        """For n-grams of one document: each set that has some of them, and how many."""
        ranges = zip(np.searchsorted(self.gram, grams), np.searchsorted(self.gram, grams, "right"), strict=True)
        chosen = np.concatenate([np.arange(first, last) for first, last in ranges])
        pairs = np.unique(np.stack([self.item_set[self.item[chosen]], self.gram[chosen]]), axis=1)
        return [(name, int(count)) for number, name in enumerate(self.names) if (count := (pairs[0] == number).sum())]


@lru_cache(maxsize=2)
def load_grams(path: str) -> Grams:
    """The n-grams that `Index.save` wrote; kept by the process that asks."""
    with np.load(path, allow_pickle=False) as arrays:
        hashes, sizes = arrays["hashes"], arrays["sizes"]
        prefix, prefixes = int(arrays["prefix"]), arrays["prefixes"]
    openings = np.zeros(1 << 21, dtype=np.uint8)  # a bit each
    np.bitwise_or.at(
        openings,
        prefixes >> np.uint64(43),
        np.uint8(1) << ((prefixes >> np.uint64(40)) & np.uint64(7)).astype(np.uint8),
    )
    return Grams(hashes, sizes, prefix, openings)


def build_index(sources: Sequence[Source], config: DecontaminateConfig) -> Index:
    """Read the evaluation sets.

    Raises:
        UserError: one of them holds no item.
    """
    names = list(dict.fromkeys(set_name(source) for source in sources))
    read, bad = np.zeros(len(names), dtype=np.int64), np.zeros(len(names), dtype=np.int64)
    prefix = min(PREFIX, config.n, config.min_words)
    found: list[tuple[int, int]] = []  # the set of an item, and its record
    grams: list[Hashes] = [np.empty(0, dtype=np.uint64)]
    prefixes: list[Hashes] = [np.empty(0, dtype=np.uint64)]
    items: list[Ints] = [np.empty(0, dtype=np.int64)]
    sizes: set[int] = set()
    for source in sources:
        number, before = names.index(set_name(source)), len(found)
        for item in read_items(source):
            read[number] += 1
            if isinstance(item, BadRecord):
                bad[number] += 1
                continue
            for size, units in item_texts(item, config):
                hashes = ngram_hashes(units, size)
                grams.append(hashes)
                prefixes.append(ngram_hashes(units, prefix)[: len(hashes)])
                items.append(np.full(len(hashes), len(found), dtype=np.int64))
                sizes.add(size)
            found.append((number, int(read[number]) - 1))
        if len(found) == before:
            raise UserError(f"decontaminate.against: {set_name(source)} ({source.path}) holds no evaluation item")
    distinct, gram = np.unique(np.concatenate(grams), return_inverse=True)
    pairs = np.unique(gram.astype(np.int64) * len(found) + np.concatenate(items))
    item_set, record = np.array(found, dtype=np.int64).reshape(-1, 2).T
    return Index(
        names, distinct, np.array(sorted(sizes), dtype=np.int64), item_set, record, *divmod(pairs, max(len(found), 1)),
        bad, prefix, np.unique(np.concatenate(prefixes)),
    )  # fmt: skip


def item_texts(item: Item, config: DecontaminateConfig) -> list[tuple[int, Hashes]]:
    """The texts of an item, as unit hashes, with the size of the n-grams to take: n, or all of a short text's units."""
    found: list[tuple[int, Hashes]] = []
    whole = range(config.min_words, config.n)
    for texts, short in ((item.prompts, True), (item.others, False), (item.wholes, None)):
        # A short whole (question and answer together) is used only if nothing of the item was long enough.
        allow = not found if short is None else short
        for text in texts:
            units = unit_hashes(spaced(normalise(text)))
            if len(units) >= config.n:
                found.append((config.n, units))
            elif allow and len(units) in whole:
                found.append((len(units), units))
    return found
