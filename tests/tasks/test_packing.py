"""Best-fit packing: nothing that fits is cut, every epoch is whole, and padding is never learnt."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import UserError
from artifacts.reader import InputTable
from artifacts.store import Artifact, Store
from artifacts.tables import DOCUMENTS, SEQUENCES
from artifacts.writer import TableWriter
from tasks.mix import STAGE, MixConfig
from tasks.mix.packing import best_fit, pack
from tasks.mix.plan import shuffled, stream_of
from tasks.tokenize import STAGE as TOKENIZE
from tasks.tokenize import TokenizeConfig
from tasks.training.batches import TokenRows
from tasks.training.language import language_loss
from tasks.training.model import build_causal
from tasks.training.shapes import ModelConfig
from tests.support import make_documents, put_table, read_rows, run_stage

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=30)


def naive_best_fit(lengths: list[int], capacity: int) -> list[int]:
    """Section 3 of Ding et al. 2024 in the plainest words; of equally full rows, the last to become so."""
    rooms: list[int] = []
    touched: list[int] = []
    found = []
    for step, length in enumerate(lengths):
        fitting = [row for row, room in enumerate(rooms) if room >= length]
        if fitting:
            row = min(fitting, key=lambda row: (rooms[row], -touched[row]))
        else:
            row = len(rooms)
            rooms.append(capacity)
            touched.append(0)
        rooms[row] -= length
        touched[row] = step
        found.append(row)
    return found


@settings(deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=40))
def test_best_fit_is_the_papers(lengths: list[int]) -> None:
    ordered = sorted(lengths, reverse=True)
    assert best_fit(np.array(ordered), 12).tolist() == naive_best_fit(ordered, 12)


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(2, 16), st.integers(1, 60), st.integers(0, 5))
def test_rows_hold_whole_documents_and_epochs_are_whole(lengths: list[int], size: int, rows: int, seed: int) -> None:
    names, each = [f"d{number}" for number in range(len(lengths))], np.array(lengths)
    segments, epochs = pack(range(len(lengths)), names, each, rows, size, seed)
    pieces = list(
        zip(
            *(column.tolist() for column in (segments.row, segments.document, segments.start, segments.length,
                                             segments.offset)),
            strict=True,
        )
    )  # fmt: skip
    assert len(epochs) == rows and sorted({row for row, *_ in pieces}) == list(range(rows))
    ends: dict[int, int] = {}
    for row, document, start, length, offset in pieces:
        assert start == ends.get(row, 0)  # no hole in a row
        ends[row] = start + length
        assert ends[row] <= size and offset % size == 0 and length == min(size, lengths[document] - offset)
    whole = Counter((number, offset) for number, tokens in enumerate(lengths) for offset in range(0, tokens, size))
    for epoch in range(int(epochs[-1]) + 1):
        found = Counter((p[1], p[4]) for p in pieces if epochs[p[0]] == epoch)
        assert found == whole if epoch < epochs[-1] else not found - whole


def test_a_source_without_a_row_has_no_piece() -> None:
    segments, epochs = pack([0, 1], ["a", "b"], np.array([3, 4]), 0, 8, 0)
    assert len(segments.row) == len(segments.start) == len(epochs) == 0


@settings(max_examples=40, deadline=None)
@given(LENGTHS, st.permutations(range(30)), st.integers(0, 99))
def test_the_order_of_the_input_changes_nothing(lengths: list[int], order: list[int], seed: int) -> None:
    """Streams, packed rows and the shuffle depend on doc_ids, lengths, counts and the seed alone."""
    names, each = [f"d{number}" for number in range(len(lengths))], np.array(lengths)
    turned = [place for place in order if place < len(lengths)]
    other_names, other = [names[place] for place in turned], each[turned]

    def described(found: Any, labels: list[str]) -> Any:
        return [labels[row] for row in found.document.tolist()], found.row.tolist(), found.offset.tolist()

    one, two = (pack(range(len(each)), n, e, 20, 16, seed)[0] for n, e in ((names, each), (other_names, other)))
    assert described(one, names) == described(two, other_names)
    first, second = (stream_of(range(len(each)), n, e, 99, seed) for n, e in ((names, each), (other_names, other)))
    assert [names[row] for row in first.documents] == [other_names[row] for row in second.documents]


def test_the_shuffle_is_a_fixed_permutation() -> None:
    assert shuffled(8, 0, "mix").tolist() == shuffled(8, 0, "mix").tolist()
    assert sorted(shuffled(1000, 3, "mix").tolist()) == list(range(1000))
    assert shuffled(8, 0, "mix").tolist() != shuffled(8, 1, "mix").tolist()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


TEXTS = {"crawl": [" ".join(["w"] * (1 + 7 * k % 23)) for k in range(40)], "books": ["b " * 50, "c " * 9, "d " * 3]}


def mixed(store: Store, **config: Any) -> Artifact:
    tables = [make_documents(texts, source=source, prefix=source[0]) for source, texts in TEXTS.items()]
    documents = put_table(store, DOCUMENTS, pa.concat_tables(tables))
    tokenizer = run_stage(TOKENIZE, TokenizeConfig(vocab_size=300), store, {"documents": documents}).artifact
    chosen = MixConfig.model_validate({"sequence_length": 16, "heldout_fraction": 0, **config})
    return run_stage(STAGE, chosen, store, {"documents": documents, "tokenizer": tokenizer}).artifact


def test_best_fit_pads_where_concat_cuts(store: Store) -> None:
    budgets = {"crawl": 40 * 16 + 5, "books": 9 * 16}
    concat, fitted = (mixed(store, packing=packing, budgets=budgets) for packing in ("concat", "best_fit"))
    for artifact in (concat, fitted):
        metrics, rows = artifact.manifest.metrics, read_rows(artifact)
        assert {row["source"]: row["rows"] for row in metrics["sources"]} == {"books": 9, "crawl": 40}
        covered = [sum(span["length"] for span in row["spans"]) for row in rows]
        packing = metrics["packing"]
        assert packing["tokens_drawn"] == sum(covered) and packing["tokens_padding"] == 49 * 16 - sum(covered)
        assert packing["padding_share"] == pytest.approx(1 - sum(covered) / (49 * 16))
        for row, real in zip(rows, covered, strict=True):
            assert row["tokens"][real:] == [0] * (16 - real)
        for line in metrics["sources"]:
            drawn = sum(real for real, row in zip(covered, rows, strict=True) if row["source"] == line["source"])
            assert line["tokens_drawn"] == drawn and line["epochs"] == pytest.approx(drawn / line["tokens"])
    assert concat.manifest.metrics["packing"]["tokens_padding"] == 0
    assert concat.manifest.metrics["packing"]["documents_cut"] > 0
    found = fitted.manifest.metrics["packing"]
    assert (found["tokens_cut"], found["documents_cut"], found["method"]) == (0, 0, "best_fit")
    assert found["tokens_padding"] > 0 and found["documents_too_long"] > 0


def test_budgets_stand_in_place_of_weights(store: Store) -> None:
    only = mixed(store, budgets={"books": 50})
    assert [(row["source"], row["rows"], row["weight"]) for row in only.manifest.metrics["sources"]] == [
        ("books", 3, 1.0)
    ]
    assert only.manifest.counts.reasons["not_in_mix"] == len(TEXTS["crawl"])
    with pytest.raises(UserError, match=r"mix\.budgets\.books: 15 tokens are less than one row of 16"):
        mixed(store, budgets={"books": 15})
    with pytest.raises(UserError, match=r"mix\.budgets: no document of source 'wiki'"):
        mixed(store, budgets={"wiki": 64})
    with pytest.raises(ValueError, match="give one of them"):
        MixConfig(weights={"crawl": 1.0}, budgets={"crawl": 64})


def token_rows(folder: Path, rows: list[list[int]], real: list[int], name: str) -> TokenRows:
    spans = [[{"doc_id": "d", "start": 0, "length": size, "offset": 0}] for size in real]
    columns = {
        "tokens": pa.array(rows, pa.list_(pa.uint16(), len(rows[0]))),
        "spans": pa.array(spans, SEQUENCES.schema.field("spans").type),
        "source": ["crawl"] * len(rows),
        "epoch": pa.array([0] * len(rows), pa.int32()),
    }
    writer = TableWriter(folder / name, "data", SEQUENCES, "mix")
    writer.write(pa.table(columns))
    writer.close()
    return TokenRows.build(InputTable(sorted((folder / name / "data").glob("*.parquet"))), folder / name / "tokens")


def test_padding_carries_no_loss(tmp_path: Path) -> None:
    rows, real = [[5, 6, 7, 8, 9, 1], [3, 4, 0, 0, 0, 0], [2, 9, 4, 7, 0, 0]], [6, 2, 4]
    padded = token_rows(tmp_path, rows, real, "padded")
    ids, mask = padded.batch([1, 2, 3])  # modulo the number of rows
    assert ids.tolist() == [rows[1], rows[2], rows[0]] and mask is not None
    assert mask.sum(1).tolist() == [2, 4, 6] and padded.predicted([1, 2, 3]) == 1 + 3 + 5
    model = build_causal(ModelConfig(layers=1, width=16, heads=2, context=8), 16, seed=0, end_id=0)

    def gradients(*parts: tuple[Any, Any]) -> tuple[float, list[Any]]:
        model.zero_grad()
        losses = [language_loss(model, ids, mask, padded.predicted(range(3))) for ids, mask in parts]
        loss = torch.stack(losses).sum()
        loss.backward()
        return float(loss.detach()), [parameter.grad.clone() for parameter in model.parameters()]

    loss, found = gradients(padded.batch(range(3)))
    other = token_rows(tmp_path, [rows[0], [3, 4, 8, 8, 8, 8], [2, 9, 4, 7, 5, 5]], real, "other")
    alone, own = gradients(*((torch.tensor([row[:size]]), None) for row, size in zip(rows, real, strict=True)))
    assert loss == pytest.approx(alone, rel=1e-5) == pytest.approx(gradients(other.batch(range(3)))[0], rel=1e-5)
    for one, two in zip(found, own, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_rows_without_padding_have_no_mask(tmp_path: Path) -> None:
    whole = token_rows(tmp_path, [[1, 2, 3], [4, 5, 6]], [3, 3], "whole")
    assert whole.batch([0])[1] is None and whole.predicted([0, 1, 2]) == 6
