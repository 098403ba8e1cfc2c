"""The label stage: from preference files and sampled answers to one table of rankings.

InstructGPT's labelers rank K = 4 to 9 answers to a prompt, ties encouraged (Ouyang et al. 2022, section 3). Files that
hold such rankings, or pairs of a chosen and a rejected answer, are read as they are; answers of the `sample` stage are
ranked by the simulated annotator if the config asks for it. Every record and every sampled prompt has its decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from artifacts.errors import UserError
from artifacts.sources import Source, resolve_sources
from artifacts.tables import DECISIONS, RANKINGS, SAMPLES
from tasks.label import simulated
from tasks.label.agreement import agreement
from tasks.label.formats import Judged, read_preference
from tasks.label.merge import merge
from tasks.stage import Stage, StageConfig, StageContext, Summary, outside_recipe
from tasks.text.hashing import split_of, unit_interval
from tasks.text.records import BadRecord, opening_id, prompt_id, read_records


class LabelConfig(StageConfig):
    """Where rankings come from."""

    data: list[str] = outside_recipe(
        [], title="Preference files", description="Data manifests, paths or URLs of files with preferences."
    )
    annotator: Literal["none", "simulated"] = Field(
        "none", title="Annotator of samples", description="Who ranks the sampled answers; `simulated` is a program."
    )
    target_words: int = Field(
        20, ge=1, title="Wanted length", description="Words an answer should have for the simulated annotator."
    )
    noise: float = Field(
        0.25, ge=0, title="Noise", description="Half the width of the uniform noise on the simulated annotator's score."
    )
    step: float = Field(
        0.25, gt=0, title="Step", description="The simulated score is rounded to this; equal ones are tied."
    )
    second_opinions: float = Field(
        0.1,
        ge=0,
        le=1,
        title="Second opinions",
        description="Share of prompts that a second simulated annotator ranks too, to measure agreement.",
    )
    heldout_fraction: float = Field(
        0.1, ge=0, lt=1, title="Held-out prompts", description="Share of the files' prompts kept out of training."
    )


@dataclass
class _Entry:
    """One record or sampled prompt on its way: the row of its ranking if it is kept, and its decision."""

    key: str
    judged: Judged | None
    reason: str = ""
    detail: str = ""
    failed: bool = False


def _sources(config: LabelConfig) -> list[Source]:
    return resolve_sources(config.data, "preferences") if config.data else []


def run(context: StageContext) -> Summary:
    """Write rankings and decisions; the metrics count rankings, pairs and ties and give the annotators' agreement."""
    config: LabelConfig = context.config
    if not context.sources and not context.inputs.get("samples"):
        raise UserError("label: nothing to rank: give preference files in label.data, or samples as an input")
    rows: list[dict[str, Any]] = []
    decisions: list[dict[str, Any]] = []
    for number, source in enumerate(context.sources):
        context.progress(number, len(context.sources), "preference files")
        entries = _read(source)
        if not any(entry.judged for entry in entries) and not any(e.reason == "no_preference" for e in entries):
            first = f"; the first: {entries[0].detail}" if entries else ""
            raise UserError(f"label: {source.name} holds no preference ({len(entries)} records{first})")
        rows += _rankings(source, entries, config.heldout_fraction, context.seed)
        decisions += [_decision(entry) for entry in entries]
    for found, decision in _sampled(context):
        rows += found
        decisions.append(decision)
    context.writer("data").write(pa.Table.from_pylist(rows, schema=RANKINGS.schema))
    context.writer("decisions").write(pa.Table.from_pylist(decisions, schema=DECISIONS.schema))
    return Summary(metrics=_metrics(rows))


def _read(source: Source) -> list[_Entry]:
    """One entry a record of the file, in its order."""
    entries = []
    for record in read_records(source.path, source.name):
        place = f"{record.file}:{record.line}"
        key = blake2b(f"{source.sha256}:{record.line}".encode(), digest_size=16).hexdigest()
        if isinstance(record, BadRecord):
            entries.append(_Entry(key, None, "bad_record", f"{place}: {record.problem}", failed=True))
            continue
        try:
            judged = _distinct(read_preference(record.value))
        except ValueError as error:
            entries.append(_Entry(key, None, "bad_record", f"{place}: {error}", failed=True))
            continue
        if len(judged.responses) < 2:
            entries.append(_Entry(key, None, "no_preference", f"{place}: all answers are the same text"))
        else:
            entries.append(_Entry(key, judged, detail=place))
    return entries


def _distinct(judged: Judged) -> Judged:
    """Without answers that repeat another one's text: the better place counts."""
    order = sorted(range(len(judged.responses)), key=lambda index: judged.ranks[index])
    best: dict[str, int] = {}
    for index in order:
        best.setdefault(judged.responses[index], index)
    kept = sorted(best.values())
    return replace(
        judged,
        responses=[judged.responses[index] for index in kept],
        ranks=[judged.ranks[index] for index in kept],
        policy=[judged.policy[index] for index in kept] if judged.policy else [],
    )


def _rankings(source: Source, entries: list[_Entry], heldout_fraction: float, seed: int) -> list[dict[str, Any]]:
    """The rows of a file; judgements of pairs by one person on one prompt become one ranking where they allow it."""
    groups: dict[tuple[str, ...], list[Judged]] = {}
    for number, entry in enumerate(entries):
        if entry.judged is None:
            continue
        judged = entry.judged
        identity = prompt_id(judged.messages)
        if judged.pairwise and judged.annotator is not None:
            groups.setdefault((identity, judged.annotator), []).append(judged)
        else:
            groups[(identity, "", str(number))] = [judged]
    rows = []
    for (identity, *_), members in groups.items():
        split = split_of(opening_id(members[0].messages), seed, heldout_fraction)
        for judged in _merged(members):
            rows.append(
                {
                    "prompt_id": identity,
                    "messages": judged.messages,
                    "responses": judged.responses,
                    "ranks": judged.ranks,
                    "annotator": judged.annotator or str(source.option("annotator", "unknown")),
                    "axis": str(source.option("axis", "helpful")),
                    "policy": judged.policy,
                    "source": source.source,
                    "split": split,
                }
            )
    return rows


def _merged(members: list[Judged]) -> list[Judged]:
    if len(members) == 1:
        return members
    ranking = merge([(m.responses[0], m.responses[1], m.ranks[0] - m.ranks[1]) for m in members])
    if ranking is None:
        return members
    policies = {
        answer: name for member in members for answer, name in zip(member.responses, member.policy, strict=False)
    }
    named = len(policies) == len(ranking)
    return [
        replace(
            members[0],
            responses=list(ranking),
            ranks=list(ranking.values()),
            policy=[policies[answer] for answer in ranking] if named else [],
        )
    ]


def _sampled(context: StageContext) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Rankings and decision of each prompt of the `samples` input."""
    if not context.inputs.get("samples"):
        return
    table = context.input("samples")
    total, done = table.rows, 0
    for batch in table.batches(SAMPLES.schema.names):
        for sample in batch.to_pylist():
            entry = _Entry(sample["prompt_id"], None)
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


def _decision(entry: _Entry, kept: bool | None = None) -> dict[str, Any]:
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
)
