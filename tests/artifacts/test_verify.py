"""Damage of every kind is found and named, and an undamaged store is clean."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from artifacts.audit.verify import Problem, verify
from artifacts.digest import content_digest, digest_file, digest_json, digests_of_file
from artifacts.errors import UserError
from artifacts.manifest import FileEntry
from artifacts.runs import now, record_path
from artifacts.store import Artifact, Store
from flows.records import start_record
from tests.artifacts.chain import build


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def files_of(artifact: Artifact) -> list[Path]:
    return sorted(path for path in Path(artifact.path).rglob("*") if path.is_file())


def reseal(artifact: Artifact, change: dict[str, object]) -> None:
    """Rewrite a manifest as a careful forger would: with a checksum that fits."""
    path = Path(artifact.path) / "manifest.json"
    manifest = artifact.manifest.model_copy(update=change).sealed()
    path.write_text(manifest.dumps())


def test_a_whole_pipeline_is_clean(store: Store) -> None:
    made = build(store)
    report = verify(store)
    assert report.problems == []
    assert report.ok and report.checked == len(made) == 9
    assert verify(store, ["mix@latest", made["mix"].ref]).checked == 1
    with pytest.raises(UserError, match="no such artifact"):
        verify(store, ["mix@ffff"])


def build_in_a_run(store: Store, until: str = "ppo") -> dict[str, Artifact]:
    """As `build`, by a run with a record and its entries in the run chain."""
    record = start_record("pipeline.yaml", [])
    record.save(store)
    made = build(store, until, run_id=record.run)
    record.stages = [{"path": artifact.path, "reused": False} for artifact in made.values()]
    record.finished, record.ok = now(), True
    record.save(store)
    return made


def forge(artifact: Artifact, name: str, **more: object) -> None:
    """Change a file's last byte, and write its BLAKE3 (and `more`) into a manifest whose checksum fits."""
    path = Path(artifact.path) / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    entry = artifact.manifest.files[name].model_copy(update={"blake3": digest_file(path, "blake3"), **more})
    reseal(artifact, {"files": artifact.manifest.files | {name: entry}})


def test_a_forged_blake3_is_found_by_the_run_chain_or_else_by_sha256(tmp_path: Path) -> None:
    name = "data/part-00000.parquet"
    chained, alone = Store(tmp_path / "chained"), Store(tmp_path / "alone")
    forge(build_in_a_run(chained)["ppo"], name)
    (found,) = [p for p in verify(chained).problems if p.file == "manifest.json"]
    assert found.problem.startswith("altered: the run chain says that its run wrote one with the checksum")
    assert [p.file for p in verify(chained).problems] == ["manifest.json", name]
    forge(build(alone)["ppo"], name)
    (found,) = verify(alone).problems
    assert found.file == name and found.problem.startswith("altered: its SHA-256 is ")


def test_a_leaf_that_was_forged_as_a_whole_is_found_by_the_run_chain(store: Store) -> None:
    """Nothing in the store names the last artifact's content, so only its run's entry can tell."""
    artifact = build_in_a_run(store)["ppo"]
    path = Path(artifact.path) / "model/model.safetensors"
    data = path.read_bytes() + b"!"
    path.write_bytes(data)
    sha256, blake3 = digests_of_file(path, "sha256", "blake3")
    entry = FileEntry(sha256=sha256, blake3=blake3, bytes=len(data))
    files = artifact.manifest.files | {"model/model.safetensors": entry}
    content = content_digest({name: file.sha256 for name, file in files.items()})
    reseal(artifact, {"files": files, "content": content})
    Path(artifact.path).rename(Path(artifact.path).with_name(f"{artifact.recipe}.{content[:16]}"))
    assert [(p.artifact, p.file) for p in verify(store).problems] == [(artifact.ref, "manifest.json")]


@pytest.mark.parametrize("how", ["vouched", "alone", "older"])
def test_which_hash_is_recomputed(store: Store, how: str) -> None:
    artifact = (build if how == "alone" else build_in_a_run)(store, "dedup")["dedup"]
    name = "data/part-00000.parquet"
    assert artifact.manifest.files[name].blake3 == digest_file(Path(artifact.path) / name, "blake3")
    path = Path(artifact.path) / name
    if how == "older":  # a manifest from before BLAKE3, as an older version of a run chain knows it
        files = {name: entry.model_copy(update={"blake3": None}) for name, entry in artifact.manifest.files.items()}
        reseal(artifact, {"files": files})
        assert "blake3" not in (Path(artifact.path) / "manifest.json").read_text()
        shutil.rmtree(Path(store.root) / "runs/chain")
        (Path(store.root) / record_path(artifact.manifest.run.run_id or "")).unlink()
    assert verify(store).ok
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    (found,) = verify(store).problems
    assert found.file == name and (" BLAKE3 is " in found.problem) == (how == "vouched")
    assert (" SHA-256 is " in found.problem) == (how != "vouched")
    (found,) = verify(store, thorough=True).problems
    assert found.file == name and " SHA-256 is " in found.problem


def test_an_empty_store_has_nothing_to_check(store: Store) -> None:
    report = verify(store)
    assert report.ok and report.checked == 0


def test_one_flipped_byte_in_any_file_is_found_and_named(store: Store) -> None:
    flips = 0
    for artifact in build(store).values():
        for path in files_of(artifact):
            good = path.read_bytes()
            name = str(path.relative_to(artifact.path))
            for place in sorted({0, 4, len(good) // 3, len(good) // 2, len(good) - 5, len(good) - 1}):
                if not 0 <= place < len(good):
                    continue
                path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
                found = verify(store, [f"{artifact.ref}.{artifact.content}"]).problems
                assert [(p.artifact, p.file) for p in found] == [(artifact.ref, name)], (name, place, found)
                flips += 1
            path.write_bytes(good)
    assert flips > 150
    assert verify(store).ok


def test_every_byte_of_a_manifest_counts(store: Store) -> None:
    artifact = build(store, until="ingest")["ingest"]
    path = Path(artifact.path) / "manifest.json"
    good = path.read_bytes()
    for place in range(0, len(good), 7):
        for bit in (1, 0x80):
            path.write_bytes(good[:place] + bytes([good[place] ^ bit]) + good[place + 1 :])
            assert [p.file for p in verify(store).problems] == ["manifest.json"], place


def test_cut_missing_and_extra_files(store: Store) -> None:
    artifact = build(store, until="dedup")["dedup"]
    folder = Path(artifact.path)
    data = folder / "data/part-00000.parquet"
    good = data.read_bytes()
    data.write_bytes(good[: len(good) // 2])
    assert verify(store).problems == [
        Problem(artifact.ref, "data/part-00000.parquet", f"{len(good) // 2} bytes, the manifest says {len(good)}")
    ]
    data.write_bytes(b"")
    assert [p.file for p in verify(store).problems] == ["data/part-00000.parquet"]
    data.unlink()
    (folder / "data/.hidden").write_text("x")
    (folder / "notes.txt").write_text("x")
    assert [(p.file, p.problem) for p in verify(store).problems] == [
        ("data/part-00000.parquet", "missing"),
        ("data/.hidden", "not listed in the manifest"),
        ("notes.txt", "not listed in the manifest"),
    ]


def test_a_missing_input_is_told_of_the_artifact_that_needs_it(store: Store) -> None:
    made = build(store)
    shutil.rmtree(made["dedup"].path)
    problems = verify(store).problems
    assert [(p.artifact, p.file) for p in problems] == [(made["quality"].ref, "manifest.json")]
    assert made["dedup"].ref in problems[0].problem and "not in the store" in problems[0].problem
    assert verify(store, [made["ppo"].ref]).problems == problems  # the chain above is walked
    assert verify(store, [made["ingest"].ref]).ok


def test_a_folder_without_manifest_is_told(store: Store) -> None:
    artifact = build(store, until="ingest")["ingest"]
    (Path(artifact.path) / "manifest.json").unlink()
    problems = verify(store).problems
    assert [(p.artifact, p.file) for p in problems] == [(artifact.ref, "manifest.json")]


def test_a_renamed_folder_is_told(store: Store) -> None:
    artifact = build(store, until="ingest")["ingest"]
    folder = Path(artifact.path)
    folder.rename(folder.with_name("0" * 16 + "." + "1" * 16))
    said = " ".join(p.problem for p in verify(store).problems)
    assert "its recipe is" in said and "its content is" in said


def test_a_forged_config_does_not_give_its_recipe(store: Store) -> None:
    artifact = build(store, until="dedup")["dedup"]
    reseal(artifact, {"config": {**artifact.manifest.config, "label": "another"}})
    problems = verify(store).problems
    assert len(problems) == 1 and "give the recipe" in problems[0].problem


def test_a_forged_source_or_input_does_not_give_its_recipe(store: Store) -> None:
    made = build(store, until="dedup")
    source = made["ingest"].manifest.sources[0].model_copy(update={"sha256": "cd" * 32})
    reseal(made["ingest"], {"sources": [source]})
    assert "give the recipe" in verify(store, [made["ingest"].ref]).problems[0].problem


def test_forged_counts_are_recounted_from_the_decisions(store: Store) -> None:
    artifact = build(store, until="ingest")["ingest"]
    counts = artifact.manifest.counts
    assert (counts.rows_in, counts.kept, counts.dropped, counts.failed) == (7, 5, 1, 1)
    reseal(artifact, {"counts": counts.model_copy(update={"kept": 6, "dropped": 0})})
    assert [(p.file, p.problem) for p in verify(store).problems] == [
        ("decisions/part-00000.parquet", "kept is 5 by its decisions, 6 by the manifest"),
        ("decisions/part-00000.parquet", "dropped is 1 by its decisions, 0 by the manifest"),
    ]
    reseal(artifact, {"counts": counts.model_copy(update={"rows_in": 8})})
    assert "8 rows in, but kept + dropped + failed is 7" in [p.problem for p in verify(store).problems]
    reseal(artifact, {"counts": counts.model_copy(update={"reasons": {"lang": 2}})})
    assert [p.problem.split(" is ")[0] for p in verify(store).problems] == ["reasons"]


def test_a_replaced_file_with_a_forged_manifest_changes_the_content(store: Store) -> None:
    artifact = build(store, until="dedup")["dedup"]
    path = Path(artifact.path) / "data/part-00000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    entry = {"sha256": digest_file(path), "bytes": path.stat().st_size, "rows": table.num_rows}
    files = artifact.manifest.files
    name = "data/part-00000.parquet"
    reseal(artifact, {"files": {**files, name: files[name].model_copy(update=entry)}})
    said = [p.problem for p in verify(store).problems]
    assert any("its files give the content" in text for text in said)
    assert f"{table.num_rows - 1} rows, the manifest says {table.num_rows}" in said


def test_committed_garbage_is_no_crash(store: Store) -> None:
    """A Parquet file that was never one, under a manifest that fits it in every hash."""
    artifact = build(store, until="dedup")["dedup"]
    path = Path(artifact.path) / "decisions/part-00000.parquet"
    path.write_bytes(b"PAR1" + b"\xff" * 100 + b"PAR1")
    files = dict(artifact.manifest.files)
    files["decisions/part-00000.parquet"] = files["decisions/part-00000.parquet"].model_copy(
        update={"sha256": digest_file(path), "bytes": path.stat().st_size}
    )
    reseal(artifact, {"files": files})
    said = [p.problem for p in verify(store).problems]
    assert any("not readable as Parquet" in text for text in said)
    assert any("cannot be counted" in text for text in said)


def test_verify_reads_the_store_and_not_a_local_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = Store(f"memory://verify-{tmp_path.name}")
    artifact = build(store, until="dedup")["dedup"]
    artifact.local()
    assert verify(store).ok
    name = f"/verify-{tmp_path.name}/{artifact.folder}/data/part-00000.parquet"
    data = store.fs.cat_file(name)
    store.fs.pipe_file(name, data[:100] + bytes([data[100] ^ 1]) + data[101:])
    assert [p.file for p in verify(store).problems] == ["data/part-00000.parquet"]


def test_digests_are_what_the_design_says() -> None:
    files = {"data/a": "1", "README.md": "2", "manifest.json": "3"}
    assert content_digest(files) == digest_json([["data/a", "1"]])
    assert digest_json({"b": 1, "a": [True, None]}) == digest_json(json.loads('{"a": [true, null], "b": 1}'))
