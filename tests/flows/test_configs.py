"""The configs of the repository: each is accepted, and says the published numbers that it claims."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifacts.store import Store
from flows.config import ROOT, load_pipeline
from flows.planning import plan

CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("name", CONFIGS)
def test_plan_accepts_every_config(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRAWL2CHAT_MIRROR", raising=False)
    monkeypatch.setenv("CRAWL2CHAT_CACHE", str(tmp_path / "cache"))
    pipeline = load_pipeline(f"configs/{name}")
    steps = plan(pipeline, Store(tmp_path / "store"))
    assert [step.stage for step in steps] == [node.name for node in pipeline.nodes]
    assert {step.status for step in steps} <= {"build", "unknown"}
    assert steps[-1].status == "unknown"


def test_instructgpt_numbers() -> None:
    pipeline = load_pipeline("configs/instructgpt-1.3b.yaml")
    ppo, reward = pipeline.config("ppo"), pipeline.config("reward")
    assert ppo.iterations * ppo.batch == 256_000  # type: ignore[attr-defined]
    assert ppo.rows_a_step == 8 * 64  # type: ignore[attr-defined]
    assert (ppo.beta, ppo.ptx, ppo.clip, ppo.ema) == (0.02, 27.8, 0.2, 0.992)  # type: ignore[attr-defined]
    assert (reward.lr, reward.epochs, reward.batch_prompts) == (9e-6, 1, 64)  # type: ignore[attr-defined]
    assert pipeline.config("ppo_without_ptx").ptx == 0.0  # type: ignore[attr-defined]


def test_gpt3_keep_rule() -> None:
    quality = load_pipeline("configs/commoncrawl.yaml").config("quality")
    assert (quality.rule, quality.alpha) == ("pareto", 9.0)  # type: ignore[attr-defined]
