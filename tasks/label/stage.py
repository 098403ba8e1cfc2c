"""The label stage: from preference files and sampled answers to one table of rankings.

InstructGPT's labelers rank K = 4 to 9 answers to a prompt, ties encouraged (Ouyang et al. 2022, section 3). Files that
hold such rankings, or pairs of a chosen and a rejected answer, are read as they are; answers of the `sample` stage are
ranked by people or by the simulated annotator, if the config asks for it. Every record and every
sampled prompt has its decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from artifacts.errors import RunError, UserError
from artifacts.sources import Source, resolve_sources
from artifacts.store import Artifact
from artifacts.tables import DECISIONS, RANKINGS, SAMPLES
from tasks.label import people, simulated
from tasks.label.agreement import agreement
from tasks.label.config import LabelConfig
from tasks.label.files import Entry, rankings_of, read_entries
from tasks.stage import Stage, StageContext, Summary
from tasks.text.hashing import unit_interval


def _sources(config: LabelConfig) -> list[Source]:
    return resolve_sources(config.data, "preferences") if config.data else []


def _input_sources(config: LabelConfig, inputs: Mapping[str, Sequence[Artifact]]) -> list[Source]:
    return people.ranking_sources(inputs.get("samples", ())) if config.annotator == "people" else []


def run(context: StageContext) -> Summary:
    """Write rankings and decisions; the metrics count rankings, pairs and ties and give the annotators' agreement."""
    config: LabelConfig = context.config
    if not context.sources and not context.inputs.get("samples"):
        raise UserError("label: nothing to rank: give preference files in label.data, or samples as an input")
    rows: list[dict[str, Any]] = []
    decisions: list[dict[str, Any]] = []
    files = [source for source in context.sources if not people.is_ranking(source)]
    for number, source in enumerate(files):
        context.progress(number, len(files), "preference files")
        entries = read_entries(source)
        if not any(entry.judged for entry in entries) and not any(e.reason == "no_preference" for e in entries):
            first = f"; the first: {entries[0].detail}" if entries else ""
            raise UserError(f"label: {source.name} holds no preference ({len(entries)} records{first})")
        rows += rankings_of(source, entries, config.heldout_fraction, context.seed)
        decisions += [_decision(entry) for entry in entries]
    ranked = _by_people if config.annotator == "people" else _sampled
    for found, decision in ranked(context):
        rows += found
        decisions.append(decision)
    context.writer("data").write(pa.Table.from_pylist(rows, schema=RANKINGS.schema))
    context.writer("decisions").write(pa.Table.from_pylist(decisions, schema=DECISIONS.schema))
    return Summary(metrics=_metrics(rows))


def _by_people(context: StageContext) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Rankings and decision of each record of people's files, then of each sampled prompt."""
    config: LabelConfig = context.config
    samples = [row for batch in context.input("samples").batches(SAMPLES.schema.names) for row in batch.to_pylist()]
    sources = [source for source in context.sources if people.is_ranking(source)]
    rows, entries = people.read_rankings(sources, samples, context.seed)
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_prompt.setdefault(row["prompt_id"], []).append(row)
    standing = people.standing(samples, by_prompt, config.wanted)
    if not standing.ready:
        raise RunError(
            f"label: {standing.ranked} of {standing.needed} wanted prompts are ranked in "
            f"{people.FOLDER}/{context.inputs['samples'][0].recipe}"
        )
    for entry in entries:
        yield [], _decision(entry)
    for sample in samples:
        entry = Entry(sample["prompt_id"], None)
        if len(set(sample["responses"])) < 2:
            entry.reason, entry.detail = "no_preference", "all answers are the same text"
        elif sample["prompt_id"] not in by_prompt:
            entry.reason = "not_ranked"
        yield by_prompt.get(sample["prompt_id"], []), _decision(entry, kept=sample["prompt_id"] in by_prompt)


def _sampled(context: StageContext) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Rankings and decision of each prompt of the `samples` input."""
    if not context.inputs.get("samples"):
        return
    table = context.input("samples")
    total, done = table.rows, 0
    for batch in table.batches(SAMPLES.schema.names):
        for sample in batch.to_pylist():
            entry = Entry(sample["prompt_id"], None)
            rows: list[dict[str, Any]] = []
            if context.config.annotator == "none":
                entry.reason = "no_annotator"
            elif len(set(sample["responses"])) < 2:
                entry.reason, entry.detail = "no_preference", "all answers are the same text"
            else:
                rows = _simulate(sample, context.config, context.seed)
            yield rows, _decision(entry, kept=bool(rows))
        done += batch.num_rows
        context.progress(done, total, "ranking samples")


def _simulate(sample: dict[str, Any], config: LabelConfig, seed: int) -> list[dict[str, Any]]:
    ended = dict(zip(reversed(sample["responses"]), reversed(sample["ended"]), strict=True))
    answers = list(dict.fromkeys(sample["responses"]))
    names = [simulated.NAME]
    if unit_interval(sample["prompt_id"], seed, "second-opinion") < config.second_opinions:
        names.append(f"{simulated.NAME}-2")
    rows = []
    for name in names:
        ranks, _ = simulated.rank(
            sample["messages"][-1]["content"],
            answers,
            [ended[answer] for answer in answers],
            annotator=name,
            seed=seed,
            noise=config.noise,
            target_words=config.target_words,
            step=config.step,
        )
        rows.append(
            {
                "prompt_id": sample["prompt_id"],
                "messages": sample["messages"],
                "responses": answers,
                "ranks": ranks,
                "annotator": name,
                "axis": "helpful",
                "policy": [sample["policy"]] * len(answers),
                "source": sample["source"],
                "split": sample["split"],
            }
        )
    return rows


def _decision(entry: Entry, kept: bool | None = None) -> dict[str, Any]:
    return {
        "doc_id": entry.key,
        "kept": entry.judged is not None if kept is None else kept,
        "failed": entry.failed,
        "reason": entry.reason or None,
        "detail": entry.detail or None,
    }


def _metrics(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts of rankings, of pairs with a better answer and of tied pairs, overall and by source and axis."""
    pairs = ties = 0
    for row in rows:
        strict = sum(a != b for i, a in enumerate(row["ranks"]) for b in row["ranks"][i + 1 :])
        pairs += strict
        ties += len(row["ranks"]) * (len(row["ranks"]) - 1) // 2 - strict
    return {
        "rankings": len(rows),
        "prompts": len({row["prompt_id"] for row in rows}),
        "pairs": pairs,
        "tied_pairs": ties,
        "heldout_rankings": sum(row["split"] == "heldout" for row in rows),
        "simulated_rankings": sum(row["annotator"].startswith(simulated.NAME) for row in rows),
        "annotators": len({row["annotator"] for row in rows}),
        "by_responses": _count(str(len(row["responses"])) for row in rows),
        "by_source": _count(f"{row['source']}/{row['axis']}" for row in rows),
        "agreement": agreement(rows),
    }


def _count(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


STAGE = Stage(
    name="label",
    version=2,
    config=LabelConfig,
    reads={"samples": SAMPLES},
    writes={"data": RANKINGS, "decisions": DECISIONS},
    run=run,
    optional=frozenset({"samples"}),
    sources=_sources,
    input_sources=_input_sources,
)
