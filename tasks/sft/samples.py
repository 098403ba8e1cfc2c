"""Conversations as samples of token ids with a loss mask, and the order in which they are learnt."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from tasks.text.hashing import unit_interval
from tasks.training.batches import pad_right
from tasks.training.chat_format import encode_conversation, turns_of

WINDOW = 16  # batches among which samples are sorted by length

Sample = tuple[list[int], list[bool]]


def encode(tokenizer: Any, messages: Sequence[dict[str, str]], turns: Literal["all", "last", "split"]) -> list[Sample]:
    """The samples that one conversation gives: one, or with `split` one an answer.

    Raises:
        ValueError: it has no answer, or is not a conversation (`turns_of`).
    """
    if turns != "split":
        return [encode_conversation(tokenizer, messages, turns)]
    answered = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    if not answered:
        turns_of(messages)  # says what is wrong, if it is more than this
        raise ValueError("there is no answer")
    return [encode_conversation(tokenizer, messages[: number + 1], "last") for number in answered]


class Samples:
    """Samples on disk, in memory as three arrays."""

    def __init__(self, path: str | Path) -> None:
        with np.load(path, allow_pickle=False) as stored:
            self._ids, self._mask, self._ends = stored["ids"], stored["mask"], stored["ends"]

    @staticmethod
    def write(samples: Sequence[Sample], path: Path) -> None:
        """Write samples where `Samples(path)` reads them."""
        np.savez(
            path,
            ids=np.fromiter((token for ids, _ in samples for token in ids), dtype=np.int32),
            mask=np.fromiter((learnt for _, mask in samples for learnt in mask), dtype=np.bool_),
            ends=np.cumsum([len(ids) for ids, _ in samples], dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self._ends)

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each sample."""
        found: list[int] = np.diff(self._ends, prepend=0).tolist()
        return found

    @cached_property
    def learnt(self) -> list[int]:
        """Learnt tokens of each sample: its answers with their end tokens."""
        sums = np.concatenate([[0], np.cumsum(self._mask, dtype=np.int64)])
        starts = np.concatenate([[0], self._ends[:-1]]) if len(self) else self._ends
        found: list[int] = (sums[self._ends] - sums[starts]).tolist()
        return found

    def batch(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(ids, mask), both (B, T), right-padded; mask True on learnt tokens."""
        spans = [slice(self._ends[n] - self.lengths[n], self._ends[n]) for n in numbers]
        ids, _ = pad_right([self._ids[span] for span in spans])
        mask, _ = pad_right([self._mask[span] for span in spans])
        return ids, mask.bool()


class Order:
    """Which samples each step learns: a function of the seed, the lengths, epochs and batch size alone.

    Every epoch is a permutation; epochs follow one another and batches are cut from that stream. Within a window of
    some batches, samples are grouped by length, which saves the computing of pads, and the groups are shuffled again.
    """

    def __init__(self, lengths: Sequence[int], epochs: int, batch_size: int, seed: int) -> None:
        self._lengths = lengths
        self._batch = batch_size
        self._seed = seed
        self.steps = max(1, len(lengths) * epochs // batch_size)
        self._epochs: dict[int, list[int]] = {}
        self._window: tuple[int, list[list[int]]] = (-1, [])

    def step(self, step: int) -> list[int]:
        """The sample numbers of one step."""
        window, place = divmod(step, WINDOW)
        if self._window[0] != window:
            self._window = (window, self._batches(window))
        return self._window[1][place]

    def _batches(self, window: int) -> list[list[int]]:
        first, last = window * WINDOW, min((window + 1) * WINDOW, self.steps)
        numbers = [self._at(position) for position in range(first * self._batch, last * self._batch)]
        numbers.sort(key=lambda number: self._lengths[number])  # stable: equal lengths stay shuffled
        batches = [numbers[start : start + self._batch] for start in range(0, len(numbers), self._batch)]
        draws = [unit_interval(f"{window}:{number}", self._seed, "sft-batch") for number in range(len(batches))]
        return [batches[number] for number in sorted(range(len(batches)), key=draws.__getitem__)]

    def _at(self, position: int) -> int:
        epoch, place = divmod(position, len(self._lengths))
        if epoch not in self._epochs:
            self._epochs.pop(epoch - 2, None)
            draws = [unit_interval(f"{epoch}:{n}", self._seed, "sft-order") for n in range(len(self._lengths))]
            self._epochs[epoch] = sorted(range(len(draws)), key=draws.__getitem__)
        return self._epochs[epoch][place]
