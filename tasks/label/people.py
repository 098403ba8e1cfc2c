"""People rank sampled answers: what they are handed, where their rankings lie, how these are matched to the samples.

`<store>/labelling/<recipe of the samples>/` holds `to_rank.jsonl` with a README, and every `rankings*.jsonl` that
people put there. The rankings are sources of the label stage: their content is in its recipe, as that of any file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from artifacts.sources import Source
from artifacts.store import Artifact
from tasks.label.files import Entry, rankings_of, read_entries
from tasks.text.hashing import unit_interval
from tasks.text.records import prompt_id

FOLDER = "labelling"
TO_RANK = "to_rank.jsonl"
PEOPLE = "people"

README = """# Rankings wanted

`{to_rank}` has a prompt a line with {answers} answers, in an order that says nothing about where they come from.
Copy it to `rankings-NAME.jsonl` in this folder, NAME being yours, and in each line replace `"ranks": null` by the ranks
of the answers, in the order in which they stand: 1 is best, and equal answers share a rank (`"ranks": [2, 1, 2, 4]`).

Lines that are left as they are count as not ranked yet. A line of the form
`{{"messages": […], "output": [best, …, worst]}}` does as well. Several people may rank the same prompts, each in a file
of their own, or with `"annotator": "NAME"` in the line. Where one person ranks a prompt twice, the later line counts.

The run goes on by itself once enough prompts are ranked. On the command line, the same command goes on from there.
"""


@dataclass(frozen=True)
class Standing:
    """How far the labelling of some samples is: prompts ranked, prompts wanted, prompts there are."""

    ranked: int
    needed: int
    prompts: int

    @property
    def ready(self) -> bool:
        return self.ranked >= self.needed


def folder_of(samples: Artifact) -> str:
    """Where people find the samples and leave their rankings, relative to the store."""
    return f"{FOLDER}/{samples.recipe}"


def ranking_sources(artifacts: Sequence[Artifact]) -> list[Source]:
    """The files of rankings that lie beside these samples, in the order of their names."""
    found = []
    for samples in artifacts:
        store, folder = samples.store, folder_of(samples)
        for name in store.list_dir(folder):
            if name.startswith("rankings") and name.endswith(".jsonl"):
                path = Path(f"{store.root}/{folder}/{name}")
                if store.remote:
                    path = store.scratch_root() / "copies" / folder / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(store.read_bytes(f"{folder}/{name}"))
                digest, size = store.digest(f"{folder}/{name}")
                options = (("samples", samples.recipe),)
                found.append(Source(name, path, digest, size, PEOPLE, role="rankings", options=options))
    return found


def is_ranking(source: Source) -> bool:
    """Whether it is one of `ranking_sources`, and not a file that the config names."""
    return source.source == PEOPLE and source.option("samples") is not None


def hand_out(samples: Artifact, rows: Iterable[Mapping[str, Any]]) -> str:
    """Write what people are to rank, with a README; a second time writes the same bytes. Returns the folder's path."""
    store, folder = samples.store, folder_of(samples)
    lines, most = [], 0
    for row in rows:
        answers = _shuffled(row)
        if len(answers) > 1:
            most = max(most, len(answers))
            line = {
                "prompt_id": row["prompt_id"],
                "messages": row["messages"],
                "responses": answers,
                "ranks": None,
            }
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    for name, text in ((TO_RANK, "".join(lines)), ("README.md", README.format(to_rank=TO_RANK, answers=most))):
        if not store.holds(f"{folder}/{name}"):
            store.write_text(f"{folder}/{name}", text)
    return store.join(folder)


def _shuffled(row: Mapping[str, Any]) -> list[str]:
    """The distinct answers, in an order by hash."""
    return sorted(
        {answer.strip() for answer in row["responses"]},
        key=lambda answer: (unit_interval(f"{row['prompt_id']}\0{answer}", 0, "to-rank"), answer),
    )


def standing_of(samples: Artifact, wanted: float) -> tuple[Standing, list[dict[str, Any]]]:
    """How far the labelling of an artifact of samples is, and its rows."""
    rows = [row for path in samples.files("data") for row in pq.read_table(path).to_pylist()]
    found, _ = read_rankings(ranking_sources([samples]), rows, 0)
    return standing(rows, (row["prompt_id"] for row in found), wanted), rows


def standing(rows: Sequence[Mapping[str, Any]], ranked: Iterable[str], wanted: float) -> Standing:
    """How many of these samples are ranked, and how many must be.

    Args:
        ranked: prompt_ids with a ranking.
        wanted: a share of the prompts (up to 1), or their number.
    """
    can = {row["prompt_id"] for row in rows if len({answer.strip() for answer in row["responses"]}) > 1}
    needed = math.ceil(wanted * len(can)) if wanted <= 1 else min(int(wanted), len(can))
    return Standing(len(can & set(ranked)), needed, len(can))


def read_rankings(
    sources: Sequence[Source], rows: Sequence[Mapping[str, Any]], seed: int
) -> tuple[list[dict[str, Any]], list[Entry]]:
    """The rankings that people gave of these samples, and an entry a record of their files.

    A record that names no prompt or no answer of the samples fails, with its place; one without ranks is `not_ranked`;
    one that its annotator has replaced by a later one is `superseded`.
    """
    known = {row["prompt_id"]: row for row in rows}
    groups = [
        (source, [_matched(entry, known) for entry in read_entries(source, needs_ranks=True)]) for source in sources
    ]
    last: dict[tuple[str, str], Entry] = {}
    for source, entries in groups:
        for entry in entries:
            if entry.judged is not None and not entry.judged.pairwise:
                key = (prompt_id(entry.judged.messages), entry.judged.annotator or _annotator(source))
                if (before := last.get(key)) is not None:
                    before.judged, before.reason = None, "superseded"
                last[key] = entry
    found = []
    for source, entries in groups:
        named = replace(source, options=(("annotator", _annotator(source)),))
        for ranking in rankings_of(named, entries, 0.0, seed):
            sample = known[ranking["prompt_id"]]
            policy = [sample["policy"]] * len(ranking["responses"])
            found.append({**ranking, "policy": policy, "source": sample["source"], "split": sample["split"]})
    return found, [entry for _, entries in groups for entry in entries]


def _annotator(source: Source) -> str:
    """Whose file it is: rankings-anna.jsonl is anna's."""
    return source.name.removeprefix("rankings").removesuffix(".jsonl").strip("-_.") or PEOPLE


def _matched(entry: Entry, known: Mapping[str, Mapping[str, Any]]) -> Entry:
    if entry.judged is None:
        return entry
    sample = known.get(prompt_id(entry.judged.messages))
    if sample is None:
        return _bad(entry, "no prompt of the samples")
    answers = {answer.strip(): answer for answer in reversed(sample["responses"])}
    for number, answer in enumerate(entry.judged.responses, start=1):
        if answer not in answers:
            return _bad(entry, f"answer {number} is none of this prompt's samples")
    return replace(
        entry, judged=replace(entry.judged, responses=[answers[answer] for answer in entry.judged.responses])
    )


def _bad(entry: Entry, problem: str) -> Entry:
    return Entry(entry.key, None, "bad_record", f"{entry.detail}: {problem}", failed=True)
