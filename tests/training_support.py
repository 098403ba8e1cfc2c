"""Small tokenizers, corpora and artifacts for the tests of training stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from artifacts.store import Artifact, Store
from artifacts.tables import CONVERSATIONS, METRICS, MODEL, SEQUENCES, TOKENIZER
from tasks.execution import execute
from tasks.stage import Stage, StageConfig, StageContext, Summary
from tasks.training.chat_format import CHAT_TEMPLATE, END

SAMPLE = "the cat sat on a mat and the dog ran to what does it do join returns path of file name"


def make_tokenizer(folder: Path, vocabulary: int = 300) -> Any:
    """A byte-level BPE whose last token is `<|endoftext|>`, saved into `folder`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([SAMPLE] * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END)
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    return fast


class _Given(StageConfig):
    label: str = ""


def put_tokenizer(store: Store, vocabulary: int = 300) -> Artifact:
    """A tokenize artifact that holds only the tokenizer."""

    def run(ctx: StageContext) -> Summary:
        make_tokenizer(ctx.path("model/tokenizer.json").parent, vocabulary)
        return Summary()

    return execute(Stage("tokenize", 1, _Given, {}, {"model": TOKENIZER}, run), _Given(), {}, store).artifact


def put_sequences(
    store: Store, rows: Sequence[Sequence[int]], heldout: Sequence[Sequence[int]] = (), label: str = ""
) -> Artifact:
    """A mix artifact of ready rows."""

    def table(ids: Sequence[Sequence[int]]) -> pa.Table:
        found = [{"tokens": list(row), "spans": [], "source": "crawl", "epoch": 0} for row in ids]
        return pa.Table.from_pylist(found, schema=SEQUENCES.schema)

    def run(ctx: StageContext) -> Summary:
        ctx.writer("data").write(table(rows))
        ctx.writer("heldout").write(table(heldout))
        return Summary()

    stage = Stage("mix", 1, _Given, {}, {"data": SEQUENCES, "heldout": SEQUENCES}, run)
    return execute(stage, _Given(label=label), {}, store).artifact


def put_model(store: Store, tokenizer: Artifact, model: Any, stage: str = "pretrain") -> Artifact:
    """A model artifact of ready weights."""
    from tasks.training.model import save_causal

    def run(ctx: StageContext) -> Summary:
        save_causal(model, tokenizer.local() / "model", ctx.path("model/config.json").parent)
        return Summary()

    given = Stage(stage, 1, _Given, {}, {"data": METRICS, "model": MODEL}, run)
    return execute(given, _Given(), {}, store).artifact


def put_conversations(store: Store, dialogues: Sequence[Sequence[str]], splits: Sequence[str] = ()) -> Artifact:
    """A demonstrations artifact: each dialogue is user, assistant, user, assistant … in turn."""
    rows = [
        {
            "prompt_id": f"{number:032x}",
            "messages": [
                {"role": ("user", "assistant")[turn % 2], "content": content} for turn, content in enumerate(dialogue)
            ],
            "source": "made",
            "split": splits[number] if number < len(splits) else "train",
        }
        for number, dialogue in enumerate(dialogues)
    ]

    def run(ctx: StageContext) -> Summary:
        ctx.writer("data").write(pa.Table.from_pylist(rows, schema=CONVERSATIONS.schema))
        return Summary()

    stage = Stage("demonstrations", 1, _Given, {}, {"data": CONVERSATIONS}, run)
    return execute(stage, _Given(label=str(len(rows))), {}, store).artifact


def tiny_rows(count: int, length: int = 16, vocabulary: int = 300) -> list[list[int]]:
    """Rows with something to learn: arithmetic progressions modulo a small prime."""
    return [[(start * 3 + step * (1 + start % 5)) % 97 for step in range(length)] for start in range(count)]
