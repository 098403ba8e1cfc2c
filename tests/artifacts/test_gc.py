"""gc against an independent account of what is reached, on random stores; and beside processes that use the store."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artifacts.audit.published import publish
from artifacts.audit.verify import verify
from artifacts.errors import RunError, UserError
from artifacts.gc import gc, remove_artifact
from artifacts.lock import alone, in_use, users
from artifacts.store import Artifact, Store
from artifacts.tables import DOCUMENTS
from flows.cli.gc import collect
from flows.records import RunRecord
from tasks.execution import Outcome
from tasks.stage import Stage, StageConfig, StageContext, Summary
from tests.support import make_documents, run_stage

ROOT = Path(__file__).resolve().parents[2]


class Labelled(StageConfig):
    label: str = ""
    text: str = ""


def write(context: StageContext) -> Summary:
    """Rows by `text` alone: artifacts of another label and the same text are twins."""
    context.writer("data").write(make_documents([context.config.text]))
    return Summary(rows_in=1, kept=1, dropped=0, failed=0)


STAGES = [
    Stage(
        f"s{level}",
        1,
        Labelled,
        {"documents": DOCUMENTS},
        {"data": DOCUMENTS},
        write,
        optional=frozenset({"documents"}),
    )
    for level in range(4)
]


def row(artifact: Artifact) -> dict[str, Any]:
    return Outcome(artifact.stage, artifact, False, 0.0).row()


def record(store: Store, run: str, artifacts: list[Artifact], ok: bool = True) -> None:
    found = RunRecord(run, "pipeline.yaml", [], "2026-01-01T00:00:00Z", stages=[row(a) for a in artifacts])
    found.save(store)
    found.ok, found.finished = ok, "2026-01-01T00:01:00Z"
    found.save(store)


def build(store: Store, level: int, above: list[Artifact], label: str, text: str, run: str | None = None) -> Artifact:
    given = {"documents": above} if above else {}
    return run_stage(STAGES[level], Labelled(label=label, text=text), store, given, run_id=run).artifact


def random_store(store: Store, chance: random.Random) -> dict[str, list[Artifact]]:
    """Run to the artifacts that its record names: built by it, or by an earlier run, by its own rows or by none."""
    runs: dict[str, list[Artifact]] = {}
    made: list[list[Artifact]] = [[], [], [], []]
    for number in range(4):
        run = f"20260101-00000{number}-aaaa"
        rows: list[Artifact] = []
        for level in range(4):
            above = chance.sample(made[level - 1], min(len(made[level - 1]), chance.choice([1, 1, 2]))) if level else []
            label, text = str(chance.randrange(4)), str(chance.randrange(2))
            artifact = build(store, level, above, label, text, chance.choice([run, run, None]))
            made[level].append(artifact)
            rows += [artifact] if chance.random() < 0.8 else []
        record(store, run, rows)
        runs[run] = rows
    return runs


def above(store: Store, artifact: Artifact) -> Iterator[Artifact]:
    """What a manifest names as inputs, by reference and content: told without the graph."""
    yield artifact
    for entry in artifact.manifest.inputs:
        stage, _, recipe = entry.artifact.partition("@")
        yield from above(store, Artifact(store, stage, recipe, entry.content[:16]))


@pytest.mark.parametrize("seed", range(12))
def test_what_stays_is_what_kept_runs_reach(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    store = Store(tmp_path / "store")
    runs = random_store(store, chance)
    before = set(store.artifacts())
    last, unrecorded = chance.randint(1, 3), bool(chance.getrandbits(1))
    kept = sorted(runs)[-last:]
    owned = {run: {*rows, *(a for a in before if a.manifest.run.run_id == run)} for run, rows in runs.items()}
    start = set().union(*(owned[run] for run in kept))
    start |= set() if unrecorded else before - set().union(*owned.values())
    expected = {ancestor for artifact in start for ancestor in above(store, artifact)}

    said = gc(store, keep_last=last, unrecorded=unrecorded)
    assert set(store.artifacts()) == before and not said["removed"]
    done = gc(store, keep_last=last, unrecorded=unrecorded, remove=True)
    assert done == said | {"removed": True}
    assert {entry["artifact"] for entry in said["artifacts"]} == {a.ref for a in before - expected}
    assert set(store.artifacts()) == expected and said["kept"] == len(expected)
    assert said["runs"]["kept"] == kept
    report = verify(store)
    assert report.ok, report.problems
    again = gc(store, unrecorded=unrecorded, remove=True)
    assert (again["artifacts"], again["leftovers"], again["bytes"]) == ([], [], 0)


@pytest.fixture
def two_runs(tmp_path: Path) -> tuple[Store, list[Artifact]]:
    """Two runs that share their first artifact; the second one's is of run 1 too."""
    store = Store(tmp_path / "store")
    first = build(store, 0, [], "", "a", "run-1")
    old = build(store, 1, [first], "old", "b", "run-1")
    new = build(store, 1, [first], "new", "c", "run-2")
    record(store, "run-1", [first, old])
    record(store, "run-2", [first, new])
    return store, [first, old, new]


def test_dropping_a_run_takes_what_only_it_reached(two_runs: tuple[Store, list[Artifact]]) -> None:
    store, (first, old, new) = two_runs
    assert gc(store)["artifacts"] == []
    said = gc(store, drop_runs=["run-1"], remove=True)
    size = sum(entry.bytes for entry in old.manifest.files.values())
    assert said["artifacts"] == [
        {"artifact": old.ref, "path": old.path, "bytes": size, "because": "only of run run-1, which is not kept"}
    ]
    assert [left["because"] for left in said["leftovers"]] == ["the record of a run that is not kept"]
    assert said["runs"] == {"kept": ["run-2"], "dropped": ["run-1"]}
    assert store.artifacts() == [first, new]
    assert verify(store).ok


def test_a_run_that_failed_does_not_push_out_the_last_good_one(two_runs: tuple[Store, list[Artifact]]) -> None:
    store, artifacts = two_runs
    record(store, "run-3", [artifacts[0]], ok=False)
    assert gc(store, keep_last=1)["runs"] == {"kept": ["run-2", "run-3"], "dropped": ["run-1"]}


def test_the_newest_runs_are_those_that_were_started_last_whatever_their_ids(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for run, started in (("zebra", "2026-01-03T00:00:00Z"), ("mole", "2026-01-01T00:00:00Z"), ("adder", None)):
        record(store, run, [])
        path = Path(store.root, "runs", f"{run}.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | {"started": started}))
    assert gc(store, keep_last=2)["runs"] == {"kept": ["adder", "mole"], "dropped": ["zebra"]}
    shutil.rmtree(Path(store.root, "runs", "chain"))
    assert gc(store, keep_last=2)["runs"] == {"kept": ["mole", "zebra"], "dropped": ["adder"]}
    for path in Path(store.root, "runs").glob("*.json"):  # at one time: by their ids
        path.write_text(json.dumps(json.loads(path.read_text()) | {"started": "2026-01-01T00:00:00Z"}))
    assert gc(store, keep_last=1)["runs"] == {"kept": ["zebra"], "dropped": ["adder", "mole"]}


def test_a_published_run_is_always_kept(two_runs: tuple[Store, list[Artifact]], tmp_path: Path) -> None:
    store, _ = two_runs
    published = tmp_path / "published"
    published.mkdir()
    (published / "first.json").write_text(publish(store, "run-1").dumps())
    assert gc(store, keep_last=1, published=[published])["artifacts"] == []
    with pytest.raises(UserError, match="run-1 is published"):
        gc(store, drop_runs=["run-1"], published=[published])
    (published / "torn.json").write_text("{")
    with pytest.raises(UserError, match=r"torn\.json"):
        gc(store, published=[published])


def test_what_was_published_here_is_kept_unasked(
    two_runs: tuple[Store, list[Artifact]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`publish` prefers data_manifests/ of the working folder; the checkout's is not the only one."""
    store, _ = two_runs
    monkeypatch.chdir(tmp_path)
    places: list[list[Path]] = [[], [Path("data_manifests/published")]]
    for made, kept in zip(places, (["run-2"], ["run-1", "run-2"]), strict=True):
        for folder in made:
            folder.mkdir(parents=True)
            (folder / "first.json").write_text(publish(store, "run-1").dumps())
        collect(keep_last=1, store=str(store.root), as_json=True)
        assert json.loads(capsys.readouterr().out)["runs"]["kept"] == kept


def test_what_cannot_be_read_is_never_guessed(two_runs: tuple[Store, list[Artifact]]) -> None:
    store, (_, old, new) = two_runs
    manifest = Path(new.path, "manifest.json")
    text = manifest.read_text()
    manifest.write_text(text[:100])
    assert new.ref in gc(store, drop_runs=["run-1"])["problems"][0]
    with pytest.raises(RunError, match="nothing was removed"):
        gc(store, drop_runs=["run-1"], remove=True)
    manifest.write_text(text)
    Path(store.root, "runs", "run-2.json").write_text("{")
    with pytest.raises(UserError, match="run-2"):
        gc(store, drop_runs=["run-1"], remove=True)
    assert Path(old.path).is_dir()


def test_a_store_in_use_is_left_alone_and_its_user_named(two_runs: tuple[Store, list[Artifact]]) -> None:
    store, _ = two_runs
    with in_use(store, "run run-9"), in_use(store, "run run-9"):
        assert [user["what"] for user in users(store)] == ["run run-9"]
        with pytest.raises(RunError, match=f"in use by run run-9 .pid {os.getpid()}"):
            gc(store, drop_runs=["run-1"], remove=True)
        assert len(gc(store, drop_runs=["run-1"])["artifacts"]) == 1  # looking is always allowed
    assert users(store) == []
    gc(store, drop_runs=["run-1"], remove=True)


def test_a_user_waits_for_a_removal_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    code = (
        "import sys, time; from artifacts.lock import in_use; from artifacts.store import Store\n"
        "with in_use(Store(sys.argv[1]), 'run dead'): print('in', flush=True); time.sleep(600)"
    )
    with alone(store):
        user = subprocess.Popen([sys.executable, "-c", code, store.url], stdout=subprocess.PIPE, cwd=ROOT)
        assert user.stdout is not None
        os.set_blocking(user.stdout.fileno(), False)
        assert not user.stdout.read()
    os.set_blocking(user.stdout.fileno(), True)
    assert user.stdout.readline() == b"in\n"
    with pytest.raises(RunError, match="run dead"), alone(store):
        pass
    user.send_signal(signal.SIGKILL)
    user.wait()
    user.stdout.close()
    with alone(store):
        assert users(store) == []


def test_leftovers_of_dead_processes(two_runs: tuple[Store, list[Artifact]]) -> None:
    store, (first, old, _) = two_runs
    root = Path(store.root)
    for name in (f".work/s0-{first.recipe}", ".work/s1-0123456789abcdef", ".tmp/dead", ".tmp/gc-x/0", ".tmp/young"):
        (root / name).mkdir(parents=True)
        (root / name / "some").write_bytes(b"12345")
    (root / ".tmp/dead/.lock").touch()
    (root / "reports").mkdir()
    (root / "reports/run-1.html").write_text("report")
    with store.draft("s0", "f" * 16) as draft:
        (draft.folder / "half").write_bytes(b"1")
        said = gc(store)
        assert [(Path(left["path"]).name, left["bytes"]) for left in said["leftovers"]] == [
            ("gc-x", 5),
            (f"s0-{first.recipe}", 5),
        ]
    (root / ".tmp/dead").mkdir(exist_ok=True)  # the draft above has swept it away, as every draft does
    (root / ".tmp/dead/.lock").touch()
    names = {
        Path(left["path"]).name for left in gc(store, drop_runs=["run-1"], unfinished=True, remove=True)["leftovers"]
    }
    unfinished = {"s1-0123456789abcdef", f"s0-{'f' * 16}"}
    assert names == {"dead", "gc-x", f"s0-{first.recipe}", "run-1.json", "run-1.html"} | unfinished
    assert sorted(path.name for path in (root / ".tmp").iterdir()) == ["young"]
    assert not Path(old.path).exists() and verify(store).ok


def test_an_interrupted_removal_leaves_no_half_artifact(
    two_runs: tuple[Store, list[Artifact]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, (first, *_) = two_runs
    record(store, "run-3", [])

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", die)
    with pytest.raises(KeyboardInterrupt):
        gc(store, drop_runs=["run-1", "run-2"], remove=True)
    monkeypatch.undo()
    left = store.artifacts()
    assert len(left) == 2 and first in left  # what was made from others goes first
    assert verify(store).ok
    done = gc(store, drop_runs=["run-1", "run-2"], remove=True)
    assert {entry["artifact"] for entry in done["artifacts"]} == {artifact.ref for artifact in left}
    assert any("interrupted" in entry["because"] for entry in done["leftovers"])
    assert store.artifacts() == [] and not any(Path(store.root, ".tmp").glob("gc-*"))


def test_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = Store(f"memory://{tmp_path.name}")
    first = build(store, 0, [], "", "a", "run-1")
    second = build(store, 1, [first], "", "b", "run-1")
    record(store, "run-1", [first, second])
    record(store, "run-2", [first])
    assert second.local().is_dir()
    done = gc(store, drop_runs=["run-1"], remove=True)
    assert [entry["artifact"] for entry in done["artifacts"]] == [second.ref]
    assert store.artifacts() == [first] and store.walk(second.folder) == []
    # A removal that was cut off behind the manifest is finished by the next one.
    third = build(store, 1, [first], "", "b", "run-3")
    record(store, "run-3", [third])
    monkeypatch.setattr(type(store.fs), "rm", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        remove_artifact(store, third, tmp_path / "trash")
    monkeypatch.undo()
    assert store.artifacts() == [first] and store.walk(third.folder) != []
    assert any("interrupted" in left["because"] for left in gc(store, remove=True)["leftovers"])
    assert store.walk(third.folder) == [] and verify(store).ok
