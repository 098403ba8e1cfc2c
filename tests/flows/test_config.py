"""Configs: what is accepted, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifacts.errors import UserError
from flows.config import load_pipeline


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "pipeline.yaml"
    path.write_text(text, encoding="utf8")
    return str(path)


def test_sections_choose_the_stages_in_pipeline_order(tmp_path: Path) -> None:
    pipeline = load_pipeline(write(tmp_path, "dedup:\ningest: {paths: [a.warc.gz]}\n"))
    assert [node.name for node in pipeline.nodes] == ["ingest", "dedup"]
    assert pipeline.feeders("dedup") == {"documents": "ingest"}


def test_a_left_out_stage_is_bridged(tmp_path: Path) -> None:
    pipeline = load_pipeline(write(tmp_path, "ingest: {paths: [a]}\ntokenize: {}\n"))
    assert pipeline.feeders("tokenize") == {"documents": "ingest"}


def test_override_takes_a_yaml_value(tmp_path: Path) -> None:
    pipeline = load_pipeline(write(tmp_path, "dedup: {bands: 14}\n"), ["dedup.bands=7", "seed=3"])
    assert pipeline.config("dedup").bands == 7  # type: ignore[attr-defined]
    assert pipeline.settings.seed == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dedup: {bands: many}\n", "dedup.bands"),
        ("dedup: {bnads: 3}\n", "dedup.bnads: no such field"),
        ("dedpu: {}\n", "dedpu: no such field"),
        ("- a\n", "a config is a mapping"),
        ("a: [\n", "not YAML"),
        ("runner: slurm\n", "runner"),
    ],
)
def test_a_wrong_config_names_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_pipeline(path)
    assert message in str(caught.value)
    assert path in str(caught.value)


def test_a_missing_config_names_the_file() -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        load_pipeline("nowhere.yaml")


def test_an_override_without_equals_sign() -> None:
    with pytest.raises(UserError, match=r"section\.field=value"):
        load_pipeline(None, ["dedup.bands"])


def test_data_of_sft_goes_to_the_stage_that_reads_it(tmp_path: Path) -> None:
    pipeline = load_pipeline(write(tmp_path, "sft: {data: [a.json]}\nreward: {data: [b.json]}\n"))
    assert list(pipeline.config("demonstrations").data) == ["a.json"]  # type: ignore[attr-defined]
    assert list(pipeline.config("label").data) == ["b.json"]  # type: ignore[attr-defined]


def test_the_ablation_is_ppo_with_no_ptx(tmp_path: Path) -> None:
    pipeline = load_pipeline(write(tmp_path, "ppo: {beta: 0.07}\nppo_without_ptx: {}\n"), ["ppo.clip=0.1"])
    ablation = pipeline.config("ppo_without_ptx")
    assert (ablation.beta, ablation.clip, ablation.ptx) == (0.07, 0.1, 0.0)  # type: ignore[attr-defined]
