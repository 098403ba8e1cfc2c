"""takedown, plan, run, trace and gc by command line on one real pipeline; and two runs beside gc on one store."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from artifacts.audit.verify import verify
from artifacts.errors import RunError
from artifacts.gc import gc
from artifacts.lineage import takedown
from artifacts.store import Artifact, Store
from tests.flows.test_pipeline import crawl2chat, said, write_config
from tests.support import read_rows
from tests.warcs import CRAWL, CURATED, write_warc

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "model": {"architecture": "gpt2", "layers": 1, "width": 16, "heads": 2, "context": 64},
    "batch_tokens": 512,
    "steps": 8,
    "launcher": {"starter": "none", "threads": 1},
}
NOTE = "http://notes.example/gone"


@dataclass
class Loop:
    """What was said on the way: first run, takedown, plan, second run."""

    folder: Path
    config: str
    first: dict[str, Any] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    second: dict[str, Any] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)  # what was taken down: name to URL
    twin: str = ""  # the duplicate of one of them

    @property
    def store(self) -> Store:
        return Store(self.folder / "store")

    def made(self, run: dict[str, Any]) -> dict[str, Artifact]:
        return {row["stage"]: self.store.resolve(f"{row['artifact']}") for row in run["stages"]}


def notes(folder: Path) -> str:
    """A curated text source, whose documents have URLs but were never fetched."""
    rows = [{"url": NOTE, "text": "The harbor stone is under the winter bridge. " * 20}]
    rows += [
        {"url": f"http://notes.example/{n}", "text": f"Lemma {n} bounds the norm of the kernel. " * 20}
        for n in range(3)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "notes.jsonl").write_text(text)
    file = {
        "name": "notes.jsonl",
        "url": "notes.jsonl",
        "bytes": len(text),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    manifest = {"name": "notes", "role": "curated", "licence": "CC0-1.0", "format": "jsonl", "files": [file]}
    (folder / "notes.yaml").write_text(yaml.safe_dump(manifest))
    return str(folder / "notes.yaml")


def pick(loop: Loop) -> None:
    """A page that training read, one in whose favour another was dropped, and a note."""
    made = loop.made(loop.first)
    urls = {row["doc_id"]: row["url"] for row in read_rows(made["ingest"])}
    read = [span["doc_id"] for row in read_rows(made["mix"])[:8] for span in row["spans"]]
    dropped = {row["detail"]: row["doc_id"] for row in read_rows(made["dedup"], "decisions") if not row["kept"]}
    survivor = next(doc_id for doc_id in dropped if urls[doc_id].startswith("http://crawl"))
    trained = next(doc_id for doc_id in read if doc_id not in dropped and doc_id in urls and urls[doc_id] != NOTE)
    loop.pages = {"trained": urls[trained], "survivor": urls[survivor], "note": NOTE}
    loop.twin = urls[dropped[survivor]]


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    folder = tmp_path_factory.mktemp("takedown")
    write_warc(folder / "a.warc.gz", CRAWL, 40, 1, "crawl.example")
    write_warc(folder / "b.warc.gz", CURATED, 30, 2, "curated.example")
    ingest = {"paths": [str(folder / "*.warc.gz")], "manifests": [notes(folder)], "languages": []}
    found = Loop(folder, write_config(folder, ingest=ingest, pretrain=TINY))
    found.first = said(crawl2chat(folder, "run", found.config, "--json"))
    pick(found)
    # Any spelling of a URL, a doc_id's page by its URL without a scheme, and an entry that names nothing.
    lines = [
        found.pages["trained"].upper().replace("HTML", "html"),
        found.pages["survivor"].removeprefix("http://"),
        NOTE,
    ]
    (folder / "gone.txt").write_text(
        "# asked by their owners\n" + "".join(f"{line}\n" for line in [*lines, "no.example"])
    )
    dry = said(crawl2chat(folder, "takedown", "--urls", str(folder / "gone.txt"), "--dry-run", "--json"))
    assert (dry["rebuild"], dry["request"]) == (None, None) and not (folder / "store/takedown").exists()
    words = ("--urls", str(folder / "gone.txt"), "--reason", "asked by their owners", "--json")
    found.said = said(crawl2chat(folder, "takedown", *words))
    unwritten = {"blocklist", "rebuild", "request", "entries", "dry_run"}
    assert {k: v for k, v in dry.items() if k not in unwritten} == {
        k: v for k, v in found.said.items() if k not in unwritten
    }
    found.plan = said(crawl2chat(folder, "plan", found.config, "--json"))
    found.second = said(crawl2chat(folder, "run", found.config, "--json"))
    return found


def test_takedown_names_pages_artifacts_and_models(loop: Loop) -> None:
    found, made = loop.said, loop.made(loop.first)
    assert {page["url"] for page in found["documents"]} == set(loop.pages.values())
    assert all(page["held"] and page["artifacts"] == [made["ingest"].ref] for page in found["documents"])
    assert sorted(found["artifacts"]) == sorted(artifact.ref for artifact in made.values())
    assert found["unmatched"] == ["no.example"]
    (model,) = found["models"]
    trace = said(crawl2chat(loop.folder, "trace", loop.pages["trained"], "--json"))
    assert (model["artifact"], model["replaced_by"]) == (made["pretrain"].ref, None)
    assert (
        model["first_step"] <= trace["models"][0]["first_step"] and model["tokens"] >= trace["models"][0]["tokens"] > 0
    )


def test_takedown_writes_a_list_and_who_asked(loop: Loop) -> None:
    path = Path(loop.said["blocklist"])
    assert path == loop.folder / "store/takedown/blocklist.txt"
    assert len(path.read_text().splitlines()) == loop.said["entries"] == 4
    request = json.loads((path.parent / f"{loop.said['request']['id']}.json").read_text())
    assert request == loop.said["request"] and request["reason"] == "asked by their owners"
    assert request["user"] and request["at"].endswith("Z")


def test_takedown_warns_of_the_duplicate_that_comes_back(loop: Loop) -> None:
    (back,) = [page for page in loop.said["returning"] if page["url"] == loop.twin]
    survivor = next(page for page in loop.said["documents"] if page["url"] == loop.pages["survivor"])
    assert back["survivor"] == survivor["doc_id"] and back["score"] > 0.8
    kept = {row["url"] for row in read_rows(loop.made(loop.second)["dedup"])}
    assert loop.twin in kept and loop.pages["survivor"] not in kept
    # Taken the other way round: the page that stays is named where its duplicate is taken down.
    other = takedown(loop.store, [loop.twin], dry_run=True)
    assert loop.pages["survivor"] in {page["url"] for page in other["copies"]}


def test_what_takedown_says_must_be_rebuilt_is_what_plan_says_and_run_does(loop: Loop) -> None:
    assert loop.said["rebuild"] == loop.plan["stages"]
    assert loop.said["config"] == {"path": loop.config, "overrides": [], "run": loop.first["run"], "note": None}
    first, *rest = loop.plan["stages"]
    assert (first["stage"], first["status"]) == ("ingest", "build")
    assert first["because"].endswith("blocklist changed")
    assert {step["status"] for step in rest} == {"unknown"}
    assert loop.second["stages"][0]["artifact"] == f"ingest@{first['recipe']}"
    assert not any(row["reused"] for row in loop.second["stages"])
    assert {step["status"] for step in said(crawl2chat(loop.folder, "plan", loop.config, "--json"))["stages"]} == {
        "reuse"
    }


def test_the_next_run_holds_the_pages_nowhere(loop: Loop) -> None:
    made = loop.made(loop.second)
    dropped = {row["url"]: row["reason"] for row in read_rows(made["ingest"], "decisions") if not row["kept"]}
    assert {dropped[url] for url in loop.pages.values()} == {"blocklist"}
    gone = {page["doc_id"] for page in loop.said["documents"]}
    for name in ("ingest", "dedup", "quality", "decontaminate"):
        assert not gone & {row["doc_id"] for row in read_rows(made[name])}
    spans = [
        span["doc_id"]
        for table in ("data", "heldout")
        for row in read_rows(made["mix"], table)
        for span in row["spans"]
    ]
    assert spans and not gone & set(spans)


def test_trace_and_why_tell_old_from_new(loop: Loop) -> None:
    old, new = loop.made(loop.first), loop.made(loop.second)
    trace = said(crawl2chat(loop.folder, "trace", loop.pages["trained"], "--json"))
    (page,) = trace["documents"]
    assert page["taken_down"] == loop.said["request"]["at"]
    assert {row["artifact"] for row in page["sequences"]} == {old["mix"].ref}
    assert [(model["artifact"], model["replaced_by"]) for model in trace["models"]] == [
        (old["pretrain"].ref, new["pretrain"].ref)
    ]
    assert not {a.ref for a in new.values()} & set(json.dumps(trace).replace('"', " ").split()) - {new["pretrain"].ref}
    (told,) = said(crawl2chat(loop.folder, "why", loop.pages["trained"], "--json"))["documents"]
    assert [(step["artifact"], step["reason"]) for step in told["fate"]] == [(new["ingest"].ref, "blocklist")]
    text = crawl2chat(loop.folder, "trace", loop.pages["trained"]).stdout
    assert "taken down" in text and f"replaced by {new['pretrain'].ref}" in text
    again = said(crawl2chat(loop.folder, "takedown", "--urls", str(loop.folder / "gone.txt"), "--dry-run", "--json"))
    assert sorted(again["artifacts"]) == sorted(a.ref for a in old.values())
    assert [model["replaced_by"] for model in again["models"]] == [new["pretrain"].ref]


def test_naming_the_list_in_the_config_changes_nothing(loop: Loop) -> None:
    words = ("plan", loop.config, "--set", f"ingest.blocklist={loop.said['blocklist']}", "--json")
    assert {step["status"] for step in said(crawl2chat(loop.folder, *words))["stages"]} == {"reuse"}


def test_diff_shows_the_takedown(loop: Loop) -> None:
    old, new = loop.made(loop.first)["ingest"], loop.made(loop.second)["ingest"]
    found = said(crawl2chat(loop.folder, "diff", old.ref, new.ref, "--json"))
    assert (found["config"], [row["name"] for row in found["sources"]["added"]]) == ([], ["blocklist.txt"])
    assert found["reasons"] == [{"name": "blocklist", "a": 0, "b": 3, "delta": 3}]
    tables = {table["table"]: table for table in found["tables"]}
    assert (tables["data"]["only_a"], tables["data"]["only_b"], tables["data"]["changed"]) == (3, 0, 0)
    assert tables["decisions"]["fates"] == [{"a": "kept", "b": "dropped: blocklist", "rows": 3}]
    text = crawl2chat(loop.folder, "diff", old.ref, new.ref)
    assert text.returncode == 0 and "kept -> dropped: blocklist: 3" in text.stdout
    refused = crawl2chat(loop.folder, "diff", "ingest@latest", "dedup@latest")
    assert refused.returncode == 2 and "different stages" in refused.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--urls", "nowhere.txt"), "nowhere.txt"),
        (("--urls", "{folder}/latin1.txt"), "latin1.txt: line 2 is not UTF-8 text"),
        (("--urls", "{folder}/binary.txt"), "binary.txt: line 1 is not text"),
        (("--urls", os.devnull), "no URL, host or doc_id in it"),
        ((), "--urls"),
        (("--urls", os.devnull, "nowhere.yaml"), "nowhere.yaml"),
    ],
)
def test_bad_input_writes_nothing(loop: Loop, words: tuple[str, ...], message: str) -> None:
    before = sorted((loop.folder / "store/takedown").iterdir())
    (loop.folder / "latin1.txt").write_bytes("a.example\nhttp://b.example/ä\n".encode("latin-1"))
    (loop.folder / "binary.txt").write_bytes("http://b.example/".encode("utf-16-le"))
    result = crawl2chat(loop.folder, "takedown", *(word.replace("{folder}", str(loop.folder)) for word in words))
    assert (result.returncode, result.stdout) == (2, "") and message in result.stderr
    assert "Traceback" not in result.stderr and sorted((loop.folder / "store/takedown").iterdir()) == before


def test_gc_takes_the_old_chain_and_verify_stays_clean(loop: Loop) -> None:
    """Last of those that look at the loop: afterwards only its second run is there."""
    old = {artifact.ref for artifact in loop.made(loop.first).values()}
    asked = said(crawl2chat(loop.folder, "gc", "--keep-last", "1", "--json"))
    assert {entry["artifact"] for entry in asked["artifacts"]} == old and not asked["removed"]
    assert asked["bytes"] >= sum(entry["bytes"] for entry in asked["artifacts"]) > 0
    assert len(loop.store.artifacts()) == asked["kept"] + len(old)
    done = said(crawl2chat(loop.folder, "gc", "--keep-last", "1", "--remove", "--json"))
    assert done == asked | {"removed": True}
    assert {a.ref for a in loop.store.artifacts()} == {a.ref for a in loop.made(loop.second).values()}
    checked = said(crawl2chat(loop.folder, "verify", "--json"))
    assert checked["ok"] and checked["checked"] == asked["kept"]
    trace = said(crawl2chat(loop.folder, "trace", loop.pages["trained"], "--json"))
    assert (trace["models"], trace["sequences"]) == ([], 0)
    assert "blocklist" in crawl2chat(loop.folder, "why", loop.pages["trained"]).stdout


# A run as the flows make one, but without a Prefect server: what is tried is the store.
RUN = """
import json, sys
from artifacts.store import Store
from flows.config import load_pipeline
from flows.planning import walk
from flows.records import now, start_record
from flows.registry import BY_NAME
from tasks.execution import execute

config, store, *overrides = sys.argv[1:]
pipeline, place = load_pipeline(config, overrides), Store(store)
record = start_record(config, overrides)
record.save(place)

def call(name, inputs, force):
    outcome = execute(BY_NAME[name].stage, pipeline.config(name), inputs, place, run_id=record.run, force=force)
    record.stages.append(outcome.row())
    record.save(place)
    return outcome.artifact

walk(pipeline, place, "quality", None, call)
record.ok, record.finished = True, now()
record.save(place)
print(json.dumps({row["stage"]: row["artifact"] for row in record.stages}))
"""


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def test_runs_and_gc_on_one_store(tmp_path: Path) -> None:
    """Two runs of one config and one of another at once on an empty store, with gc in between."""
    write_warc(tmp_path / "a.warc.gz", CRAWL, 40, 1, "crawl.example")
    write_warc(tmp_path / "b.warc.gz", CURATED, 30, 2, "curated.example")
    config, store = write_config(tmp_path), Store(tmp_path / "store")
    given = [(config, store.url), (config, store.url), (config, store.url, "dedup.threshold=1.0")]
    runs = [start(tmp_path, *words) for words in given]
    refused = 0
    try:
        deadline = time.monotonic() + 400
        while any(run.poll() is None for run in runs) and time.monotonic() < deadline:
            try:
                gc(store, keep_last=1, unrecorded=True, remove=True)
            except RunError as error:
                assert "in use by run" in str(error), error
                refused += 1
            time.sleep(0.05)
        outputs = [run.communicate(timeout=60) for run in runs]
    finally:
        for run in runs:
            run.kill()
            run.wait()
    assert [run.returncode for run in runs] == [0, 0, 0], outputs
    assert refused > 0
    made = [json.loads(said) for said, _ in outputs]
    assert made[0] == made[1]
    assert made[0]["ingest"] == made[2]["ingest"] and made[0]["dedup"] != made[2]["dedup"]
    report = verify(store)
    assert report.ok, report.problems
