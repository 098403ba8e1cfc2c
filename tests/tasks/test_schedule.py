"""Learning rates by hand."""

from __future__ import annotations

import pytest

from tasks.training.schedule import by_step, learning_rate


def test_cosine_goes_from_the_peak_to_a_tenth() -> None:
    rate = by_step(1e-3, 11)
    assert rate(0) == 1e-3
    assert rate(5) == pytest.approx(1e-3 * 0.55, rel=1e-12)  # half-way between 1 and .1
    assert rate(10) == pytest.approx(1e-4, rel=1e-12)
    assert rate(50) == pytest.approx(1e-4, rel=1e-12)


def test_warm_up_from_zero_wastes_no_update() -> None:
    rate = by_step(1.0, 20, warmup=4)
    assert [rate(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rate(19) == pytest.approx(0.1)


def test_warm_up_from_a_tenth_is_that_of_instructgpt_ppo() -> None:
    rate = by_step(1.0, 100, kind="constant", warmup=10, warmup_from=0.1)
    assert rate(0) == pytest.approx(0.1) and rate(5) == pytest.approx(0.55)
    assert rate(10) == 1.0 and rate(99) == 1.0


def test_a_warm_up_may_end_within_a_step_and_runs_may_be_short() -> None:
    rate = by_step(1.0, 4, warmup=1.5)
    assert [rate(0), rate(1), rate(2)] == [pytest.approx(2 / 3), 1.0, 1.0]
    assert by_step(1.0, 1)(0) == 1.0
    assert by_step(1.0, 2, warmup=8)(1) == 0.25


def test_positions_may_be_tokens() -> None:
    # GPT-3: 375 million tokens of warm-up, cosine to 10% over 260 billion.
    assert learning_rate(187.5e6, peak=6e-4, total=260e9, warmup=375e6) == pytest.approx(3e-4)
    assert learning_rate(260e9, peak=6e-4, total=260e9, warmup=375e6) == pytest.approx(6e-5)
    assert learning_rate(300e9, peak=6e-4, total=260e9, warmup=375e6) == pytest.approx(6e-5)
