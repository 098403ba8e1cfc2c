"""Model, engine, batches: against plain PyTorch, and saved states against an undisturbed run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from artifacts.digest import digest_file
from artifacts.errors import RunError, UserError
from tasks.training.batches import pad_left, pad_right, share
from tasks.training.engine import AdamSettings, Engine, read_deepspeed_config
from tasks.training.language import byte_lengths, language_loss
from tasks.training.model import ModelConfig, RewardModel, build_causal, hidden_states, load_causal, save_causal
from tests.training_support import make_tokenizer

VOCABULARY = 101
SHAPE = ModelConfig(layers=2, width=32, heads=2, context=16)
SETTINGS = AdamSettings(weight_decay=0.1, clip=0.5)


def rate(step: int) -> float:
    return 1e-3 * (step + 1)


def batches(steps: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, VOCABULARY, (steps, 4, 16), generator=generator)


def engine_of(seed: int = 0, zero: int = 0) -> Engine:
    return Engine(build_causal(SHAPE, VOCABULARY, seed), rate, SETTINGS, {"zero_optimization": {"stage": zero}})


def train(engine: Engine, data: Tensor, parts: int) -> list[float]:
    norms = []
    for rows in data:
        for part in rows.chunk(parts):
            engine.backward(engine(language_loss, part, None, rows.shape[0] * (rows.shape[1] - 1)))
        norms.append(engine.step())
    return norms


def plain(data: Tensor) -> tuple[dict[str, Tensor], list[float]]:
    """The same steps without the engine."""
    model = build_causal(SHAPE, VOCABULARY, 0)
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)
    norms = []
    for step, rows in enumerate(data):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        logits = model(rows).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)))
        optimizer.step()
        optimizer.zero_grad()
    return dict(model.state_dict()), norms


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize(("parts", "zero"), [(1, 0), (2, 0), (4, 0), (2, 2)])
def test_engine_is_adamw_however_the_batch_is_cut(parts: int, zero: int) -> None:
    engine, data = engine_of(zero=zero), batches(3)
    norms = train(engine, data, parts)
    weights, expected = plain(data)
    assert norms == pytest.approx(expected, rel=1e-5)
    # Adam's first steps divide a gradient by itself: where it is rounding noise, so is the step's direction.
    close = [torch.isclose(engine.module.state_dict()[n], w, atol=1e-5).float().mean() for n, w in weights.items()]
    assert float(torch.stack(close).mean()) > 0.999
    assert difference(dict(engine.module.state_dict()), weights) < 2e-3


@pytest.mark.parametrize("zero", [0, 2])
def test_a_saved_engine_goes_on_to_the_same_bits(tmp_path: Path, zero: int) -> None:
    data = batches(6)
    engine = engine_of(zero=zero)
    train(engine, data[:3], 2)
    engine.save(tmp_path)
    noise = torch.rand(3)
    norms = train(engine, data[3:], 2)
    other = engine_of(seed=5, zero=zero)
    other.load(tmp_path)
    assert torch.equal(torch.rand(3), noise)
    assert other.updates == 3 and train(other, data[3:], 2) == norms
    assert difference(dict(engine.module.state_dict()), dict(other.module.state_dict())) == 0.0


def test_a_gradient_that_is_not_finite_is_an_error_before_the_step() -> None:
    engine = engine_of()
    before = {name: weight.clone() for name, weight in engine.module.state_dict().items()}
    engine.backward(engine(language_loss, batches(1)[0], None, 1) * float("nan"))
    with pytest.raises(RunError, match="update 0 is not finite"):
        engine.step()
    assert difference(before, dict(engine.module.state_dict())) == 0.0


def test_a_deepspeed_config_may_not_name_what_the_stage_sets(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gradient_clipping"):
        Engine(build_causal(SHAPE, VOCABULARY, 0), rate, SETTINGS, {"gradient_clipping": 1.0})
    with pytest.raises(UserError, match="no such file"):
        read_deepspeed_config(tmp_path / "none.json")
    for stage in (0, 2, 3):
        found = read_deepspeed_config(f"configs/deepspeed/zero{stage}.json")
        assert found["zero_optimization"]["stage"] == stage


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_saved_models_open_and_have_equal_bytes(tmp_path: Path, architecture: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = make_tokenizer(tmp_path / "tokenizer")
    shape = ModelConfig(architecture=architecture, layers=1, width=16, heads=2, context=16)
    for name in ("a", "b"):
        model = build_causal(shape, len(tokenizer), 3, tokenizer.eos_token_id)
        save_causal(model, tmp_path / "tokenizer", tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(names)
    for name in names:
        assert digest_file(tmp_path / "a" / name) == digest_file(tmp_path / "b" / name)
    ids = torch.tensor([[5, 6, 7]])
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    assert torch.equal(opened(ids).logits, load_causal(tmp_path / "a")(ids).logits)
    assert opened.config.eos_token_id == opened.config.bos_token_id == tokenizer.eos_token_id
    assert AutoTokenizer.from_pretrained(tmp_path / "a").decode(tokenizer("the cat")["input_ids"]) == "the cat"


def test_reward_model_round_trip_and_padding(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    make_tokenizer(tmp_path / "tokenizer")
    save_causal(build_causal(SHAPE, VOCABULARY, 0), tmp_path / "tokenizer", tmp_path / "lm")
    model = RewardModel.from_causal(tmp_path / "lm", seed=1).eval()
    model.bias.fill_(0.25)
    model.save(tmp_path / "reward", tmp_path / "tokenizer")
    again = RewardModel.load(tmp_path / "reward").eval()
    rows = [[1, 2, 3], [4, 5, 6, 7, 8]]
    ids, mask = pad_right(rows)
    scores = again.scores(ids, mask.sum(1))
    assert torch.equal(scores, model.scores(ids, mask.sum(1)))
    alone = [again.scores(torch.tensor([row]), torch.tensor([len(row)])) for row in rows]
    assert torch.allclose(scores, torch.cat(alone), atol=1e-6)
    left, left_mask, positions = pad_left(rows)
    values = again.values(left, left_mask, positions)
    assert values.shape == (2, 5) and torch.allclose(values[:, -1], scores, atol=1e-6)
    opened = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward")
    assert torch.allclose(opened(torch.tensor([rows[0]])).logits[0] + 0.25, scores[:1], atol=1e-6)
    with pytest.raises(UserError, match="reward_bias"):
        RewardModel.load(tmp_path / "lm")


def test_left_padding_changes_no_hidden_state() -> None:
    model = build_causal(SHAPE, VOCABULARY, 0).eval()
    rows = [[1, 2, 3], [4, 5, 6, 7, 8]]
    hidden = hidden_states(model, *pad_left(rows))
    for number, row in enumerate(rows):
        alone = hidden_states(model, torch.tensor([row]))[0]
        assert torch.allclose(hidden[number, -len(row) :], alone, atol=1e-5)


def test_shares_cover_a_batch_once() -> None:
    for size, ranks in ((8, 2), (7, 3), (2, 4)):
        shares = [share(range(size), rank, ranks) for rank in range(ranks)]
        assert [item for part in shares for item in part] == list(range(size))


def test_byte_lengths_are_those_of_utf8(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path)
    lengths = byte_lengths(tokenizer)
    text = "the cat — 猫 é\n"
    ids = tokenizer(text)["input_ids"]
    assert sum(lengths[token] for token in ids) == len(text.encode())
    assert lengths[tokenizer.eos_token_id] == 0


@pytest.mark.parametrize(
    "make", [lambda: ModelConfig(width=30, heads=4), lambda: ModelConfig(architecture="llama", dropout=0.1)]
)
def test_shapes_that_cannot_be_are_refused(make: Callable[[], ModelConfig]) -> None:
    with pytest.raises(ValidationError):
        make()
