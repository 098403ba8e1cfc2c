"""Sampling from a causal language model: batched, with a key-value cache, and without truncation.

Every token is drawn from the full softmax at the given temperature, because PPO's ratio is taken under the full softmax
(DESIGN section 5: no truncated sampling under a full-softmax ratio). A row's draws are a function of its own seed and
step alone: the token of step t is the inverse of the row's distribution function at u(seed, t), so a response does not
depend on which other prompts share its batch. What remains is float noise: matrix products of another batch shape round
differently in the last bits, which can move a draw that lies within that distance of a token's boundary (some 1e-6 of
the draws). The same calls in the same order give the same bits.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from artifacts.errors import UserError
from tasks.training.batches import pad_left

# The share of finished rows from which they are cut out of the batch: copying the cache costs about one step.
DROP_SHARE = 0.25

_GOLDEN = 0x9E3779B97F4A7C15
_MASK64 = 2**64 - 1


@dataclass(frozen=True)
class Generated:
    """One response: `ids` are its tokens, up to and with the end-of-sequence token if it `ended` by itself."""

    ids: list[int]
    ended: bool

    @property
    def text_ids(self) -> list[int]:
        """The tokens to decode: without the end-of-sequence token."""
        return self.ids[:-1] if self.ended else self.ids


def row_seed(seed: int, *parts: object) -> int:
    """A 64-bit seed for one row, from BLAKE2b of the run's seed and whatever names the row (prompt_id, number…)."""
    key = "\0".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def uniforms(seeds: Sequence[int], step: int) -> NDArray[np.float64]:
    """(B,) numbers in [0, 1): element `step` of the SplitMix64 stream of each seed (Steele et al. 2014), 53 bits each.

    Counter-based: no state is carried from step to step, so a row may leave the batch, or join it, at any time.
    """
    state = _mix64(np.array([seed & _MASK64 for seed in seeds], dtype=np.uint64))
    state += np.uint64(((step + 1) * _GOLDEN) & _MASK64)
    drawn: NDArray[np.float64] = (_mix64(state) >> np.uint64(11)).astype(np.float64) / 2.0**53
    return drawn


def _mix64(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser; arithmetic modulo 2^64, as unsigned arrays do it."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def draw_tokens(logits: Tensor, drawn: Tensor, temperature: float) -> Tensor:
    """(B,) tokens: the first whose cumulative probability exceeds the row's `drawn` number.

    logits: (B, V) in any float type; drawn: (B,) float64 in [0, 1). Temperature 0 takes the most probable token (the
    first of equals). The cumulative sum is taken in float64: in float32 its error over a vocabulary of 50,000 would be
    as large as the probability of a rare token.
    """
    if temperature == 0.0:
        return logits.argmax(dim=-1)
    heights = torch.softmax(logits.float() / temperature, dim=-1).double().cumsum(dim=-1)
    # Scaling by the total (1 up to rounding) makes sure that some token exceeds the draw.
    wanted = (drawn * heights[:, -1]).unsqueeze(-1)
    return torch.searchsorted(heights, wanted, right=True).squeeze(-1).clamp_(max=logits.shape[-1] - 1)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """The precision of a stage's forward passes outside an engine: bf16 autocast where a config asks, or on a GPU."""
    if precision == "bf16" or (precision == "auto" and device.type == "cuda"):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


@torch.no_grad()
def generate(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    eos_id: int,
    seeds: Sequence[int],
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> list[Generated]:
    """One response for each prompt, in the order of `prompts`.

    A row ends at its first `eos_id`, after `max_new_tokens`, or where the model's context is full; only the first makes
    it `ended`. Dropout is off throughout, and the model's training mode is as before afterwards.

    Args:
        model: a causal language model of transformers (its forward takes past_key_values and position_ids).
        prompts: token ids, none empty.
        temperature: 1 samples from the model as it is; 0 takes the most probable token at each step.
        seeds: one for each prompt; see `row_seed`. Equal seeds with equal prompts give equal responses.
        batch_size: how many rows are computed at once; prompts of similar length share a batch.
        progress: called with (prompts done, prompts) after each batch.

    Raises:
        UserError: a prompt is empty or fills the model's context.
    """
    if len(seeds) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds")
    context = _context(model)
    for number, prompt in enumerate(prompts):
        if not 0 < len(prompt) < context:
            raise UserError(
                f"prompt {number} has {len(prompt)} tokens; it needs at least one, and fewer than the model's context "
                f"of {context} (lower max_prompt_tokens)"
            )
    # Similar lengths together: little padding. The order is a function of the prompts alone.
    order = sorted(range(len(prompts)), key=lambda number: (len(prompts[number]), number))
    found: list[Generated | None] = [None] * len(prompts)
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = _Batch(model, [prompts[row] for row in rows], [seeds[row] for row in rows], context)
            for row, result in zip(rows, batch.run(max_new_tokens, temperature, eos_id), strict=True):
                found[row] = result
            if progress is not None:
                progress(min(start + batch_size, len(order)), len(order))
    finally:
        model.train(was_training)
    return [result for result in found if result is not None]


def _context(model: nn.Module) -> int:
    """How many tokens a row may have: the model's positions, or unlimited where the config names none."""
    config: Any = model.config
    return int(getattr(config, "max_position_embeddings", None) or 2**31)


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values with room to grow: the library's own layer copies all of them at every token.

    (64 rows, 256 wide, 4 layers, one CPU thread: 1,900 tokens a second with the library's, 2,300 with this.)
    """

    keys: Tensor
    values: Tensor
    _room: tuple[Tensor, Tensor] | None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **keywords: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._room = None
        held = self.get_seq_length()
        wanted = held + key_states.shape[-2]
        if self._room is None or self._room[0].shape[-2] < wanted:
            rows, heads, _, size = key_states.shape
            shape = (rows, heads, wanted + max(64, wanted // 2), size)
            self._room = (key_states.new_empty(shape), value_states.new_empty(shape))
            if held:
                self._room[0][:, :, :held], self._room[1][:, :, :held] = self.keys, self.values
        for buffer, states in zip(self._room, (key_states, value_states), strict=True):
            buffer[:, :, held:wanted] = states
        self.keys, self.values = (buffer[:, :, :wanted] for buffer in self._room)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self._room = None


def _cache(model: nn.Module) -> DynamicCache:
    cache = DynamicCache(config=model.config)
    # Layers of other kinds (sliding windows, state spaces) stay as the library makes them.
    cache.layers = [_RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    if cache.layer_class_to_replicate is DynamicLayer:
        cache.layer_class_to_replicate = _RoomyLayer
    return cache


class _Batch:
    """Rows that are computed together. `live[i]` is the row's number; the cache holds the live rows only."""

    def __init__(self, model: nn.Module, prompts: list[Sequence[int]], seeds: list[int], context: int) -> None:
        self.model = model
        self.seeds = seeds
        self.room = [context - len(prompt) for prompt in prompts]
        self.device = next(model.parameters()).device
        # Learned positions count from each row's own first token, not from the left edge of the padded batch.
        ids, mask, positions = pad_left(prompts)
        self.ids, self.mask, self.positions = (part.to(self.device) for part in (ids, mask, positions))
        self.cache: Any = _cache(model)

    def run(self, max_new_tokens: int, temperature: float, eos_id: int) -> list[Generated]:
        made: list[list[int]] = [[] for _ in self.seeds]
        ended = [False] * len(self.seeds)
        live = list(range(len(self.seeds)))
        finished: set[int] = set()
        for step in range(max_new_tokens):
            logits = self._forward()
            drawn = torch.from_numpy(uniforms([self.seeds[row] for row in live], step)).to(self.device)
            tokens = draw_tokens(logits, drawn, temperature)
            for row, token in zip(live, tokens.tolist(), strict=True):
                if row in finished:
                    continue
                made[row].append(token)
                ended[row] = token == eos_id
                if ended[row] or len(made[row]) >= min(max_new_tokens, self.room[row]):
                    finished.add(row)
            going = [place for place, row in enumerate(live) if row not in finished]
            if not going:
                break
            self._append(tokens)
            if len(live) - len(going) >= DROP_SHARE * len(live):
                self._select(going)
                live = [live[place] for place in going]
        return [Generated(ids, done) for ids, done in zip(made, ended, strict=True)]

    def _forward(self) -> Tensor:
        """(live, V) logits after the last token of each live row."""
        output = self.model(
            input_ids=self.ids,
            attention_mask=self.mask,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.cache = output.past_key_values
        logits: Tensor = output.logits[:, -1]
        return logits

    def _append(self, tokens: Tensor) -> None:
        self.ids = tokens.unsqueeze(1)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        # A finished row that is still carried along must not run past the model's last learned position.
        self.positions = (self.positions[:, -1:] + 1).clamp_(max=_context(self.model) - 1)

    def _select(self, places: list[int]) -> None:
        index = torch.tensor(places, device=self.device)
        self.ids, self.mask, self.positions = self.ids[index], self.mask[index], self.positions[index]
        self.cache.batch_select_indices(index)
