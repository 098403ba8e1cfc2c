"""A killed attempt's finished shards are not worked on again, and the artifacts are those of an undisturbed run."""

from __future__ import annotations

from pathlib import Path

from artifacts.audit.verify import verify
from artifacts.store import Store
from tests.faults.attempts import Attempt, contents, worked_on
from tests.faults.conftest import Calm

DEATHS = [("process_file", 3), ("sign_shard", 5), ("shingle_rows", 1), ("score_shard", 4)]
DEATHS += [("search_shard", 2), ("cut_shard", 1), ("encode_shard", 6)]


def test_no_shard_is_worked_on_twice(calm: Calm, tmp_path: Path) -> None:
    store, log = str(tmp_path / "store"), tmp_path / "log"
    for function, number in DEATHS:
        assert Attempt(calm.config, store, str(log), die_in=function, die_after=number).run() == -9
        assert sum(line.startswith(function) for line in worked_on(log)) == number
        assert verify(Store(store), None).ok
    assert Attempt(calm.config, store, str(log)).run() == 0
    assert contents(store) == calm.contents
    assert sorted(worked_on(log)) == sorted(calm.worked)
    assert len(set(calm.worked)) == len(calm.worked) > 40
    assert list((tmp_path / "store" / ".work").glob("*")) == []


def test_shards_of_another_size_are_not_mixed_in(calm: Calm, tmp_path: Path) -> None:
    store, log = str(tmp_path / "store"), tmp_path / "log"
    assert Attempt(calm.config, store, str(log), die_in="sign_shard", die_after=9).run() == -9
    assert Attempt(calm.config, store, str(log), rows=7).run() == 0
    assert contents(store) == calm.contents
    assert sum(line.startswith("process_file") for line in worked_on(log)) == 8


def test_results_of_other_code_are_not_taken(calm: Calm, tmp_path: Path) -> None:
    store, log, again = str(tmp_path / "store"), tmp_path / "log", tmp_path / "again"
    assert Attempt(calm.config, store, str(log), die_in="process_file", die_after=6).run() == -9
    assert Attempt(calm.config, store, str(again), code="1" * 16, die_in="sign_shard", die_after=1).run() == -9
    assert sum(line.startswith("process_file") for line in worked_on(again)) == 8


def test_damaged_results_are_worked_on_again(calm: Calm, tmp_path: Path) -> None:
    store, log, again = str(tmp_path / "store"), tmp_path / "log", tmp_path / "again"
    assert Attempt(calm.config, store, str(log), die_in="process_file", die_after=6).run() == -9
    kept = sorted((tmp_path / "store" / ".work").glob("ingest-*/shards/*/process_file-*"))
    rows = sorted((tmp_path / "store" / ".work").glob("ingest-*/rows/*.arrow"))
    assert len(kept) == len(rows) == 6
    kept[0].write_bytes(kept[0].read_bytes()[:-1])
    altered = bytearray(kept[1].read_bytes())
    altered[len(altered) // 2] ^= 1
    kept[1].write_bytes(altered)
    kept[2].write_bytes(b"")
    rows[5].write_bytes(rows[5].read_bytes()[:-8])
    assert Attempt(calm.config, store, str(again)).run() == 0
    assert contents(store) == calm.contents
    # The four damaged ones are computed in the attempt's own process, past its mapper; the two left out are mapped.
    assert sum(line.startswith("process_file") for line in worked_on(again)) == 2


def test_a_quick_shard_is_not_kept(calm: Calm, tmp_path: Path) -> None:
    store, log = str(tmp_path / "store"), tmp_path / "log"
    assert Attempt(calm.config, store, str(log), die_in="sign_shard", die_after=5, worth=60.0).run() == -9
    assert list((tmp_path / "store" / ".work").glob("*/shards/*/*")) == []
