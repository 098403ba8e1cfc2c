"""Several processes build in one store at once, the same recipes and others, while it is read: nothing is damaged."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import yaml

from artifacts.audit.verify import verify
from artifacts.lineage import why
from artifacts.store import Store
from tests.faults.attempts import Attempt, contents, worked_on
from tests.faults.conftest import Calm

PAGE = "http://crawl0.example/1.html"


def test_builders_and_readers_at_once(calm: Calm, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    sections = yaml.safe_load(Path(calm.config).read_text())
    other.write_text(yaml.safe_dump({**sections, "dedup": {"threshold": 0.99}, "tokenize": {"vocab_size": 300}}))
    store = str(tmp_path / "store")
    attempts = [
        Attempt(config, store, str(tmp_path / f"log-{number}"), rows=rows)
        for number, (config, rows) in enumerate(
            [(calm.config, 8), (calm.config, 7), (calm.config, 2_048), (str(other), 8), (str(other), 2_048)]
        )
    ]
    processes = [attempt.start() for attempt in attempts]
    reads = 0
    while any(process.is_alive() for process in processes):
        place = Store(store)
        report = verify(place, None)
        assert report.ok, report.problems
        if place.artifacts("ingest"):
            (found,) = why(place, PAGE)["documents"]
            assert found["fate"][0]["stage"] == "ingest" and found["fate"][0]["kept"]
        reads += 1
        time.sleep(0.01)
    for process, attempt in zip(processes, attempts, strict=True):
        process.join()
        assert process.exitcode == 0, worked_on(Path(attempt.log))
    assert reads > 3
    made = contents(store)
    assert calm.contents.items() <= made.items()
    # Quality keeps the same rows either way, so decontaminate is shared as ingest is; nothing is there twice.
    stages = Counter(ref.partition("@")[0] for ref in made)
    assert stages == {"ingest": 1, "dedup": 2, "quality": 2, "decontaminate": 1, "tokenize": 2, "mix": 2}
    assert verify(Store(store), None).checked == len(made)
    assert [path.name for path in Path(store, ".tmp").iterdir()] == []
    assert [path.name for path in Path(store, ".work").iterdir()] == []


def test_two_builders_of_one_recipe_that_are_killed_in_turn(calm: Calm, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    for number, function in enumerate(("process_file", "sign_shard", "score_shard", "encode_shard")):
        deaths = [(function, 2), (function, 4), ("", 0)] if number == 3 else [(function, 2), (function, 4)]
        processes = [
            Attempt(calm.config, store, str(tmp_path / "log"), die_in=name, die_after=after).start()
            for name, after in deaths
        ]
        for process in processes:
            process.join()
        report = verify(Store(store), None)
        assert report.ok, report.problems
    assert Attempt(calm.config, store, str(tmp_path / "log")).run() == 0
    assert contents(store) == calm.contents
    # The last run may have found everything built; drafts of the dead go when the next one begins.
    with Store(store).draft("ingest", "0" * 16):
        pass
    assert [path.name for path in Path(store, ".tmp").iterdir()] == []
