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


@dataclass(frozen=True)
class Grams:
    """What a worker searches for: distinct hashes, ascending, of n-grams of the given sizes."""

    hashes: Hashes
    sizes: Ints
    filter: NDArray[np.bool_]  # by the upper 24 bits: nearly every n-gram of a clean document ends here

    def find(self, units: Hashes) -> tuple[Ints, Ints, Ints]:
        """Hits among a document's unit hashes: (number of the n-gram, first unit, unit after the last)."""
        numbers, starts, ends = [], [], []
        for size in self.sizes[self.sizes <= len(units)]:
            own = ngram_hashes(units, int(size))
            at = np.flatnonzero(self.filter[own >> np.uint64(40)])
            place = np.searchsorted(self.hashes, own[at])
            found = self.hashes[np.minimum(place, len(self.hashes) - 1)] == own[at]
            numbers.append(place[found])
            starts.append(at[found])
            ends.append(at[found] + size)
        if not numbers:
            return (np.empty(0, dtype=np.int64),) * 3
        return np.concatenate(numbers), np.concatenate(starts), np.concatenate(ends)


@dataclass(frozen=True)
class Index:
    """The evaluation sets.

    Attributes:
        names: of the sets, in the order of the config.
        item_set: the set of each item.
        gram, item: which n-gram (a number into `grams`, ascending) occurs in which item, distinct.
        bad_records: for each set, the records that could not be read.
    """

    names: list[str]
    grams: Hashes
    sizes: Ints
    item_set: Ints
    gram: Ints
    item: Ints
    bad_records: Ints

    def save(self, folder: Path) -> Path:
        """Write what workers need, under a name that says what is in it."""
        digest = blake2b(self.grams.tobytes() + self.sizes.tobytes(), digest_size=16).hexdigest()
        path = folder / f"grams-{digest}.npz"
        with path.open("wb") as stream:
            np.savez(stream, hashes=self.grams, sizes=self.sizes)
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
    table = np.zeros(1 << 24, dtype=np.bool_)
    table[hashes >> np.uint64(40)] = True
    return Grams(hashes, sizes, table)


def build_index(sources: Sequence[Source], config: DecontaminateConfig) -> Index:
    """Read the evaluation sets.

    Raises:
        UserError: one of them holds no item.
    """
    names = list(dict.fromkeys(set_name(source) for source in sources))
    bad = np.zeros(len(names), dtype=np.int64)
    item_set: list[int] = []
    grams, items, sizes = [], [], set()
    for source in sources:
        number, before = names.index(set_name(source)), len(item_set)
        for item in read_items(source):
            if isinstance(item, BadRecord):
                bad[number] += 1
                continue
            for size, hashes in item_grams(item, config):
                grams.append(hashes)
                items.append(np.full(len(hashes), len(item_set), dtype=np.int64))
                sizes.add(size)
            item_set.append(number)
        if len(item_set) == before:
            raise UserError(f"decontaminate.against: {set_name(source)} ({source.path}) holds no evaluation item")
    flat = np.concatenate(grams) if grams else np.empty(0, dtype=np.uint64)
    distinct, gram = np.unique(flat, return_inverse=True)
    owners = np.concatenate(items) if items else np.empty(0, dtype=np.int64)
    pairs = np.stack(np.divmod(np.unique(gram.astype(np.int64) * len(item_set) + owners), max(len(item_set), 1)))
    return Index(
        names, distinct, np.array(sorted(sizes), dtype=np.int64), np.array(item_set, dtype=np.int64),
        pairs[0], pairs[1], bad,
    )  # fmt: skip


def item_grams(item: Item, config: DecontaminateConfig) -> list[tuple[int, Hashes]]:
    """The hashed n-grams of an item by their size: n, or that of a whole text of at least `min_words` units."""
    found: list[tuple[int, Hashes]] = []
    whole = range(config.min_words, config.n)
    for texts, short in ((item.prompts, True), (item.others, False), (item.wholes, None)):
        # A short whole (question and answer together) is used only if nothing of the item was long enough.
        allow = not found if short is None else short
        for text in texts:
            units = unit_hashes(spaced(normalise(text)))
            if len(units) >= config.n:
                found.append((config.n, ngram_hashes(units, config.n)))
            elif allow and len(units) in whole:
                found.append((len(units), ngram_hashes(units, len(units))))
    return found
