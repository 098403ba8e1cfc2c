"""What every stage that trains on text does with a language model: its loss on a batch, and its loss on a corpus."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.training.batches import TokenRows, micro_batches, share
from tasks.training.engine import Engine
from tasks.training.losses import causal_loss
from tasks.training.model import head_weight, hidden_states


def language_loss(model: Any, ids: Tensor, mask: Tensor | None, token_count: int) -> Tensor:
    """Next-token loss of right-padded ids (B, T), in nats, divided by `token_count`.

    Args:
        mask: (B, T) bool, the tokens that are learnt (the first of a row never is: nothing predicts it); None: all.
        token_count: learnt tokens of the whole optimizer step, over micro-batches and ranks.
    """
    hidden = hidden_states(model, ids[:, :-1])
    wanted = None if mask is None else mask[:, 1:]
    return causal_loss(hidden, head_weight(model), ids[:, 1:], wanted, token_count=token_count)


@dataclass(frozen=True)
class CorpusLoss:
    """Sums over a corpus: nats, predicted tokens, and the UTF-8 bytes that these tokens stand for."""

    nats: float
    tokens: int
    bytes: int

    @property
    def loss(self) -> float:
        """Nats a token."""
        return self.nats / max(1, self.tokens)

    @property
    def bits_per_byte(self) -> float:
        """Bits a byte of text: comparable between tokenizers."""
        return self.nats / math.log(2.0) / max(1, self.bytes)


def corpus_loss(engine: Engine, rows: TokenRows, count: int, byte_lengths: Sequence[int], size: int) -> CorpusLoss:
    """The loss on the first `count` rows, `size` rows at a time, spread over the ranks; the same on every rank."""
    lengths = torch.as_tensor(byte_lengths, dtype=torch.int64)
    return _sum_over(engine, rows.batch, min(count, len(rows)), size, lengths)


def examples_loss(
    engine: Engine, batch_of: Callable[[list[int]], tuple[Tensor, Tensor]], count: int, size: int
) -> CorpusLoss:
    """The loss on the masked tokens of `count` examples; `batch_of` gives (ids, mask) for their numbers."""
    return _sum_over(engine, batch_of, count, size, None)


def _sum_over(
    engine: Engine,
    batch_of: Callable[[list[int]], tuple[Tensor, Tensor | None]],
    count: int,
    size: int,
    lengths: Tensor | None,
) -> CorpusLoss:
    # Every rank makes the same number of forward passes, or ZeRO-3 would wait for ever: rank shares are filled up
    # with example 0, which then counts nothing.
    places = -(-count // engine.world_size) * engine.world_size
    sums = torch.zeros(3, dtype=torch.float64)
    was_training = engine.module.training
    engine.module.eval()
    with torch.no_grad():
        for part in micro_batches(share(range(places), engine.rank, engine.world_size), size):
            ids, mask = batch_of([number if number < count else 0 for number in part])
            real = torch.tensor([number < count for number in part])[:, None]
            counted = real.expand_as(ids).clone() if mask is None else mask & real
            counted[:, 0] = False
            nats = engine(language_loss, ids.to(engine.device), counted.to(engine.device), 1)
            sums[0] += float(nats)
            sums[1] += int(counted.sum())
            sums[2] += 0 if lengths is None else int(lengths[ids[counted]].sum())
    engine.module.train(was_training)
    total = engine.gather_sum(sums.to(engine.device)).tolist()
    return CorpusLoss(total[0], int(total[1]), int(total[2]))


def byte_lengths(tokenizer: Any) -> list[int]:
    """UTF-8 bytes that each token id stands for; 0 for special tokens, which stand for no text.

    A byte-level BPE writes each byte as one character, so a token's bytes are the characters of its name.
    """
    special = set(tokenizer.all_special_ids)
    decoder = json.loads(tokenizer.backend_tokenizer.to_str()).get("decoder") or {}
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    if "ByteLevel" in json.dumps(decoder):
        return [0 if number in special else len(name) for number, name in enumerate(names)]
    return [
        0 if number in special else 1 if name.startswith("<0x") else len(name.replace("\u2581", " ").encode())
        for number, name in enumerate(names)
    ]


def save_byte_lengths(tokenizer: Any, path: Path) -> None:
    """Write `byte_lengths` where workers read it with `numpy.load`."""
    np.save(path, np.asarray(byte_lengths(tokenizer), dtype=np.int32))
