"""Making the tokenizer: byte-level BPE (Sennrich et al. 2016, over bytes as in GPT-2), and its files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from artifacts.reader import InputTable
from tasks.text.hashing import unit_interval
from tasks.tokenize.config import TokenizeConfig
from tasks.training.chat_format import CHAT_TEMPLATE, END


def train_tokenizer(texts: Iterable[str], config: TokenizeConfig) -> Tokenizer:
    """A byte-level BPE tokenizer with GPT-2's splitting into words and the one special token `<|endoftext|>` (id 0).

    Merges are decided by counts, ties by token ids, so neither the texts' order nor the number of threads matters.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def with_end_token(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer, with `<|endoftext|>` as a special token, added behind its vocabulary if it was not there."""
    tokenizer.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """`tokenizer.json` and `tokenizer_config.json`, which `AutoTokenizer.from_pretrained` opens. Always the same bytes.

    Padding uses the end token too, so masks must come from lengths, never from `ids != pad`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": END,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 10**30,
        "chat_template": CHAT_TEMPLATE,
    }
    text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf8")


def sample_texts(table: InputTable, sample_bytes: int, seed: int) -> tuple[Iterator[str], dict[str, int]]:
    """Whole documents in the order of a hash of doc_id until `sample_bytes` are reached, at least one.

    Returns (the texts, in table order, read as they are used; how many documents and bytes they are).
    """
    doc_ids: list[str] = []
    sizes: list[int] = []
    for batch in table.batches(["doc_id", "text"]):
        doc_ids += batch.column("doc_id").to_pylist()
        sizes += pc.fill_null(pc.binary_length(batch.column("text")), 0).to_pylist()
    order = sorted(range(len(doc_ids)), key=lambda row: (unit_interval(doc_ids[row], seed, "tokenizer"), doc_ids[row]))
    total = np.cumsum(np.array([sizes[row] for row in order], dtype=np.int64))
    count = max(1, int(np.searchsorted(total, sample_bytes, side="right"))) if order else 0
    chosen = np.zeros(len(doc_ids), dtype=np.bool_)
    chosen[order[:count]] = True

    def texts() -> Iterator[str]:
        first = 0
        for batch in table.batches(["text"]):
            yield from batch.column("text").filter(chosen[first : first + batch.num_rows]).drop_null().to_pylist()
            first += batch.num_rows

    return texts(), {"documents": count, "bytes": int(total[count - 1]) if count else 0}
