"""The report on what decontaminate met and cut, what pii replaced, and how mix packed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from artifacts.store import Artifact, Store
from artifacts.tables import DOCUMENTS
from flows.report import write_report
from tasks.decontaminate import STAGE as DECONTAMINATE
from tasks.decontaminate import DecontaminateConfig
from tasks.mix import STAGE as MIX
from tasks.mix import MixConfig
from tasks.pii import STAGE as PII
from tasks.pii import PiiConfig
from tasks.tokenize import STAGE as TOKENIZE
from tasks.tokenize import TokenizeConfig
from tests.flows.test_report import read
from tests.support import make_documents, put_table, run_stage


@pytest.fixture
def mixed(tmp_path: Path) -> Artifact:
    store, quiz = Store(tmp_path / "store"), tmp_path / "quiz.jsonl"
    words = [f"w{number}" for number in range(400)]
    items = [" ".join(words[100:113]), "short", " ".join(words[390:] + words[:10])]
    quiz.write_text("".join(json.dumps({"question": item}) + "\n" for item in items))
    texts = [" ".join(words), "mail a@b.com or c@d.org", "from 93.184.216.34", " ".join(words[200:]), "w380 w381"]
    given = put_table(store, DOCUMENTS, make_documents(texts))
    config = DecontaminateConfig(against=[str(quiz)], window=10, min_piece=0)
    cut = run_stage(DECONTAMINATE, config, store, {"documents": given}).artifact
    replaced = run_stage(PII, PiiConfig(), store, {"documents": cut}).artifact
    tokenizer = run_stage(TOKENIZE, TokenizeConfig(vocab_size=300), store, {"documents": replaced}).artifact
    chosen = MixConfig(packing="best_fit", sequence_length=64, tokens=1280, heldout_fraction=0)
    return run_stage(MIX, chosen, store, {"documents": replaced, "tokenizer": tokenizer}).artifact


def test_sets_kinds_and_packing_are_tables(mixed: Artifact, tmp_path: Path) -> None:
    store = Store(Path(mixed.path).parent.parent)
    page = " ".join(read(write_report(store, mixed, tmp_path / "report.html")).text.split())
    assert "Of 5 documents 1 were cut and 0 dropped" in page
    # Set, items, looked for, met, share, documents, n-grams, met, commonplace, bad records; no space between cells.
    assert "quiz.jsonl" + "3" + "2" + "1" + "50.00%" + "1" + "9" + "1" + "0" + "0" in page
    assert "In 2 of 5 documents. kindreplaceddocuments email21 ipv411 ipv600 phone00" in page
    assert "sourcedocumentschangedreplaced crawl52 40.00%3" in page
    packing = mixed.manifest.metrics["packing"]
    assert f"Packed by best_fit: {packing['padding_share']:.2%} of the tokens are padding" in page
    assert "0.00% belong to documents that were cut" in page
