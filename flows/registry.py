"""The stages, and how a pipeline wires them: which stage's artifact feeds which input."""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks import (
    crawl,
    decontaminate,
    dedup,
    demonstrations,
    evaluate,
    ingest,
    label,
    mix,
    paragraphs,
    pii,
    ppo,
    pretrain,
    quality,
    reward,
    sample,
    sft,
    tokenize,
)
from tasks.stage import Stage


@dataclass(frozen=True)
class Node:
    """A stage in a pipeline.

    `feeds` maps each input to the stages that can feed it, best first: the first one that the pipeline has is taken, so
    that a pipeline may leave a stage out (no `dedup` section: quality reads ingest's documents). `refs` maps an input
    to the config field that lists its artifacts by reference.
    """

    stage: Stage
    feeds: dict[str, tuple[str, ...]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.stage.name


# The stages that write documents, the last one first.
TEXT = ("pii", "decontaminate", "quality", "paragraphs", "dedup", "ingest")

NODES: tuple[Node, ...] = (
    Node(crawl.STAGE),
    Node(ingest.STAGE, {"crawl": ("crawl",)}),
    Node(dedup.STAGE, {"documents": ("ingest",)}, {"against": "against"}),
    Node(paragraphs.STAGE, {"documents": TEXT[4:]}),
    Node(quality.STAGE, {"documents": TEXT[3:]}),
    Node(decontaminate.STAGE, {"documents": TEXT[2:]}),
    Node(pii.STAGE, {"documents": TEXT[1:]}),
    Node(tokenize.STAGE, {"documents": TEXT}),
    Node(mix.STAGE, {"documents": TEXT, "tokenizer": ("tokenize",)}),
    Node(pretrain.STAGE, {"sequences": ("mix",), "tokenizer": ("tokenize",)}),
    Node(demonstrations.STAGE, {"crawl": ("crawl",)}),
    Node(sft.STAGE, {"conversations": ("demonstrations",), "model": ("pretrain",), "sequences": ("mix",)}),
    Node(sample.STAGE, {"conversations": ("demonstrations",), "model": ("sft",)}),
    Node(label.STAGE, {"samples": ("sample",)}),
    Node(reward.STAGE, {"rankings": ("label",), "model": ("sft",), "conversations": ("demonstrations",)}),
    Node(
        ppo.STAGE,
        {
            "conversations": ("demonstrations",),
            "model": ("sft",),
            "reward_model": ("reward",),
            "reference": ("sft",),
            "sequences": ("mix",),
        },
    ),
    Node(
        ppo.WITHOUT_PTX,
        {
            "conversations": ("demonstrations",),
            "model": ("sft",),
            "reward_model": ("reward",),
            "reference": ("sft",),
            "sequences": ("mix",),
        },
    ),
    Node(
        evaluate.STAGE,
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
