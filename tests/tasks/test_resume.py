"""The mapper around a run's own reads it to its end: workers are ended with an iterator that is left open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from flows import runner
from flows.runner import end_workers, shard_map
from tasks.resume import ResumableMap


def double(number: int) -> int:
    return 2 * number


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Work folder, draft and store."""
    for name in ("work", "draft"):
        (tmp_path / name).mkdir()
    return tmp_path / "work", tmp_path / "draft", tmp_path


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_map_is_at_its_end_once_the_last_result_is_there(
    folders: tuple[Path, Path, Path], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.resume.WORTH_SECONDS", 0.0)
    ended: list[bool] = []

    def mapper(function: Callable[[Any], Any], items: Sequence[Any], /) -> Iterator[Any]:
        ended.append(False)
        for item in items:
            yield function(item)
        ended[-1] = True

    assert list(ResumableMap(mapper, *folders)(double, range(1, 1 + kept))) == [2 * n for n in range(1, 1 + kept)]
    again = ResumableMap(mapper, *folders)
    results = again(double, range(4))  # the first and what follows `kept` are missing
    assert [next(results) for _ in range(4)] == [0, 2, 4, 6]  # nobody asks for a fifth
    assert again.found == kept and ended[-1]
    unfinished = ResumableMap(mapper, *folders)
    next(unfinished(double, [7, 8]))
    unfinished.close()
    assert ended[-1] is False


def test_the_processes_of_a_run_serve_one_stage_after_the_other(folders: tuple[Path, Path, Path]) -> None:
    try:
        pools = []
        for numbers in (range(10, 16), range(20, 26)):
            stage = ResumableMap(shard_map("processes", 2), *folders)
            results = zip(numbers, stage(double, numbers), strict=False)
            assert [result for _, result in results] == [2 * number for number in numbers]
            stage.close()
            pools.append(runner._pools[2])
        assert pools[0] is pools[1]
    finally:
        end_workers()
