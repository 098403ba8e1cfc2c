"""The run chain: what is appended, and that an edit, a removal or an insertion shows."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from artifacts.audit.verify import verify
from artifacts.audit.verify_runs import Finding, verify_runs
from artifacts.errors import UserError
from artifacts.runs import CHAIN, append_event, entry_names, heads, load_run, read_link, record_path, start_run
from artifacts.store import Store
from artifacts.tables import DOCUMENTS
from flows.records import RunRecord, now
from tests.support import make_documents, put_table


def record(store: Store, run: str, finish: bool = True) -> RunRecord:
    made = RunRecord(run, "pipeline.yaml", [], now())
    made.save(store)
    if finish:
        made.finished, made.ok = now(), True
        made.save(store)
    return made


def kinds(store: Store) -> list[str]:
    links = [read_link(store, name) for name in entry_names(store)]
    return [link.entry.kind for link in links if link.entry]


@pytest.fixture(params=["local", "remote"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Store(tmp_path / "store") if request.param == "local" else Store(f"memory://runs-{tmp_path.name}/store")


def remove(store: Store, relative: str) -> None:
    store.fs.rm(f"{store.root}/{relative}")


def test_a_run_is_started_and_sealed_with_the_hash_of_its_record(store: Store) -> None:
    made = record(store, "20260101-000000-aaaa")
    assert kinds(store) == ["began", "started", "finished"]
    links = [read_link(store, name) for name in entry_names(store)]
    assert [link.name for link in links] == [f"{n:08d}.{link.digest[:16]}.json" for n, link in enumerate(links, 1)]
    assert [link.entry.parents for link in links if link.entry] == [[], [links[0].digest], [links[1].digest]]
    assert made.chain == links[1].digest and heads(store) == [links[2].digest]
    assert links[2].entry is not None
    sha256, size = store.digest(record_path(made.run))
    assert links[2].entry.payload == {"run": made.run, "sha256": sha256, "bytes": size}
    report = verify_runs(store)
    assert (report.problems, report.notes, report.entries) == ([], [], 3) and report.heads == heads(store)


def test_edits_and_removals_are_found(store: Store) -> None:
    runs = [f"20260101-00000{n}-aaaa" for n in range(3)]
    for run in runs:
        record(store, run)
    names = entry_names(store)
    record_text = store.read_text(record_path(runs[1]))
    entry_text = store.read_text(f"{CHAIN}/{names[3]}")

    store.write_text(record_path(runs[1]), record_text.replace("pipeline", "other"))
    (found,) = verify_runs(store).problems
    assert found == Finding(record_path(runs[1]), "altered: its SHA-256 is not the one in the run chain")

    remove(store, record_path(runs[1]))
    (found,) = verify_runs(store).problems
    assert found.file == record_path(runs[1]) and found.problem.startswith("removed")

    store.write_text(record_path(runs[1]), record_text)
    store.write_text(f"{CHAIN}/{names[3]}", entry_text.replace("started", "stopped"))
    assert [f.file for f in verify_runs(store).problems if f.problem.startswith("altered")] == [f"{CHAIN}/{names[3]}"]

    remove(store, f"{CHAIN}/{names[3]}")
    found = verify_runs(store).problems[0]
    assert found.file == f"{CHAIN}/{names[4]}" and found.problem.startswith("an entry before it is gone")

    store.write_text(f"{CHAIN}/{names[3]}", entry_text)
    assert verify_runs(store).problems == []


def test_a_cut_tail_shows_by_the_records_that_are_left(store: Store) -> None:
    for n in range(2):
        record(store, f"20260101-00000{n}-aaaa")
    for name in entry_names(store)[3:]:
        remove(store, f"{CHAIN}/{name}")
    (found,) = verify_runs(store).problems
    assert found.file == record_path("20260101-000001-aaaa") and "is gone" in found.problem
    for name in entry_names(store):
        remove(store, f"{CHAIN}/{name}")
    assert [f.file for f in verify_runs(store).problems] == [record_path(f"20260101-00000{n}-aaaa") for n in range(2)]


def test_a_record_slipped_in_is_found(store: Store) -> None:
    record(store, "20260101-000000-aaaa")
    forged = {"run": "20250101-000000-aaaa", "started": "2025", "finished": "2025", "ok": True, "stages": []}
    store.write_text(record_path("20250101-000000-aaaa"), json.dumps(forged))
    (found,) = verify_runs(store).problems
    assert found.file == record_path("20250101-000000-aaaa") and found.problem.startswith("slipped in")


def test_a_store_without_a_chain_has_no_problems_until_it_begins(store: Store) -> None:
    old = {"run": "old", "started": "2025-01-01T00:00:00Z", "finished": "2025-01-01T00:00:01Z", "stages": []}
    store.write_text(record_path("old"), json.dumps(old))
    store.write_text(record_path("older"), json.dumps(old | {"run": "older", "finished": None}))
    artifact = put_table(store, DOCUMENTS, make_documents(["text"]))
    assert verify_runs(store, [artifact]).problems == []
    store.write_text(record_path("old"), json.dumps(old | {"ok": True}))
    assert verify_runs(store, [artifact]).problems == []
    record(store, "20260101-000000-aaaa")
    assert verify_runs(store, [artifact]).problems == []
    store.write_text(record_path("old"), json.dumps(old))
    (found,) = verify_runs(store).problems
    assert found.file == record_path("old") and found.problem.startswith("altered")


def test_a_killed_run_is_unfinished_and_sealed_by_the_next_one(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    child = multiprocessing.get_context("spawn").Process(target=_die, args=(store.url,))
    child.start()
    child.join()
    report = verify_runs(store)
    assert report.problems == [] and [note.problem.partition(":")[0] for note in report.notes] == ["unfinished"]
    record(store, "20260101-000009-aaaa")
    assert kinds(store) == ["began", "started", "sealed", "started", "finished"]
    report = verify_runs(store)
    assert report.problems == [] and len(report.notes) == 1 and "sealed" in report.notes[0].problem
    path = record_path("20260101-000001-dead")
    store.write_text(path, store.read_text(path).replace("pipeline", "other"))
    assert [found.file for found in verify_runs(store).problems] == [path]


def _die(url: str) -> None:
    record(Store(url), "20260101-000001-dead", finish=False)
    os._exit(9)


def test_a_run_that_still_lives_is_not_sealed_by_another(store: Store) -> None:
    living = record(store, "20260101-000000-live", finish=False)
    record(store, "20260101-000001-aaaa")
    assert "sealed" not in kinds(store)
    living.finished = now()
    living.save(store)
    assert verify_runs(store).problems == [] and verify_runs(store).notes == []


def test_concurrent_runs_append_in_a_row(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_many, args=(store.url, child)) for child in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert [int(name[:8]) for name in entry_names(store)] == list(range(1, 1 + 1 + 3 * 10 * 2))
    report = verify_runs(store)
    assert report.problems == [] and report.notes == [] and len(report.heads) == 1


def _many(url: str, child: int) -> None:
    for number in range(10):
        record(Store(url), f"2026010{child}-0000{number:02d}-aaaa")


def test_machines_that_write_at_once_are_joined_by_the_next_entry(store: Store) -> None:
    append_event(store, "gc", {})
    names = entry_names(store)
    last = read_link(store, names[-1])
    text = store.read_text(f"{CHAIN}/{names[-1]}")
    remove(store, f"{CHAIN}/{names[-1]}")
    append_event(store, "export", {"number": 2})
    store.write_text(f"{CHAIN}/{last.name}", text)
    assert len(heads(store)) == 2
    append_event(store, "gc", {"number": 3})
    assert len(heads(store)) == 1 and len(entry_names(store)) == 4
    assert verify_runs(store).problems == []


def test_other_commands_append_their_own(store: Store) -> None:
    record(store, "20260101-000000-aaaa")
    remove(store, record_path("20260101-000000-aaaa"))
    assert len(verify_runs(store).problems) == 1
    append_event(store, "gc", {"runs": ["20260101-000000-aaaa"], "artifacts": []})
    assert verify_runs(store).problems == []
    with pytest.raises(ValueError, match="itself"):
        append_event(store, "finished", {})


def test_an_artifact_whose_run_is_gone_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    before = put_table(store, DOCUMENTS, make_documents(["before"]), run_id="of an older version")
    record(store, "20260101-000000-aaaa")
    kept = len(entry_names(store))
    made = record(store, "20260101-000001-aaaa")
    artifact = put_table(store, DOCUMENTS, make_documents(["one"]), run_id=made.run)
    assert verify(store).ok
    remove(store, record_path(made.run))
    for name in entry_names(store)[kept:]:
        remove(store, f"{CHAIN}/{name}")
    report = verify(store)
    assert [(p.artifact, p.file) for p in report.problems] == [(artifact.ref, "manifest.json")]
    assert "has no record" in report.problems[0].problem
    assert verify(store, [before.ref]).ok and not verify(store, [artifact.ref]).ok


def test_starting_again_in_one_process_goes_on(store: Store) -> None:
    record(store, "20260101-000000-aaaa")
    start_run(store, "20260101-000000-aaaa")
    assert verify_runs(store).problems == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nul", "not a run's record"),
        ("[]", "not a run's record"),
        ("[" * 100_000, "not a run's record"),
        ("{}", "run: no text"),
        ('{"run": "a"}', "stages: no list"),
        ('{"run": "a", "stages": [{"stage": "mix"}]}', r"stages\.0\.path: no text"),
        ('{"run": "a", "stages": [3]}', r"stages\.0\.path: no text"),
    ],
)
def test_a_damaged_record_is_told_with_its_field(tmp_path: Path, text: str, said: str) -> None:
    store = Store(tmp_path)
    store.write_text(record_path("a"), text)
    with pytest.raises(UserError, match=said):
        load_run(store, "a")
    problems = [found.problem for found in verify_runs(store).problems]
    assert problems == ([] if text.startswith('{"') else ["not a run's record"])
