"""The stages, and how a pipeline wires them: which stage's artifact feeds which input."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING

from tasks.crawl import CrawlConfig
from tasks.decontaminate import DecontaminateConfig
from tasks.dedup import DedupConfig
from tasks.demonstrations import DemonstrationsConfig
from tasks.evaluate import EvaluateConfig
from tasks.ingest import IngestConfig
from tasks.label import LabelConfig
from tasks.mix import MixConfig
from tasks.paragraphs import ParagraphsConfig
from tasks.pii import PiiConfig
from tasks.ppo import PPOConfig, PPOWithoutPtxConfig
from tasks.pretrain import PretrainConfig
from tasks.quality import QualityConfig
from tasks.reward import RewardConfig
from tasks.sample import SampleConfig
from tasks.sft import SftConfig
from tasks.tokenize import TokenizeConfig

if TYPE_CHECKING:
    from tasks.stage import Stage, StageConfig


@dataclass(frozen=True)
class Node:
    """A stage in a pipeline: its name, its config, and what feeds it.

    The stage itself is imported when it is asked for: to check a config none is needed.

    `feeds` maps each input to the stages that can feed it, best first: the first one that the pipeline has is taken, so
    that a pipeline may leave a stage out (no `dedup` section: quality reads ingest's documents). `refs` maps an input
    to the config field that lists its artifacts by reference.
    """

    name: str
    config: type[StageConfig]
    feeds: dict[str, tuple[str, ...]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    @cached_property
    def stage(self) -> Stage:
        from tasks.stage import Stage

        module = import_module(f"{self.config.__module__.rpartition('.')[0]}.stage")
        return next(each for each in vars(module).values() if isinstance(each, Stage) and each.name == self.name)


# The stages that write documents, the last one first.
TEXT = ("pii", "decontaminate", "quality", "paragraphs", "dedup", "ingest")

NODES: tuple[Node, ...] = (
    Node("crawl", CrawlConfig),
    Node("ingest", IngestConfig, {"crawl": ("crawl",)}),
    Node("dedup", DedupConfig, {"documents": ("ingest",)}, {"against": "against"}),
    Node("paragraphs", ParagraphsConfig, {"documents": TEXT[4:]}),
    Node("quality", QualityConfig, {"documents": TEXT[3:]}),
    Node("decontaminate", DecontaminateConfig, {"documents": TEXT[2:]}),
    Node("pii", PiiConfig, {"documents": TEXT[1:]}),
    Node("tokenize", TokenizeConfig, {"documents": TEXT}),
    Node("mix", MixConfig, {"documents": TEXT, "tokenizer": ("tokenize",)}),
    Node("pretrain", PretrainConfig, {"sequences": ("mix",), "tokenizer": ("tokenize",)}),
    Node("demonstrations", DemonstrationsConfig, {"crawl": ("crawl",)}),
    Node("sft", SftConfig, {"conversations": ("demonstrations",), "model": ("pretrain",), "sequences": ("mix",)}),
    Node("sample", SampleConfig, {"conversations": ("demonstrations",), "model": ("sft",)}),
    Node("label", LabelConfig, {"samples": ("sample",)}),
    Node("reward", RewardConfig, {"rankings": ("label",), "model": ("sft",), "conversations": ("demonstrations",)}),
    Node(
        "ppo",
        PPOConfig,
        {
            "conversations": ("demonstrations",),
            "model": ("sft",),
            "reward_model": ("reward",),
            "reference": ("sft",),
            "sequences": ("mix",),
        },
    ),
    Node(
        "ppo_without_ptx",
        PPOWithoutPtxConfig,
        {
            "conversations": ("demonstrations",),
            "model": ("sft",),
            "reward_model": ("reward",),
            "reference": ("sft",),
            "sequences": ("mix",),
        },
    ),
    Node(
        "evaluate",
        EvaluateConfig,
        {
            "conversations": ("demonstrations",),
            "sequences": ("mix",),
            "model": ("ppo",),
            "baseline": ("sft",),
            "reward_model": ("reward",),
            "ablation": ("ppo_without_ptx",),
            "pretrained": ("pretrain",),
        },
    ),
)
BY_NAME = {node.name: node for node in NODES}
