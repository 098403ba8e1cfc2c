"""Threads, processes, Ray and Dask: the same bytes, the same errors, and a killed worker costs a retry."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import RunError, UserError
from artifacts.store import Store
from flows.config import load_pipeline
from flows.runner import check_runner, end_clusters, end_workers, shard_map
from flows.runners.calls import AHEAD, RemoteTraceback, in_order, work
from flows.runners.sharing import Answer, Question, answer, check_machines
from tests.invariants.shards import DieOnce, always_die, listening, note, refuse
from tests.invariants.test_same_bytes import data_half
from tests.warcs import CRAWL, CURATED, write_warc

CLUSTERS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(package) is None, reason=f"needs the extra [{name}], which is not installed"
        ),
    )
    for name, package in (("ray", "ray"), ("dask", "distributed"))
]
LOCAL = {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


@pytest.fixture(scope="module", autouse=True)
def _ended() -> Iterator[None]:
    """One Ray and one Dask serve the module."""
    yield
    end_workers()


@pytest.fixture(scope="module")
def ray_trouble() -> str:
    """Why Ray does not start, if the machine is to blame: its parts give one another 15 seconds, which nothing can
    change (Ray 2.60), and on a machine with so much else to do they may take minutes. Empty: it has started."""
    try:
        list(shard_map("ray", 2)(refuse, [1, 2]))
    except RunError as error:
        if os.getloadavg()[0] > 4 * (os.cpu_count() or 1):
            return f"load {os.getloadavg()[0]:.0f}: {error}"
        raise
    return ""


@pytest.fixture(autouse=True)
def _ray_started(request: pytest.FixtureRequest) -> None:
    parameters = getattr(getattr(request.node, "callspec", None), "params", {})
    if parameters.get("runner") == "ray" and (trouble := request.getfixturevalue("ray_trouble")):
        pytest.skip(trouble)


@pytest.fixture(scope="module")
def warcs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("warcs")
    write_warc(folder / "a.warc.gz", CRAWL, 40, 1, "crawl.example")
    write_warc(folder / "b.warc.gz", CURATED, 30, 2, "curated.example")
    return [folder / "a.warc.gz", folder / "b.warc.gz"]


@pytest.fixture(scope="module")
def alone(warcs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one process makes of the archives: content by stage."""
    made = data_half(Store(tmp_path_factory.mktemp("alone")), warcs, shard_map("threads", 1))
    assert len(made) == 6 and made["dedup"].manifest.counts.reasons["near_duplicate"] >= 3
    return {name: artifact.content for name, artifact in made.items()}


def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards small enough that every stage has several."""
    from artifacts.reader import InputTable, Shard

    whole = InputTable.shards

    def small(table: InputTable, rows: int = 2_048) -> list[Shard]:
        return whole(table, min(rows, 16))

    monkeypatch.setattr(InputTable, "shards", small)


@pytest.mark.parametrize("runner", ["threads", "processes", *CLUSTERS])
def test_every_data_stage_has_the_same_bytes(
    runner: Any, warcs: list[Path], alone: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_rows(monkeypatch)
    mapper = shard_map(runner, 2)
    mapped: list[int] = []

    def counted(function: Any, items: Sequence[Any], /) -> Iterator[Any]:
        mapped.append(len(items))
        return mapper(function, items)

    made = data_half(Store(tmp_path), warcs, counted)  # type: ignore[arg-type]
    assert {name: artifact.content for name, artifact in made.items()} == alone
    assert max(mapped) > 2  # else nothing would have left this process


@pytest.mark.parametrize("runner", CLUSTERS)
def test_a_killed_worker_costs_a_retry_and_the_run_ends_with_the_same_content(
    runner: Any, warcs: list[Path], alone: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_rows(monkeypatch)
    mapper = shard_map(runner, 2)

    def deadly(function: Any, items: Sequence[Any], /) -> Iterator[Any]:
        return mapper(DieOnce(function, str(tmp_path), 3), items)

    made = data_half(Store(tmp_path / "store"), warcs, deadly)  # type: ignore[arg-type]
    assert (tmp_path / "killed").exists()
    assert {name: artifact.content for name, artifact in made.items()} == alone


@pytest.mark.parametrize("runner", CLUSTERS)
def test_a_shard_that_kills_every_worker_ends_the_run_in_one_message(runner: Any) -> None:
    with pytest.raises(RunError, match="could not finish a shard, in 4 attempts"):
        list(shard_map(runner, 2)(always_die, [1, 2]))


@pytest.mark.parametrize("runner", ["threads", "processes", *CLUSTERS])
def test_an_error_is_the_one_that_the_shard_raised(runner: Any) -> None:
    results = shard_map(runner, 2)(refuse, [1, 2, 3])
    assert [next(results), next(results)] == [1, 4]
    with pytest.raises(UserError, match="field 3 is wrong") as caught:
        next(results)
    assert type(caught.value) is UserError
    if runner in ("ray", "dask"):
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert "in refuse" in str(caught.value.__cause__)
        with pytest.raises(RunError, match="Unpicklable: ab"):
            list(shard_map(runner, 2)(refuse, [4, 1]))


@pytest.mark.parametrize("runner", CLUSTERS)
def test_stopping_early_ends_what_is_being_worked_on(runner: Any, tmp_path: Path) -> None:
    results = shard_map(runner, 2)(note, [(str(tmp_path), number) for number in range(30)])
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    begun = {path.name for path in tmp_path.glob("begun-*")}
    assert len(begun) <= 2 * AHEAD + 1
    assert list(shard_map(runner, 2)(refuse, [1, 2])) == [1, 4]  # a minute before those stopped would be done
    assert not list(tmp_path.glob("ended-*"))


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc/net")
@pytest.mark.parametrize("runner", CLUSTERS)
def test_what_a_run_starts_listens_on_localhost(runner: Any) -> None:
    found = {address for part in shard_map(runner, 2)(listening, [1, 2]) for address in part}
    assert found and found <= LOCAL
    assert set(listening(0)) <= LOCAL


@pytest.mark.parametrize("runner", CLUSTERS)
def test_the_run_keeps_its_way_to_end(runner: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    end_clusters()
    assert list(shard_map(runner, 2)(refuse, [1, 2])) == [1, 4]
    assert signal.getsignal(signal.SIGTERM) is before


class _Counting:
    """A pool that works on a shard when its result is asked for, and remembers how many were out at once."""

    workers, closed = 2, False

    def __init__(self) -> None:
        self.out, self.most, self.cancelled = 0, 0, 0

    def submit(self, packed: bytes) -> bytes:
        self.out += 1
        self.most = max(self.most, self.out)
        return packed

    def result(self, handle: bytes) -> bytes:
        self.out -= 1
        return work(handle)

    def cancel(self, handles: Sequence[bytes]) -> None:
        self.cancelled = len(handles)

    def close(self) -> None:
        self.closed = True


def test_shards_in_flight_are_bounded() -> None:
    pool = _Counting()
    assert list(in_order(pool, abs, range(-100, 0), False)) == list(range(100, 0, -1))
    assert (pool.most, pool.cancelled) == (2 * AHEAD + 1, 0)
    results = in_order(pool, abs, range(100), False)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert pool.cancelled == 2 * AHEAD + 1


def test_without_its_package_a_runner_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.runner.find_spec", lambda name: None)
    for runner in ("ray", "dask"):
        with pytest.raises(UserError, match=rf"crawl2chat\[{runner}\]"):
            load_pipeline("configs/demo.yaml", [f"runner={runner}"], to_run=True)
        assert load_pipeline("configs/demo.yaml", [f"runner={runner}"]).settings.runner == runner  # to plan
    check_runner("processes")


def test_a_file_that_only_this_machine_has_is_named(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    path.touch()
    missed = FileNotFoundError(2, "No such file", str(path))
    arrow = FileNotFoundError(f"[Errno 2] Failed to open local file '{path}'")

    class Elsewhere(_Counting):
        error: Exception = missed

        def result(self, handle: bytes) -> bytes:
            import pickle

            return pickle.dumps((False, (self.error, "there")))

    for error in (missed, arrow):
        Elsewhere.error = error
        with pytest.raises(UserError, match=r"shard.*file system that all machines of the cluster share"):
            list(in_order(Elsewhere(), abs, [1, 2], True))
        with pytest.raises(FileNotFoundError):
            list(in_order(Elsewhere(), abs, [1, 2], False))


def lost(question: Question) -> Sequence[Answer]:
    return [answer(question), Answer("far-1", True, question.code)]  # its own file never came here


def old(question: Question) -> Sequence[Answer]:
    own = answer(question)
    return [own, Answer(own.host, True, "0" * 16)]


def blind(question: Question) -> Sequence[Answer]:
    os.remove(Path(question.folder) / "from-the-run")
    return [answer(question)]


@pytest.mark.parametrize(
    ("ask", "problem"), [(lost, "far-1 does not share"), (old, "another version"), (blind, "does not share")]
)
def test_a_cluster_that_cannot_do_the_work_is_refused(
    ask: Callable[[Question], Sequence[Answer]], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=problem):
        check_machines(ask, tmp_path / "store", "the Ray cluster at x")
    check_machines(lambda question: [answer(question)], tmp_path / "store", "the Ray cluster at x")
    assert list((tmp_path / "store").iterdir()) == []
