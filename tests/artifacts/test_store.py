"""The store as a stranger meets it: names, atomic commits, several builders, sudden death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from artifacts.audit.verify import verify
from artifacts.drafts import UNLOCKED_SECONDS, exclusive
from artifacts.errors import AccountError, RunError, UserError
from artifacts.store import Store
from artifacts.tables import DECISIONS, DOCUMENTS, KINDS
from tasks.execution import as_inputs, execute, recipe_of
from tasks.stage import Stage, StageConfig, StageContext, Summary
from tests.support import make_documents, put_table, read_rows, run_stage

ROOT = Path(__file__).resolve().parents[2]


class Labelled(StageConfig):
    label: str = ""
    rows: int = 3


def write_documents(context: StageContext) -> Summary:
    rows = context.config.rows
    context.writer("data").write(make_documents(f"{context.config.label} {number}" for number in range(rows)))
    return Summary(rows_in=rows, kept=rows, dropped=0, failed=0)


MADE = Stage("made", 1, Labelled, {}, {"data": DOCUMENTS}, write_documents)


def make(store: Store, label: str = "", **keywords: Any) -> Any:
    return run_stage(MADE, Labelled(label=label), store, **keywords)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def leftovers(store: Store) -> list[str]:
    root = Path(store.root)
    return sorted(str(p.relative_to(root)) for name in (".tmp", ".work") for p in (root / name).rglob("*"))


# --- one builder


def test_build_then_reuse(store: Store) -> None:
    first, second = make(store), make(store)
    assert (first.reused, second.reused) == (False, True)
    assert first.artifact == second.artifact
    assert read_rows(first.artifact)[2]["text"] == " 2"
    assert Path(first.artifact.path).name == f"{first.artifact.recipe}.{first.artifact.content}"
    assert leftovers(store) == []


def test_the_recipe_is_of_stage_version_config_inputs_and_seed(store: Store) -> None:
    base = recipe_of(MADE, Labelled(), {}, [], 0)
    one = put_table(store, DOCUMENTS, make_documents(["a"]))
    other = put_table(store, DOCUMENTS, make_documents(["b"]))
    changed = {
        base,
        recipe_of(Stage("other", 1, Labelled, {}, {}, write_documents), Labelled(), {}, [], 0),
        recipe_of(Stage("made", 2, Labelled, {}, {}, write_documents), Labelled(), {}, [], 0),
        recipe_of(MADE, Labelled(label="x"), {}, [], 0),
        recipe_of(MADE, Labelled(), {}, [], 1),
        recipe_of(MADE, Labelled(), as_inputs({"documents": one}), [], 0),
        recipe_of(MADE, Labelled(), as_inputs({"documents": other}), [], 0),
        recipe_of(MADE, Labelled(), as_inputs({"documents": [one, other]}), [], 0),
        recipe_of(MADE, Labelled(), as_inputs({"documents": [other, one]}), [], 0),
    }
    assert len(changed) == 9
    assert recipe_of(MADE, Labelled(), {"documents": []}, [], 0) == base


def test_equal_bytes_elsewhere_give_equal_contents(store: Store, tmp_path: Path) -> None:
    again = make(Store(tmp_path / "elsewhere")).artifact
    assert again == make(store).artifact
    assert again.manifest.content == make(store).artifact.manifest.content


def test_a_failing_stage_leaves_nothing(store: Store) -> None:
    def fail(context: StageContext) -> Summary:
        write_documents(context)
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        run_stage(Stage("made", 1, Labelled, {}, {"data": DOCUMENTS}, fail), Labelled(), store)
    assert store.artifacts() == []
    assert [name for name in leftovers(store) if name.startswith(".tmp")] == []


def account(store: Store, summary: Summary, fates: list[tuple[bool, bool]] | None = None) -> Any:
    def run(context: StageContext) -> Summary:
        write_documents(context)
        if fates is not None:
            rows = [
                dict.fromkeys(DECISIONS.schema.names)
                | {"doc_id": str(n), "kept": kept, "failed": failed, "reason": None if kept else "why"}
                for n, (kept, failed) in enumerate(fates)
            ]
            import pyarrow as pa

            context.writer("decisions").write(pa.Table.from_pylist(rows, schema=DECISIONS.schema))
        return summary

    writes = {"data": DOCUMENTS} | ({} if fates is None else {"decisions": DECISIONS})
    return run_stage(Stage("made", 1, Labelled, {}, writes, run), Labelled(), store).artifact.manifest.counts


def test_a_row_account_that_does_not_add_up_is_refused(store: Store) -> None:
    with pytest.raises(AccountError, match=r"5 rows in, but 3 kept \+ 1 dropped \+ 0 failed"):
        account(store, Summary(rows_in=5, kept=3, dropped=1, failed=0))
    with pytest.raises(AccountError, match="kept is 2, but its decisions say 1"):
        account(store, Summary(kept=2), [(True, False), (False, False)])
    assert store.artifacts() == []


def test_counts_come_from_the_decisions(store: Store) -> None:
    counts = account(store, Summary(), [(True, False), (False, False), (False, True), (False, False)])
    assert counts.model_dump() == {"rows_in": 4, "kept": 1, "dropped": 2, "failed": 1, "reasons": {"why": 3}}


# --- names


def test_references(store: Store) -> None:
    old, new = make(store, "old").artifact, make(store, "new").artifact
    assert store.resolve(old.ref) == old
    assert store.resolve("made@latest") == store.resolve("made") == new
    assert store.resolve(f"made@{old.recipe[:6]}") == old
    assert store.resolve(f"{old.ref}.{old.content}") == old
    assert store.resolve(old.recipe) == old
    for wrong in ("made@", "made@zz", "none@latest", "@latest", "@", "", "latest", f"{old.ref}.ffff"):
        with pytest.raises(UserError):
            store.resolve(wrong)


def test_a_local_store_reads_as_fsspec_does(tmp_path: Path) -> None:
    """The same folder once by plain file calls, once as a remote store whose file system is fsspec's local one."""
    for name in ("b/part.txt", "b/deep/ä", "a", "b/.hidden"):
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_text(name)
    (tmp_path / "folder/linked").symlink_to(tmp_path / "folder/b")
    plain, general = Store(tmp_path), Store(tmp_path)
    general.remote = True
    for store in (plain, general):
        assert store.walk("folder") == ["a", "b/.hidden", "b/deep/ä", "b/part.txt", "linked"]
        assert store.list_dir("folder") == ["a", "b", "linked"] and store.list_dir("") == ["folder"]
        assert store.walk("none") == store.list_dir("none") == []
        assert store.holds("folder/a") and store.holds("folder/linked/part.txt") and not store.holds("folder/c")
        assert store.digest("folder/a") == ("ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb", 1)
        assert store.read_text("folder/b/deep/ä") == "b/deep/ä"
        with pytest.raises(UserError, match="no such file"):
            store.read_bytes("folder/c")
        with pytest.raises(FileNotFoundError):
            store.digest("folder/c")
        store.remove("folder/c")
    plain.remove("folder/a")
    assert not plain.holds("folder/a") and not general.holds("folder/a")


def test_an_ambiguous_prefix_names_the_candidates(store: Store) -> None:
    made = [make(store, str(number)).artifact for number in range(17)]  # two of 17 share their first hex digit
    first = next(a.recipe[0] for a in made if sum(b.recipe[0] == a.recipe[0] for b in made) > 1)
    with pytest.raises(UserError, match="is not unique: made@") as error:
        store.resolve(f"made@{first}")
    assert all(a.ref in str(error.value) for a in made if a.recipe[0] == first)


def test_a_folder_without_a_manifest_is_not_an_artifact(store: Store) -> None:
    artifact = make(store).artifact
    (Path(artifact.path) / "manifest.json").unlink()
    assert store.artifacts() == [] and store.find("made", artifact.recipe) is None
    again = make(store)
    assert not again.reused and again.artifact == artifact and verify(store).ok


# --- force


def test_force_gives_the_newer_of_two_contents_and_keeps_the_old(store: Store) -> None:
    texts = ["old"]

    def unstable(context: StageContext) -> Summary:
        context.writer("data").write(make_documents(texts))
        return Summary()

    stage = Stage("made", 1, Labelled, {}, {"data": DOCUMENTS}, unstable)
    old = run_stage(stage, Labelled(), store).artifact
    texts[0] = "new"
    assert run_stage(stage, Labelled(), store).artifact == old
    new = run_stage(stage, Labelled(), store, force=True).artifact
    assert new.recipe == old.recipe and new.content != old.content
    assert (
        store.find("made", old.recipe) == new == store.resolve(old.ref) == run_stage(stage, Labelled(), store).artifact
    )
    assert read_rows(old)[0]["text"] == "old" and verify(store).checked == 2


@pytest.mark.parametrize("name", ["data/part-00000.parquet", "manifest.json", "README.md"])
def test_force_repairs_a_damaged_artifact(store: Store, name: str) -> None:
    artifact = make(store).artifact
    path = Path(artifact.path) / name
    path.write_bytes(path.read_bytes()[:-9])
    assert not verify(store).ok
    make(store, force=True)
    assert verify(store).problems == [] and leftovers(store) == []


def test_force_of_the_same_content_leaves_a_sound_artifact_alone(store: Store) -> None:
    before = make(store).artifact.manifest.run.started
    assert make(store, force=True).artifact.manifest.run.started == before


# --- several builders and sudden death (real processes)

BUILDER = """
import os, sys, time
from pathlib import Path
from tests.artifacts.test_store import DOCUMENTS, Labelled, Stage, Store, execute, write_documents
mode, store, signals = sys.argv[1], Store(sys.argv[2]), Path(sys.argv[3])
def run(context):
    resumed = (context.work / "checkpoint").exists()
    (context.work / "checkpoint").write_text("half")
    (signals / f"started-{os.getpid()}").write_text(f"{resumed} {context.work}")
    summary = write_documents(context)
    context.close()
    while mode == "wait" and not (signals / "go").exists():
        time.sleep(0.01)
    if mode == "hang":
        time.sleep(600)
    return summary
outcome = execute(Stage("made", 1, Labelled, {}, {"data": DOCUMENTS}, run), Labelled(), {}, store)
print(outcome.artifact.folder, outcome.artifact.manifest.run.pid, flush=True)
"""


def builder(mode: str, store: Store, signals: Path) -> subprocess.Popen[str]:
    signals.mkdir(exist_ok=True)
    command = [sys.executable, "-c", BUILDER, mode, store.url, str(signals)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(signals: Path, count: int) -> list[str]:
    deadline = time.monotonic() + 120
    while len(found := sorted(signals.glob("started-*"))) < count:
        assert time.monotonic() < deadline, "the builder did not start"
        time.sleep(0.02)
    time.sleep(0.05)
    return [path.read_text() for path in found]


def test_builders_of_one_recipe_all_end_with_the_winners_artifact(store: Store, tmp_path: Path) -> None:
    signals = tmp_path / "signals"
    processes = [builder("wait", store, signals) for _ in range(3)]
    works = {text.split()[1] for text in wait_for(signals, 3)}
    assert len(works) == 3  # none disturbs another's checkpoints
    assert store.artifacts() == []
    (signals / "go").touch()
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert len({out for out, _ in said}) == 1  # the same folder, made by the same process
    assert len(store.artifacts()) == 1 and verify(store).ok and leftovers(store) == []


def test_a_killed_builder_leaves_nothing_that_is_read_and_the_next_one_sweeps(store: Store, tmp_path: Path) -> None:
    process = builder("hang", store, tmp_path / "signals")
    wait_for(tmp_path / "signals", 1)
    deadline = time.monotonic() + 60
    while not list((Path(store.root) / ".tmp").rglob("*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    drafts = [p for p in (Path(store.root) / ".tmp").iterdir() if p.is_dir()]
    assert len(drafts) == 1 and list(drafts[0].rglob("*.parquet"))
    assert store.stages() == [] and store.artifacts() == [] and verify(store).ok
    after = builder("go", store, tmp_path / "again")
    out, err = after.communicate(timeout=120)
    assert after.returncode == 0, err
    assert wait_for(tmp_path / "again", 1)[0].startswith("True ")  # it was handed the dead one's checkpoint
    assert verify(store).checked == 1 and verify(store).ok and leftovers(store) == []
    assert out.startswith("made/")


def test_a_live_draft_is_not_swept(store: Store, tmp_path: Path) -> None:
    process = builder("wait", store, tmp_path / "signals")
    wait_for(tmp_path / "signals", 1)
    make(store, "another recipe")  # sweeps at its start
    (tmp_path / "signals" / "go").touch()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert len(store.artifacts()) == 2 and verify(store).ok


def test_what_a_builder_killed_behind_its_commit_has_left_goes_with_the_next_use(store: Store) -> None:
    made = make(store).artifact
    root = Path(store.root)
    name = f"made-{made.recipe}"
    work, commit_lock = root / ".work" / name, root / ".tmp" / f"commit-{name}.lock"
    draft = root / ".tmp" / f"{name}-1-x"

    def leave() -> None:
        for folder in (work / "shards", draft / "files"):
            folder.mkdir(parents=True, exist_ok=True)
        for lock in (commit_lock, Path(f"{work}.lock"), draft / ".lock"):
            lock.touch()

    leave()
    assert made.stage == "made" and make(store).reused
    assert [*work.parent.iterdir(), *draft.parent.iterdir()] == []
    leave()
    with exclusive(Path(f"{work}.lock")), exclusive(commit_lock):  # another one builds it again, by force
        assert make(store).reused
        assert (work / "shards").is_dir() and commit_lock.exists() and not draft.exists()


def test_an_old_draft_that_died_before_its_lock_is_swept(store: Store) -> None:
    make(store)
    stray, fresh = Path(store.root) / ".tmp/made-stray", Path(store.root) / ".tmp/made-fresh"
    for folder in (stray, fresh):
        folder.mkdir()
    old = time.time() - UNLOCKED_SECONDS - 10
    os.utime(stray, (old, old))
    make(store, "sweeper")
    assert not stray.exists() and fresh.exists()


def test_a_lock_that_was_removed_while_waiting_is_taken_anew(tmp_path: Path) -> None:
    import threading

    inside, most = [0], [0]

    def hold() -> None:
        for _ in range(30):
            with exclusive(tmp_path / "one.lock"):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0005)
                inside[0] -= 1

    threads = [threading.Thread(target=hold) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1 and not (tmp_path / "one.lock").exists()


# --- what leaves the contract


def test_wrong_inputs_are_told_before_anything_is_built(store: Store) -> None:
    reader = Stage("reader", 1, Labelled, {"pairs": KINDS["pairs"]}, {"data": DOCUMENTS}, write_documents)
    documents = put_table(store, DOCUMENTS, make_documents(["a"]))
    with pytest.raises(UserError, match=r"input 'pairs' is missing"):
        run_stage(reader, Labelled(), store)
    with pytest.raises(UserError, match=r"needs the column 'doc_a'"):
        run_stage(reader, Labelled(), store, {"pairs": documents})
    with pytest.raises(UserError, match=r"no input 'documents'"):
        run_stage(reader, Labelled(), store, {"documents": documents})
    assert store.stages() == ["given"]


def test_numbers_that_json_cannot_say_are_named(store: Store) -> None:
    def run(context: StageContext) -> Summary:
        write_documents(context)
        return Summary(metrics={"losses": [{"value": 1.0}, {"value": float("nan")}]})

    stage = Stage("made", 1, Labelled, {}, {"data": DOCUMENTS}, run)
    with pytest.raises(RunError, match=r"metrics\.losses\[1\]\.value \(nan\)"):
        execute(stage, Labelled(), {}, store)
    assert store.artifacts() == []
