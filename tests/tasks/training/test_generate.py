"""Sampling: padding changes nothing, draws belong to rows, and the distribution is the softmax's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from artifacts.errors import UserError
from tasks.training.generate import _Batch, draw_tokens, generate, row_seed, uniforms
from tasks.training.model import build_causal
from tasks.training.shapes import ModelConfig

EOS = 0
PROMPTS = [[5, 9, 2, 7, 11, 3, 8], [4], [6, 6, 1], [2, 3, 4, 5, 6], [30, 31]]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> Any:
    shape = ModelConfig(architecture=request.param, layers=2, width=32, heads=4, context=48)
    made = build_causal(shape, 64, seed=1, end_id=EOS).eval()
    with torch.no_grad():  # fresh weights are nearly uniform; sharper ones make a wrong position show
        for parameter in made.parameters():
            if parameter.dim() == 2:
                parameter.mul_(6.0)
    return made


def alone(model: Any, ids: list[int], count: int) -> list[list[float]]:
    """Logits of the last `count` positions by one plain forward pass."""
    with torch.no_grad():
        found: list[list[float]] = model(torch.tensor([ids])).logits[0, -count:].tolist()
    return found


def test_a_padded_batch_gives_the_logits_of_each_prompt_alone(model: Any) -> None:
    batch = _Batch(model, PROMPTS, [0] * len(PROMPTS), 48)
    with torch.no_grad():
        first = batch._forward().tolist()
        batch._append(torch.tensor([13, 14, 15, 16, 17]))
        second = batch._forward().tolist()
        batch._select([1, 4])
        batch._append(torch.tensor([20, 21]))
        third = batch._forward().tolist()
    for row, prompt in enumerate(PROMPTS):
        assert first[row] == pytest.approx(alone(model, prompt, 1)[0], abs=1e-4)
        assert second[row] == pytest.approx(alone(model, [*prompt, 13 + row], 1)[0], abs=1e-4)
    assert third[0] == pytest.approx(alone(model, [4, 14, 20], 1)[0], abs=1e-4)
    assert third[1] == pytest.approx(alone(model, [30, 31, 17, 21], 1)[0], abs=1e-4)


def test_greedy_is_the_argmax_of_plain_forward_passes(model: Any) -> None:
    found = generate(model, PROMPTS, max_new_tokens=12, temperature=0.0, eos_id=EOS, seeds=[0] * 5, batch_size=3)
    for prompt, result in zip(PROMPTS, found, strict=True):
        ids = list(prompt)
        for token in result.ids:
            assert token == int(np.argmax(alone(model, ids, 1)[0]))
            ids.append(token)
        assert result.ended == (result.ids[-1] == EOS)
        assert EOS not in result.ids[:-1]


def test_a_response_depends_on_its_own_seed_and_not_on_the_batch(model: Any) -> None:
    prompts, seeds = PROMPTS * 4, [row_seed(7, "row", number) for number in range(20)]
    settings: dict[str, Any] = {"max_new_tokens": 20, "temperature": 1.0, "eos_id": EOS}
    together = generate(model, prompts, seeds=seeds, batch_size=20, **settings)
    apart = [generate(model, [p], seeds=[s], **settings)[0] for p, s in zip(prompts, seeds, strict=True)]
    turned = generate(model, prompts[::-1], seeds=seeds[::-1], batch_size=3, **settings)[::-1]
    assert together == apart == turned
    assert len({tuple(result.ids) for result in together}) > 10  # the same prompt four times, four seeds


def test_rows_stop_at_the_first_end_at_the_limit_and_at_the_context(model: Any) -> None:
    seeds = list(range(40))
    found = generate(model, [[3, 4]] * 40, max_new_tokens=46, temperature=4.0, eos_id=EOS, seeds=seeds)
    assert {result.ended for result in found} == {True, False}
    for result in found:
        assert result.ids.count(EOS) == (1 if result.ended else 0)
        assert result.text_ids == [token for token in result.ids if token != EOS]
        assert result.ended or len(result.ids) == 46
    long = generate(model, [list(range(1, 46))], max_new_tokens=20, temperature=1.0, eos_id=-1, seeds=[1])[0]
    assert len(long.ids) == 3 and not long.ended
    with pytest.raises(UserError, match="48 tokens; it needs"):
        generate(model, [[1] * 48], max_new_tokens=1, temperature=1.0, eos_id=EOS, seeds=[1])


def test_draws_follow_the_softmax_at_the_temperature() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    count = 40_000
    seeds = [row_seed(0, number) for number in range(count)]
    drawn = torch.from_numpy(uniforms(seeds, 3))
    for temperature in (1.0, 0.5):
        tokens = draw_tokens(logits.expand(count, 4), drawn, temperature)
        wanted = torch.softmax(logits / temperature, 0)
        shares = torch.bincount(tokens, minlength=4) / count
        assert torch.allclose(shares, wanted.float(), atol=4 * 0.5 / count**0.5)
    edges = torch.tensor([0.0, 1.0 - 2**-53], dtype=torch.float64)
    assert draw_tokens(logits.expand(2, 4), edges, 1.0).tolist() == [0, 3]


def test_uniforms_are_those_of_splitmix64() -> None:
    # Vigna's reference: the stream of state s begins with mix(s + golden), here for the state mix(0) = 0.
    assert uniforms([0], 0)[0] == (0xE220A8397B1DCDAF >> 11) / 2.0**53
    assert uniforms([0], 1)[0] == (0x6E789E6AA1B965F4 >> 11) / 2.0**53
    many = uniforms([row_seed(0, number) for number in range(10_000)], 5)
    assert abs(many.mean() - 0.5) < 0.012 and abs(many.var() - 1 / 12) < 0.003
