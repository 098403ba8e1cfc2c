"""mix: rows by weight, epochs, spans against the documents' own tokens, and nothing that depends on order."""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import RunError, UserError
from artifacts.reader import InputTable
from artifacts.store import Artifact, Store
from artifacts.tables import DOCUMENTS
from tasks.mix import STAGE, MixConfig
from tasks.mix.plan import cut, hold_out, rows_by_weight, stream_of, training_order
from tasks.text.hashing import unit_interval
from tasks.text.tokens import load_tokenizer
from tasks.tokenize import STAGE as TOKENIZE
from tasks.tokenize import TokenizeConfig
from tests.support import make_documents, put_table, read_rows, run_stage

LENGTH = 16


def corpus() -> pa.Table:
    draw = random.Random(2)

    def texts(count: int, words: int) -> list[str]:
        return [" ".join(f"w{draw.randrange(40)}" for _ in range(draw.randrange(1, words))) for _ in range(count)]

    return pa.concat_tables(
        [
            make_documents(texts(40, 30), prefix="c"),
            make_documents(texts(12, 20), source="books", prefix="b"),
            make_documents(texts(5, 10), source="forum", prefix="f"),
        ]
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def documents(store: Store) -> Artifact:
    return put_table(store, DOCUMENTS, corpus())


@pytest.fixture
def tokenizer(store: Store, documents: Artifact) -> Artifact:
    return run_stage(TOKENIZE, TokenizeConfig(vocab_size=300), store, {"documents": documents}).artifact


def config(**changes: Any) -> MixConfig:
    return MixConfig.model_validate(
        {
            "weights": {"crawl": 0.6, "books": 0.4},
            "sequence_length": LENGTH,
            "tokens": 200 * LENGTH + 3,
            "heldout_fraction": 0.1,
            **changes,
        }
    )


def test_rows_by_weight_are_gpt3s_and_sum_up() -> None:
    # Table 2.2's weights sum to 101%.
    weights = {"crawl": 60.0, "webtext2": 22.0, "books1": 8.0, "books2": 8.0, "wikipedia": 3.0}
    assert rows_by_weight(weights, 101) == {"crawl": 60, "webtext2": 22, "books1": 8, "books2": 8, "wikipedia": 3}
    # Shares of 10: 5.94, 2.178, .79, .79, .297: the remainders .94, .79, .79 get the three rows left over.
    counts = rows_by_weight(weights, 10)
    assert counts == {"crawl": 6, "webtext2": 2, "books1": 1, "books2": 1, "wikipedia": 0}
    assert rows_by_weight({"b": 1.0, "a": 1.0}, 3) == {"a": 2, "b": 1}


@settings(deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(1, 50), min_size=1), st.integers(0, 1000))
def test_no_share_is_off_by_a_whole_row(weights: dict[str, int], rows: int) -> None:
    counts = rows_by_weight({source: float(weight) for source, weight in weights.items()}, rows)
    assert sum(counts.values()) == rows
    for source, count in counts.items():
        assert abs(count - Fraction(weights[source] * rows, sum(weights.values()))) < 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 20), st.integers(2, 12), st.integers(0, 9))
def test_pieces_tile_rows_and_documents(lengths: list[int], rows: int, length: int, seed: int) -> None:
    """Against a plain loop over the stream's tokens."""
    names = [str(number) for number in range(len(lengths))]
    stream = stream_of(range(len(lengths)), names, np.array(lengths), rows * length, seed)
    segments = cut(stream, rows, length)
    flat = [(document, place) for document in stream.documents.tolist() for place in range(lengths[document])]
    found = []
    for row, document, start, size, offset in zip(
        segments.row, segments.document, segments.start, segments.length, segments.offset, strict=True
    ):
        assert size > 0 and len(found) == row * length + start
        found += [(int(document), int(offset) + place) for place in range(size)]
    assert found == flat[: rows * length]
    chosen = np.array([rows - 1, 0])
    part = segments.of_rows(chosen)
    assert part.row.tolist() == sorted(part.row.tolist())
    assert int(part.length.sum()) == 2 * length


def test_every_epoch_has_every_document_in_an_order_of_its_own() -> None:
    names = [f"d{number}" for number in range(20)]
    stream = stream_of(range(20), names, np.full(20, 3), 180, seed=1)
    epochs = stream.documents.reshape(3, 20)
    assert stream.epoch_tokens == 60 and [sorted(epoch) for epoch in epochs.tolist()] == [list(range(20))] * 3
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3
    by_hash = sorted(range(20), key=lambda row: unit_interval(names[row], 1, "mix-1"))
    assert epochs[1].tolist() == by_hash


def test_training_order_is_a_fixed_mixed_permutation() -> None:
    order = training_order([600, 400], seed=0)
    assert np.bincount(order).tolist() == [600, 400] and order.tolist() == training_order([600, 400], 0).tolist()
    assert order.tolist() != training_order([600, 400], 1).tolist()
    # In each hundred rows some forty are of the second source (five standard deviations).
    assert all(15 < int(block.sum()) < 65 for block in order.reshape(10, 100))


def test_spans_are_the_documents_tokens(store: Store, documents: Artifact, tokenizer: Artifact) -> None:
    artifact = run_stage(STAGE, config(), store, {"documents": documents, "tokenizer": tokenizer}, seed=3).artifact
    own = {row["doc_id"]: [*row["tokens"], 0] for row in read_rows(tokenizer)}
    source = {row["doc_id"]: row["source"] for row in read_rows(tokenizer)}
    opened = load_tokenizer(f"{tokenizer.path}/model/tokenizer.json")
    rows = read_rows(artifact)
    assert len(rows) == 200
    seen: dict[str, dict[str, list[int]]] = {}
    for row in rows + read_rows(artifact, "heldout"):
        at = 0
        for span in row["spans"]:
            assert span["start"] == at and source[span["doc_id"]] == row["source"]
            at += span["length"]
            wanted = own[span["doc_id"]][span["offset"] : span["offset"] + span["length"]]
            assert row["tokens"][span["start"] : at] == wanted and len(wanted) == span["length"]
        assert at == LENGTH == len(row["tokens"])
        pieces = [opened.id_to_token(id) for id in row["tokens"] if id]
        assert row["bytes"] == sum(map(len, pieces))
    for row in rows:
        seen.setdefault(row["source"], {}).setdefault("epochs", []).append(row["epoch"])
    # In training order no source goes back to an epoch that it has ended.
    assert all(found["epochs"] == sorted(found["epochs"]) for found in seen.values())


def test_the_table_of_epochs_and_the_account(store: Store, documents: Artifact, tokenizer: Artifact) -> None:
    artifact = run_stage(STAGE, config(), store, {"documents": documents, "tokenizer": tokenizer}).artifact
    metrics = artifact.manifest.metrics
    books, crawl = metrics["sources"]
    assert (books["source"], books["weight"], books["rows"]) == ("books", pytest.approx(0.4), 80)
    assert (crawl["source"], crawl["rows"], metrics["rows"]) == ("crawl", 120, 200)
    lengths = {row["doc_id"]: len(row["tokens"]) + 1 for row in read_rows(tokenizer)}
    decisions = {row["doc_id"]: row for row in read_rows(artifact, "decisions")}
    held = {id for id, row in decisions.items() if row["reason"] in ("heldout", "heldout_unused")}
    available = sum(size for id, size in lengths.items() if id.startswith("b") and id not in held)
    assert books["tokens"] == available and books["tokens_drawn"] == 80 * LENGTH
    assert books["epochs"] == 80 * LENGTH / available
    last = max(row["epoch"] for row in read_rows(artifact) if row["source"] == "books")
    assert last == (79 * LENGTH) // available
    # Documents not named by a weight are dropped, and counted.
    assert artifact.manifest.counts.reasons["not_in_mix"] == 5
    used = {span["doc_id"] for row in read_rows(artifact) for span in row["spans"]}
    shown = {span["doc_id"] for row in read_rows(artifact, "heldout") for span in row["spans"]}
    assert not used & held and shown <= held
    assert {id for id, row in decisions.items() if row["kept"]} == used | shown
    few = run_stage(STAGE, config(tokens=LENGTH * 4), store, {"documents": documents, "tokenizer": tokenizer}).artifact
    assert few.manifest.counts.reasons["not_drawn"] > 20


def test_held_out_documents_are_chosen_by_hash_and_fill_a_row() -> None:
    names = [f"d{number}" for number in range(100)]
    pools, lengths = {"a": list(range(90)), "b": list(range(90, 100))}, np.full(100, 10)
    held = hold_out(pools, names, lengths, 0.2, 8, seed=0)
    below = {number for number in range(100) if unit_interval(names[number], 0, "heldout") < 0.2}
    assert {*held["a"], *held["b"]} == below
    assert hold_out(pools, names, lengths, 0.0, 8, 0) == {"a": [], "b": []}
    # A fraction that chooses nothing still fills one row of 25, from the largest source.
    assert [len(chosen) for chosen in hold_out(pools, names, lengths, 1e-9, 25, 0).values()] == [3, 0]
    assert hold_out({"a": [0]}, names, lengths, 0.9, 5, 0) == {"a": []}


def test_the_held_out_cap(store: Store, documents: Artifact, tokenizer: Artifact) -> None:
    chosen = config(heldout_fraction=0.5, heldout_tokens=4 * LENGTH)
    artifact = run_stage(STAGE, chosen, store, {"documents": documents, "tokenizer": tokenizer}).artifact
    assert 2 <= len(read_rows(artifact, "heldout")) <= 4
    assert artifact.manifest.counts.reasons["heldout_unused"] > 0


def test_order_of_input_shards_and_processes_do_not_matter(
    store: Store, documents: Artifact, tokenizer: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_stage(STAGE, config(), store, {"documents": documents, "tokenizer": tokenizer}).artifact
    table = corpus()
    turned = put_table(store, DOCUMENTS, table.take(list(range(table.num_rows))[::-1]), label="turned")
    other = run_stage(STAGE, config(), store, {"documents": turned, "tokenizer": tokenizer}).artifact
    for name in ("data/part-00000.parquet", "heldout/part-00000.parquet"):
        assert other.manifest.files[name].sha256 == whole.manifest.files[name].sha256
    # Tokens that are not in the tokenizer's artifact are made here, to the same end.
    few = put_table(store, DOCUMENTS, table.slice(0, 20), label="few")
    trained = {"tokenizer": f"{tokenizer.path}/model"}
    partial = run_stage(TOKENIZE, TokenizeConfig(**trained), store, {"documents": few}).artifact
    shards = InputTable.shards
    monkeypatch.setattr(InputTable, "shards", lambda self, rows=9: shards(self, 9))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    with ProcessPoolExecutor(2) as pool:
        inputs = {"documents": documents, "tokenizer": partial}
        again = run_stage(STAGE, config(), store, inputs, mapper=pool.map).artifact
    assert again.manifest.metrics["documents_encoded_here"] == 37
    assert again.manifest.content == whole.manifest.content


def test_a_changed_text_is_encoded_again(store: Store, documents: Artifact, tokenizer: Artifact) -> None:
    """Decontamination cuts pieces out of documents: their old tokens must not come back by their doc_id."""
    table = corpus()
    texts = table.column("text").to_pylist()
    texts[0] = "cut"
    changed = table.set_column(table.schema.get_field_index("text"), "text", pa.array(texts))
    given = put_table(store, DOCUMENTS, changed, label="changed")
    chosen = config(weights={"crawl": 1.0}, heldout_fraction=0)
    artifact = run_stage(STAGE, chosen, store, {"documents": given, "tokenizer": tokenizer}).artifact
    assert artifact.manifest.metrics["documents_encoded_here"] == 1
    opened = load_tokenizer(f"{tokenizer.path}/model/tokenizer.json")
    pieces = sorted(
        (span["offset"], row["tokens"][span["start"] : span["start"] + span["length"]])
        for row in read_rows(artifact)
        if row["epoch"] == 0
        for span in row["spans"]
        if span["doc_id"] == table.column("doc_id")[0].as_py()
    )
    assert opened.decode([id for _, tokens in pieces for id in tokens]) == "cut"


def test_without_weights_sources_count_by_their_tokens(store: Store, documents: Artifact, tokenizer: Artifact) -> None:
    chosen = config(weights={}, tokens=2_000 * LENGTH, heldout_fraction=0)
    artifact = run_stage(STAGE, chosen, store, {"documents": documents, "tokenizer": tokenizer}).artifact
    epochs = [row["epochs"] for row in artifact.manifest.metrics["sources"]]
    assert len(epochs) == 3 and max(epochs) - min(epochs) < 0.2
    assert read_rows(artifact, "heldout") == []


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"weights": {"crawl": 1.0, "wiki": 1.0}}, UserError, "'wiki'; sources present: books, crawl, forum"),
        ({"tokens": LENGTH - 1}, UserError, "less than one row"),
    ],
)
def test_what_cannot_work_ends_in_one_message(
    store: Store,
    documents: Artifact,
    tokenizer: Artifact,
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        run_stage(STAGE, config(**changes), store, {"documents": documents, "tokenizer": tokenizer})
    assert store.artifacts("mix") == []


def test_no_documents_and_bad_weights(store: Store, tokenizer: Artifact) -> None:
    empty = put_table(store, DOCUMENTS, DOCUMENTS.schema.empty_table(), label="empty")
    with pytest.raises(RunError, match="there are no documents"):
        run_stage(STAGE, config(), store, {"documents": empty, "tokenizer": tokenizer})
    with pytest.raises(ValueError, match=r"weights\.crawl\n  Input should be greater than 0"):
        config(weights={"crawl": 0})
