"""tokenize: the same merges whatever the order, round trips, special tokens in text, what transformers sees."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from artifacts.errors import RunError, UserError
from artifacts.reader import InputTable
from artifacts.store import Artifact, Store
from artifacts.tables import DOCUMENTS
from tasks.text.tokens import end_token, load_tokenizer, text_digest, token_bytes, token_type
from tasks.tokenize import STAGE, TokenizeConfig
from tasks.tokenize.train import sample_texts
from tests.support import make_documents, put_table, read_rows, run_stage

TEXTS = [
    "the cat sat on the mat and the cat ran",
    "",
    "the rat and the hat: naïve café 网页文本",
    "a page that says <|endoftext|> in its text",
    "\n\n  indented\tlines\r\n 🙂 " * 3,
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def documents(store: Store) -> Artifact:
    return put_table(store, DOCUMENTS, make_documents(TEXTS))


def tokenized(store: Store, documents: Artifact, **settings: Any) -> Artifact:
    config = TokenizeConfig.model_validate({"vocab_size": 300, **settings})
    return run_stage(STAGE, config, store, {"documents": documents}).artifact


def model_file(artifact: Artifact) -> str:
    return f"{artifact.path}/model/tokenizer.json"


def test_tokens_give_the_text_back_byte_by_byte(store: Store, documents: Artifact) -> None:
    artifact = tokenized(store, documents)
    tokenizer = load_tokenizer(model_file(artifact))
    rows = read_rows(artifact)
    assert [row["doc_id"][-1] for row in rows] == ["0", "2", "3", "4"]
    sizes, end = token_bytes(tokenizer), end_token(tokenizer)
    for row, text in zip(rows, [text for text in TEXTS if text], strict=True):
        assert tokenizer.decode(row["tokens"], skip_special_tokens=False) == text
        assert int(sizes[row["tokens"]].sum()) == row["bytes"] == len(text.encode())
        assert row["text_digest"] == text_digest(text)
        assert end not in row["tokens"]  # the page that writes <|endoftext|> ends no document
    assert sizes[end] == 0
    decisions = read_rows(artifact, "decisions")
    assert [(row["kept"], row["reason"]) for row in decisions][:2] == [(True, None), (False, "empty")]
    metrics = artifact.manifest.metrics
    assert metrics["tokens"] == sum(len(row["tokens"]) for row in rows) == metrics["sources"]["crawl"]["tokens"]
    assert metrics["bytes_per_token"] == sum(len(text.encode()) for text in TEXTS) / metrics["tokens"]


def test_the_first_merges_are_the_most_frequent_pairs(store: Store) -> None:
    documents = put_table(store, DOCUMENTS, make_documents(["abab", "abab", "abab", "abc"]))
    tokenizer = load_tokenizer(model_file(tokenized(store, documents, vocab_size=259)))
    # a+b seven times, then ab+ab three times.
    assert tokenizer.token_to_id("ab") == 257 and tokenizer.token_to_id("abab") == 258
    assert tokenizer.token_to_id("<|endoftext|>") == 0 and tokenizer.get_vocab_size() == 259


def test_order_shards_processes_and_threads_do_not_matter(
    store: Store, documents: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tokenized(store, documents)
    turned = put_table(store, DOCUMENTS, make_documents(TEXTS).take([4, 3, 2, 1, 0]), label="turned")
    assert (
        tokenized(store, turned).manifest.files["model/tokenizer.json"]
        == (whole.manifest.files["model/tokenizer.json"])
    )
    shards = InputTable.shards
    monkeypatch.setattr(InputTable, "shards", lambda self, rows=2: shards(self, 2))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    with ProcessPoolExecutor(2) as pool:
        config, given = TokenizeConfig(vocab_size=300), {"documents": documents}
        again = run_stage(STAGE, config, store, given, mapper=pool.map, force=True).artifact
    assert again.manifest.content == whole.manifest.content


def test_the_sample_is_whole_documents_in_hash_order(store: Store) -> None:
    documents = put_table(store, DOCUMENTS, make_documents([f"{number:04d}" for number in range(50)]))
    table = InputTable(documents.files("data"))
    texts, counts = sample_texts(table, 20, seed=1)
    small = list(texts)
    assert len(small) == 5 and counts == {"documents": 5, "bytes": 20}
    assert set(small) < set(sample_texts(table, 43, seed=1)[0])
    assert sample_texts(table, 43, seed=1)[1] == {"documents": 10, "bytes": 40}
    assert set(small) != set(sample_texts(table, 20, seed=2)[0])
    assert sample_texts(table, 1, seed=1)[1] == {"documents": 1, "bytes": 4}


def test_transformers_opens_it_with_the_chat_format(store: Store, documents: Artifact) -> None:
    from transformers import AutoTokenizer

    from tasks.training.chat_format import render_prompt

    artifact = tokenized(store, documents)
    opened = AutoTokenizer.from_pretrained(f"{artifact.path}/model")
    assert opened.eos_token == opened.pad_token == "<|endoftext|>" and opened.all_special_tokens == ["<|endoftext|>"]
    assert opened(TEXTS[0])["input_ids"] == read_rows(artifact)[0]["tokens"]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    assert opened.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == render_prompt(messages)


def test_a_given_tokenizer_is_used_and_gets_the_end_token(store: Store, documents: Artifact, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = pre_tokenizers.ByteLevel.alphabet()
    plain = Tokenizer(models.BPE({byte: id for id, byte in enumerate(sorted(words))}, []))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    (tmp_path / "given").mkdir()
    plain.save(str(tmp_path / "given" / "tokenizer.json"))
    artifact = tokenized(store, documents, tokenizer=str(tmp_path / "given"))
    assert end_token(load_tokenizer(model_file(artifact))) == 256
    assert [len(row["tokens"]) for row in read_rows(artifact)] == [len(text.encode()) for text in TEXTS if text]
    assert artifact.manifest.sources[0].bytes == (tmp_path / "given" / "tokenizer.json").stat().st_size
    # Its path does not matter, its content does.
    (tmp_path / "given").rename(tmp_path / "moved")
    assert tokenized(store, documents, tokenizer=str(tmp_path / "moved" / "tokenizer.json")) == artifact
    (tmp_path / "moved" / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="not a tokenizer"):
        tokenized(store, documents, tokenizer=str(tmp_path / "moved"))


def test_ids_are_as_narrow_as_the_vocabulary_allows() -> None:
    assert token_type(65_536) == pa.uint16() and token_type(65_537) == pa.uint32()
    assert np.iinfo(np.uint16).max == 65_535


def test_no_text_ends_in_one_message(store: Store) -> None:
    for label, texts in (("none", []), ("blank", ["", ""])):
        documents = put_table(store, DOCUMENTS, make_documents(texts), label=label)
        with pytest.raises(RunError, match="no text to train a tokenizer on"):
            tokenized(store, documents)
    assert store.artifacts("tokenize") == []
