"""Samples of Common Crawl: which files are taken, and how they come."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts import transfer
from artifacts.commoncrawl import CommonCrawlBlock, choose
from artifacts.errors import UserError
from artifacts.sources import resolve_sources
from artifacts.store import Store
from tasks.ingest import STAGE, IngestConfig
from tests.artifacts.faulty import Fault, Server, serving
from tests.support import read_rows, run_stage
from tests.tasks.archives import Archive, page

CRAWL = "CC-MAIN-2024-22"
PATHS = [f"crawl-data/{CRAWL}/segments/{n // 100}/warc/{CRAWL}-{n:05d}.warc.gz" for n in range(4000)]
LIST = f"/crawl-data/{CRAWL}/warc.paths.gz"


def block(**fields: object) -> CommonCrawlBlock:
    return CommonCrawlBlock.model_validate({"crawl": CRAWL, "fraction": 0.05, **fields})


def test_the_sample_is_a_function_of_path_and_seed_alone() -> None:
    taken = choose(PATHS, block())
    assert taken == [path for path in PATHS if path in set(taken)]
    # 4,000 · 0.05 = 200, give or take three standard deviations of a binomial.
    assert abs(len(taken) - 200) < 3 * (4000 * 0.05 * 0.95) ** 0.5
    assert sorted(choose(PATHS[::-1], block())) == sorted(taken)
    assert choose(PATHS[1000:2000], block()) == [path for path in taken if path in set(PATHS[1000:2000])]
    assert set(choose(PATHS, block(seed=1))) != set(taken)
    # Pinned: the same files are taken on every machine and by every version.
    taken = choose(PATHS, block(fraction=0.001))
    assert [PATHS.index(path) for path in taken] == [1346, 2158, 3044, 3119, 3224]


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-6, 1), st.floats(1e-6, 1), st.integers(0, 5), st.integers(1, 50))
def test_a_larger_fraction_takes_more_and_nothing_else(one: float, two: float, seed: int, most: int) -> None:
    paths = PATHS[:300]
    small, large = sorted((one, two))
    fewer, more = (set(choose(paths, block(fraction=f, seed=seed))) for f in (small, large))
    assert fewer <= more
    assert choose(paths, block(fraction=1)) == paths
    some = choose(paths, block(fraction=large, seed=seed, most=most))
    assert len(some) == min(most, len(more)) and set(some) <= more


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("CRAWL2CHAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CRAWL2CHAT_MIRROR", raising=False)
    monkeypatch.setattr(transfer.time, "sleep", lambda seconds: None)
    files = {LIST: gzip.compress("".join(f"{path}\n" for path in PATHS[:40]).encode())}
    for number, path in enumerate(PATHS[:40]):
        files[f"/{path}"] = Archive().add(f"http://example.org/{number}", page(number)).data
    with serving(files) as running:
        yield running


def manifest(folder: Path, server: Server, **fields: object) -> str:
    path = folder / "cc.yaml"
    value = {"crawl": CRAWL, "fraction": 0.2, "base": f"{server.url}/", **fields}
    path.write_text(
        yaml.safe_dump({"name": "cc", "role": "crawl", "licence": "Common Crawl terms of use", "commoncrawl": value})
    )
    return str(path)


def test_a_sample_is_fetched_and_ingested(tmp_path: Path, server: Server) -> None:
    wanted = choose(PATHS[:40], block(fraction=0.2))
    assert 2 <= len(wanted) <= 20
    # Busy, a broken line in the list, a broken line in a file.
    server.faults = [Fault(503, {"Retry-After": "1"}), Fault(stop=20), Fault(), Fault(stop=100)]
    config = IngestConfig(manifests=[manifest(tmp_path, server)])
    artifact = run_stage(STAGE, config, Store(str(tmp_path / "store"))).artifact
    rows = read_rows(artifact)
    assert [row["warc_file"] for row in rows] == [path.rpartition("/")[2] for path in wanted]
    assert {row["source"] for row in rows} == {"crawl"}
    entries = artifact.manifest.sources
    assert [entry.url for entry in entries] == [f"{server.url}/{path}" for path in wanted]
    assert {(entry.manifest, entry.licence) for entry in entries} == {("cc", "Common Crawl terms of use")}
    asked = len(server.asked)
    assert run_stage(STAGE, config, Store(str(tmp_path / "store"))).reused
    assert len(server.asked) == asked  # all of it is in the cache


def test_a_mirror_or_a_folder_serves_without_a_network(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = tmp_path / "mirror"
    for path, data in server.files.items():
        (mirror / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (mirror / path[1:]).write_bytes(data)
    entry = manifest(tmp_path, server, most=2)
    monkeypatch.setenv("CRAWL2CHAT_MIRROR", str(mirror))
    mirrored = resolve_sources([entry], "crawl")
    assert server.asked == [] and len(mirrored) == 2
    monkeypatch.delenv("CRAWL2CHAT_MIRROR")
    local = resolve_sources([manifest(tmp_path, server, most=2, base=str(mirror))], "crawl")
    assert [source.identity for source in local] == [source.identity for source in mirrored]


def test_wrong_lists_and_empty_samples_are_told(tmp_path: Path, server: Server) -> None:
    with pytest.raises(UserError, match=r"cc\.yaml: no file of CC-MAIN-2024-22 .* lists 40 warc files.* 1e-09"):
        resolve_sources([manifest(tmp_path, server, fraction=1e-9)], "crawl")
    with pytest.raises(UserError, match=r"cc\.yaml: .*/wet\.paths\.gz: cannot be fetched \(.*404"):
        resolve_sources([manifest(tmp_path, server, kind="wet")], "crawl")
    for crawl, data, problem in (
        ("CC-A", b"no gzip", "cannot be read"),
        ("CC-B", b"../../etc/passwd\n", "no path below"),
    ):
        server.files[f"/crawl-data/{crawl}/warc.paths.gz"] = data if crawl == "CC-A" else gzip.compress(data)
        with pytest.raises(UserError, match=problem):
            resolve_sources([manifest(tmp_path, server, crawl=crawl)], "crawl")
