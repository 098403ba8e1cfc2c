"""The audit questions as one would answer them without crawl2chat: pandas and pyarrow over the same Parquet files.

    python benchmarks/million/peers.py QUESTION STORE ARGUMENT…

prints the one figure by which the benchmark sees that both give the same answer. Each is told which folders to read,
which crawl2chat must find out for itself; and URLs are compared as they are spelt.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq

CHAIN = ("ingest", "dedup", "quality", "decontaminate", "tokenize", "mix")


def only(store: Path, stage: str, recipe: str = "") -> Path:
    return next(folder for folder in sorted((store / stage).iterdir()) if folder.name.startswith(recipe))


def table(folder: Path, name: str, columns: list[str]) -> pd.DataFrame:
    return pd.concat(pd.read_parquet(path, columns=columns) for path in sorted((folder / name).glob("*.parquet")))


def why(store: Path, url: str, mix: str) -> int:
    """The number of decisions about a page."""
    first = table(only(store, "ingest"), "decisions", ["doc_id", "url", "kept", "reason", "score"])
    ids = first[first["url"] == url]["doc_id"]
    found = len(ids)
    for stage in CHAIN[1:]:
        folder = only(store, stage, mix if stage == "mix" else "")
        rows = table(folder, "decisions", ["doc_id", "kept", "reason", "score", "threshold", "detail"])
        found += int(rows["doc_id"].isin(ids).sum())
    return found


def spans(folder: Path) -> pd.DataFrame:
    """A row a span: row, doc_id, length."""
    lists = pq.read_table(folder / "data", columns=["spans"])["spans"].combine_chunks()
    flat = pc.list_flatten(lists)
    return pd.DataFrame(
        {
            "row": pc.list_parent_indices(lists).to_numpy(),
            "doc_id": flat.field("doc_id").to_pandas(),
            "length": flat.field("length").to_numpy(),
        }
    )


def trace_page(store: Path, url: str) -> int:
    """The number of rows of training that hold a page, of both tables of sequences."""
    documents = table(only(store, "ingest"), "data", ["doc_id", "url"])
    ids = documents[documents["url"] == url]["doc_id"]
    holding = [spans(folder) for folder in sorted((store / "mix").iterdir())]
    return sum(found[found["doc_id"].isin(ids)]["row"].nunique() for found in holding)


def trace_model(store: Path, mix: str, reads: str) -> int:
    """The tokens that a model and those before it have read, added up over the files that they came from."""
    found = spans(only(store, "mix", mix))
    rows, often = int(found["row"].max()) + 1, 0
    for first_row, rows_per_step, steps in json.loads(reads):
        distance = (np.arange(rows) - first_row) % rows
        often = often + np.maximum(0, -((distance - rows_per_step * steps) // rows))
    found["tokens"] = found["length"] * often[found["row"]]
    tokens = found[found["tokens"] > 0].groupby("doc_id", as_index=False)["tokens"].sum()
    documents = table(only(store, "ingest"), "data", ["doc_id", "warc_file", "source"])
    by_file = tokens.merge(documents, on="doc_id").groupby(["warc_file", "source"])["tokens"].agg(["size", "sum"])
    return int(by_file["sum"].sum())


def trace_prompt(store: Path, prompt_id: str) -> int:
    """The rollouts of a prompt, after a look at all other tables that hold prompts."""
    for stage in ("demonstrations", "sample", "label"):
        table(only(store, stage), "data", ["prompt_id"])["prompt_id"].eq(prompt_id).sum()
    folders = (only(store, stage) for stage in ("ppo", "ppo_without_ptx"))
    steps = pd.concat(table(folder, "rollouts", ["prompt_id", "step"]) for folder in folders)
    return int(steps[steps["prompt_id"] == prompt_id]["step"].nunique())


def diff(store: Path, before: str, after: str) -> int:
    """The rows that differ between two tables of sequences."""
    tables = [pq.read_table(only(store, "mix", recipe) / "data").to_pandas() for recipe in (before, after)]
    first, second = (t["tokens"].map(bytes) + t["spans"].map(lambda s: repr(list(s)).encode()) for t in tables)
    return int((first.to_numpy() != second.to_numpy()).sum())


QUESTIONS: dict[str, Callable[..., int]] = {
    "why": why,
    "trace_page": trace_page,
    "trace_model": trace_model,
    "trace_prompt": trace_prompt,
    "diff": diff,
}

if __name__ == "__main__":
    sys.stdout.write(f"{QUESTIONS[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])}\n")
