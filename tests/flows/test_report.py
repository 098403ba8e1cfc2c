"""The report: whatever was run, one page that stands alone, shows the figures, and takes hostile text as text."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from artifacts.store import Artifact, Store
from artifacts.tables import COMPARISONS, METRICS, MODEL, PAIRS
from flows.report import write_report
from flows.report.collect import smooth
from flows.report.write import interval, number, size
from tasks.stage import Stage, StageContext, Summary
from tests.artifacts.chain import ChainConfig, build
from tests.support import run_stage

HOSTILE = '</td></table><script>alert("1")</script><img src=x onerror=alert(2)> {{ 7*7 }} & <b>bold</b> 你好 $x_1$'
VOID = {"meta", "br", "img", "link", "input", "hr", "col"}


class Page(HTMLParser):
    """Counts tags, collects ids and everything that could be fetched, and checks that all tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("src", "href", "xlink:href", "data", "action", "srcset", "poster"):
                self.fetched.append(value or "")
            elif name.startswith("on"):
                self.handlers.append(name)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, (tag, self._open[-3:], self.getpos())
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data


def read(path: Path) -> Page:
    text = path.read_text("utf8")
    page = Page(text)
    assert page.tags["script"] == page.tags["link"] == page.tags["iframe"] == 0 and page.handlers == []
    assert all(place.startswith(("#", "data:")) for place in page.fetched), page.fetched
    assert not re.search(r"url\((?!#)|@import", text)
    assert len(page.ids) == len(set(page.ids))
    for place in page.fetched:
        assert not place.startswith("#") or place[1:] in page.ids
    return page


def mean(value: float) -> dict[str, Any]:
    return {"mean": value, "low": value - 0.5, "high": value + 0.5, "n": 40}


def metric_rows(context: StageContext, curves: dict[str, list[float]]) -> None:
    rows = [
        {"step": step, "name": name, "value": value}
        for name, values in curves.items()
        for step, value in enumerate(values)
    ]
    context.writer("data").write(pa.Table.from_pylist(rows, schema=METRICS.schema))
    context.path("model/model.safetensors").write_bytes(b"x")


def evaluate(context: StageContext) -> Summary:
    messages = [{"role": "user", "content": f"question {HOSTILE}"}]
    rows = [
        {
            "prompt_id": str(n),
            "messages": messages,
            "policy_a": "sft",
            "policy_b": "ppo",
            "response_a": f"answer a{n} {HOSTILE}",
            "response_b": "x" * 3000,
            "reward_a": 0.25,
            "reward_b": 1.25,
        }
        for n in range(12)
    ]
    metric_rows(context, {})
    context.writer("comparisons").write(pa.Table.from_pylist(rows, schema=COMPARISONS.schema))
    roles = ("sft", "ppo", "ppo_without_ptx")
    return Summary(
        metrics={
            "prompts": 40,
            "reward": {**{role: mean(n) for n, role in enumerate(roles)}, "difference": mean(1.0)},
            "kl": {role: {"per_answer": mean(3.0 * n)} for n, role in enumerate(roles) if n},
            "win_rate": {"value": 0.8, "low": 0.65, "high": 0.9, "n": 40, "wins": 30, "ties": 4, "losses": 6},
            "heldout_loss": {
                **{role: {**mean(3.0 + n), "bits_per_byte": 1.5, "perplexity": 20.0} for n, role in enumerate(roles)},
                "difference": {"ppo_minus_ppo_without_ptx": mean(-1.0)},
                "rows": 9,
                "tokens_a_row": 8,
            },
            "multiple_choice": {
                "arc": {"items": 9, "chance": 0.25, "sft": {"value": 0.3, "low": 0.1, "high": 0.6, "n": 9}}
            },
        }
    )


def reward(context: StageContext) -> Summary:
    metric_rows(context, {"train_loss": [0.7 - n / 100 for n in range(40)], "heldout_loss": [0.69, 0.5]})
    accuracy = {"value": 0.75, "low": 0.7, "high": 0.79, "n": 300}
    return Summary(metrics={"heldout_accuracy": {"pairs": accuracy, "groups": {"a": accuracy}}, "final_loss": 0.31})


def ppo(context: StageContext) -> Summary:
    curves = {name: [math.sin(n / 9) for n in range(50)] for name in ("reward", "kl", "ptx_loss")}
    metric_rows(context, curves if context.stage.name == "ppo" else curves | {"ptx_loss": []})
    return Summary(metrics={"final_reward": 0.5})


def dedup_like(context: StageContext) -> Summary:
    pairs = [{"doc_a": "a", "doc_b": "b", "jaccard": n / 20, "accepted": n >= 16} for n in range(21)]
    context.writer("pairs").write(pa.Table.from_pylist(pairs, schema=PAIRS.schema))
    curve = {f"{n / 10:.1f}": 1 - (1 - (n / 10) ** 8) ** 14 for n in range(1, 11)}
    return Summary(metrics={"candidate_probability": curve, "near_duplicates": 5})


def quality_like(context: StageContext) -> Summary:
    edges = [n / 4 for n in range(5)]
    histogram = {"edges": edges, "kept": [1, 2, 3, 4], "dropped": [40, 3, 2, 1], "curated": [0, 0, 1, 9]}
    return Summary(metrics={"rule": "pareto", "histogram": histogram, "heldout": {"auc": 0.9, "precision": 0.0}})


def mix_like(context: StageContext) -> Summary:
    row = {"source": HOSTILE, "documents": 10, "tokens": 1000, "weight": 0.6, "tokens_drawn": 600, "epochs": 0.6}
    return Summary(metrics={"tokens": 2048, "rows": 8, "sequence_length": 256, "sources": [row]})


def more(store: Store) -> list[Artifact]:
    found = []
    for name, run, writes in (
        ("dedup", dedup_like, {"pairs": PAIRS}),
        ("quality", quality_like, {}),
        ("mix", mix_like, {}),
        ("reward", reward, {"data": METRICS, "model": MODEL}),
        ("ppo", ppo, {"data": METRICS, "model": MODEL}),
        ("ppo_without_ptx", ppo, {"data": METRICS, "model": MODEL}),
        ("evaluate", evaluate, {"data": METRICS, "comparisons": COMPARISONS}),
    ):
        stage = Stage(name, 2, ChainConfig, {}, writes, run)
        found.append(run_stage(stage, ChainConfig(), store).artifact)
    return found


def record(artifacts: list[Artifact], **fields: Any) -> dict[str, Any]:
    rows = [
        {"stage": a.stage, "artifact": a.ref, "path": a.path, "reused": n == 0, "seconds": 1.25}
        | a.manifest.counts.model_dump(include={"rows_in", "kept", "dropped", "failed"})
        for n, a in enumerate(artifacts)
    ]
    given = {"run": "20260101-000000-ab", "ok": True, "config": "configs/x.yaml", "started": "2026-01-01T00:00:00Z"}
    return given | {"finished": "2026-01-01T00:01:00Z", "overrides": [], "error": None, "stages": rows} | fields


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.mark.parametrize("until", ["ingest", "dedup", "quality", "mix", "ppo"])
def test_any_part_of_a_pipeline_has_a_report(store: Store, tmp_path: Path, until: str) -> None:
    made = build(store, until=until)
    target = tmp_path / "deep/er/report.html"
    assert write_report(store, record(list(made.values())), target) == target
    page = read(target)
    assert "Could not be shown" not in page.text
    for artifact in made.values():
        assert artifact.ref in page.text
    assert "7 in, 5 kept, 1 dropped, 1 failed" in page.text and "truncated record" in page.text
    assert "CC0-1.0" in page.text and "https://example.org/made.warc.gz" in page.text
    assert "reused" in page.text and "configs/x.yaml" in page.text and "finished" in page.text
    assert list(tmp_path.glob("deep/er/*")) == [target]


def test_the_whole_report_shows_every_figure(store: Store, tmp_path: Path) -> None:
    artifacts = [*build(store, until="ingest").values(), *more(store)]
    page = read(write_report(store, record(artifacts), tmp_path / "r.html"))
    assert "Could not be shown" not in page.text
    for heading in ("Duplicates", "Quality", "The mix", "Reward model", "Reinforcement learning", "Evaluation"):
        assert heading in page.text
    words = " ".join(page.text.split())
    assert "0.8 0.65 to 0.9, n = 40 of them" in words and "30 wins, 4 ties, 6 losses" in words
    assert "held-out loss, PPO-ptx − PPO without ptx" in words and "-1 -1.5 to -0.5, n = 40" in words
    assert "PPO wins against SFT80.0%65.0% to 90.0%, n = 40" in words.replace("SFT ", "SFT")
    assert "2,048 tokens to train on, in 8 rows of 256" in words
    assert "heldout accuracy, pairs" in words and "coin" in words and "precision" in words
    assert page.tags["figure"] == 3 + 1 + 3  # dedup's two and quality's; reward; reward, KL and ptx of PPO
    assert page.tags["svg"] == page.tags["figure"] + 1


def test_hostile_text_stays_text(store: Store, tmp_path: Path) -> None:
    target = write_report(store, record(more(store), config=HOSTILE, error=HOSTILE, ok=False), tmp_path / "r.html")
    page = read(target)  # no script, no handler, all tags closed
    assert page.tags["img"] == 0 and page.tags["b"] < 40
    assert f"answer a0 {HOSTILE}" in page.text and f"question {HOSTILE}" in page.text
    assert "49" not in page.text.split("answer a0")[1][:200]
    assert "answer a7" in page.text and "answer a8" not in page.text
    assert "failed" in page.text


def test_the_report_of_an_artifact_is_of_all_above_it(store: Store, tmp_path: Path) -> None:
    made = build(store)
    page = read(write_report(store, made["quality"], tmp_path / "r.html"))
    for stage in made:
        assert (made[stage].ref in page.text) == (stage in ("ingest", "dedup", "quality"))
    assert "All that this artifact was made from" in page.text and made["quality"].ref in page.text.split("What ran")[0]


def test_a_run_that_failed_at_once_or_lost_its_artifacts(store: Store, tmp_path: Path) -> None:
    page = read(write_report(store, record([], ok=False, error="the crawl is empty"), tmp_path / "r.html"))
    assert "the crawl is empty" in page.text and "What ran" in page.text
    gone = record(list(build(store, until="ingest").values()))
    elsewhere = Store(tmp_path / "empty")
    page = read(write_report(elsewhere, gone, tmp_path / "g.html"))
    assert "No longer in the store: ingest@" in page.text


def test_figures_of_another_shape_are_told_and_do_not_undo_the_rest(store: Store, tmp_path: Path) -> None:
    def run(context: StageContext) -> Summary:
        return Summary(metrics={"histogram": {"edges": 3}})

    odd = run_stage(Stage("quality", 3, ChainConfig, {}, {}, run), ChainConfig(), store).artifact
    made = list(build(store, until="ingest").values())
    page = read(write_report(store, record([*made, odd]), tmp_path / "r.html"))
    assert "Could not be shown: quality: KeyError" in page.text and "truncated record" in page.text


def test_the_same_run_gives_the_same_page(store: Store, tmp_path: Path) -> None:
    given = record([*build(store, until="mix").values(), *more(store)])
    first = write_report(store, given, tmp_path / "a.html").read_bytes()
    time.sleep(1.1)
    assert write_report(store, given, tmp_path / "b.html").read_bytes() == first


def test_figures_take_the_pages_colours(store: Store, tmp_path: Path) -> None:
    text = write_report(store, record(more(store)), tmp_path / "r.html").read_text()
    plots = re.findall(r'<svg role="img".*?</svg>', text, flags=re.DOTALL)
    assert plots and all("var(--ink)" in plot for plot in plots)
    assert not re.search(r"#0102\d\d", text)
    assert all('aria-label="' in plot for plot in plots)


def test_numbers_for_reading() -> None:
    assert [number(v) for v in (None, 0, 1234567, 2.0, 0.123456, 12345.678, True)] == [
        "–",
        "0",
        "1,234,567",
        "2",
        "0.1235",
        "12,346",
        "True",
    ]
    assert interval({"mean": 1.0, "low": None, "high": None, "n": 1}) == "n = 1"
    assert interval({"value": 0.5, "low": 0.25, "high": 0.75, "n": 1200}, percent=True) == "25.0% to 75.0%, n = 1,200"
    assert [size(v) for v in (0, 1023, 1536, 5 * 2**30)] == ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]
    assert smooth([1.0, 2.0, 3.0, 4.0], 2) == [1.0, 1.5, 2.5, 3.5]
