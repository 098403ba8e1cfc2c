"""Fetching over bad lines: what comes is the file, whole, or a message; what was there is not asked for again."""

from __future__ import annotations

import hashlib
import multiprocessing
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts import fetch, transfer
from artifacts.errors import UserError
from artifacts.sources import resolve_sources
from artifacts.throttle import Limits, Throttle
from artifacts.transfer import copy, retry_after
from tests.artifacts.faulty import Fault, Server, serving

BODY = random.Random(1).randbytes(3_000_000)
OTHER = random.Random(2).randbytes(2_500_000)
PATH = "/a/file.warc.gz"


@pytest.fixture(autouse=True)
def waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """An empty cache, and the seconds that would have been waited."""
    monkeypatch.setenv("CRAWL2CHAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CRAWL2CHAT_MIRROR", raising=False)
    waited: list[float] = []
    monkeypatch.setattr(transfer.time, "sleep", waited.append)
    monkeypatch.setattr(transfer.random, "random", lambda: 0.0)
    return waited


@pytest.fixture
def server() -> Iterator[Server]:
    with serving({PATH: BODY}) as running:
        yield running


def get(server: Server, folder: Path) -> bytes:
    return copy(server.url + PATH, folder).read_bytes()


def test_a_dropped_line_is_taken_up_where_it_broke(server: Server, tmp_path: Path, waits: list[float]) -> None:
    server.faults = [Fault(stop=1_000_000), Fault(stop=0), Fault(stop=700_000)]
    assert get(server, tmp_path) == BODY
    assert server.ranges == [None, "bytes=1000000-", "bytes=1000000-", "bytes=1700000-"]
    assert {headers.get("if-range") for _, headers in server.asked[1:]} == {'"one"'}
    # Doubled without progress, from the beginning again after some.
    assert waits == [1.0, 2.0, 1.0]
    assert [path.name for path in tmp_path.iterdir() if path.suffix] == []


def test_503_waits_as_long_as_the_server_asks(server: Server, tmp_path: Path, waits: list[float]) -> None:
    busy = [Fault(503, {"Retry-After": "7"}), Fault(429, {"Retry-After": "99999"}), Fault(502), Fault(503)]
    server.faults = list(busy)
    assert get(server, tmp_path) == BODY
    assert waits == [7.0, 300.0, 4.0, 8.0]


def test_too_many_faults_end_in_a_message_and_the_next_try_goes_on(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRAWL2CHAT_FETCH_TRIES", "3")
    server.faults = [Fault(stop=500_000), *[Fault(503)] * 2]
    with pytest.raises(UserError, match=r"file\.warc\.gz: cannot be fetched \(.*503"):
        resolve_sources([server.url + PATH], "crawl")
    assert server.ranges == [None, *["bytes=500000-"] * 2]
    (source,) = resolve_sources([server.url + PATH], "crawl")
    assert source.sha256 == hashlib.sha256(BODY).hexdigest()
    assert server.ranges[3:] == ["bytes=500000-"]


@pytest.mark.parametrize("status", [404, 403, 401, 410])
def test_what_will_not_pass_is_asked_once(server: Server, tmp_path: Path, status: int) -> None:
    server.faults = [Fault(status)]
    with pytest.raises(OSError, match=str(status)):
        get(server, tmp_path)
    assert len(server.asked) == 1


@pytest.mark.parametrize("honest", [True, False])
def test_a_file_that_changes_half_way_is_fetched_anew(server: Server, tmp_path: Path, honest: bool) -> None:
    """Also where the server honours Range and passes over If-Range: its new tag gives it away."""
    server.faults = [Fault(stop=1_000_000), Fault(body=OTHER, etag='"two"', ignore_if_range=not honest)]
    assert get(server, tmp_path) == OTHER
    assert server.ranges == [None, "bytes=1000000-", *([] if honest else [None])]


def test_a_server_that_ignores_ranges_sends_the_whole(server: Server, tmp_path: Path) -> None:
    server.faults = [Fault(stop=1_000_000), Fault(stop=2_000_000, ignore_range=True), Fault(ignore_range=True)]
    assert get(server, tmp_path) == BODY


def test_a_part_from_another_place_is_not_taken(server: Server, tmp_path: Path) -> None:
    server.faults = [Fault(stop=1_000_000), Fault(shift=10)]
    assert get(server, tmp_path) == BODY
    assert server.ranges == [None, "bytes=1000000-", None]


def test_without_a_tag_nothing_is_resumed_and_a_date_is_a_tag(tmp_path: Path) -> None:
    for etag, modified, second in (
        ("", "", None),
        ('W/"weak"', "", None),
        ("", "Mon, 01 Jan 2024 00:00:00 GMT", "bytes=9-"),
    ):
        with serving({PATH: BODY}, etag=etag, modified=modified) as server:
            server.faults = [Fault(stop=9)]
            assert get(server, tmp_path) == BODY
            assert server.ranges == [None, second], (etag, modified)


@pytest.mark.parametrize("stated", [len(BODY) + 1, len(BODY) * 2])
def test_a_body_shorter_than_stated_is_no_file(server: Server, tmp_path: Path, stated: int) -> None:
    server.etag = ""
    server.faults = [Fault(state=stated)] * 9
    with pytest.raises(OSError, match=f"has {len(BODY)} bytes, stated are {stated}"):
        get(server, tmp_path)
    assert list(tmp_path.glob("*.bytes")) == []


def test_what_is_shorter_than_the_manifest_says_is_refused(server: Server, tmp_path: Path) -> None:
    """A length that the server states wrongly, or not at all, is found out by the hash."""
    sha = hashlib.sha256(BODY).hexdigest()
    manifest = tmp_path / "m.yaml"
    manifest.write_text(
        "name: m\nrole: crawl\nlicence: CC0-1.0\nfiles:\n"
        f"  - {{name: a, url: '{server.url}{PATH}', sha256: {sha}, bytes: {len(BODY)}}}\n"
    )
    server.faults = [Fault(stop=5_000, state=-1)]
    with pytest.raises(UserError, match=r"the hash does not match.* and 5000 bytes"):
        resolve_sources([str(manifest)], "crawl")
    assert resolve_sources([str(manifest)], "crawl")[0].sha256 == sha


def test_whole_copies_and_empty_files(server: Server, tmp_path: Path) -> None:
    # The process died between the last byte and the rename.
    with transfer._locked(tmp_path, server.url + PATH) as place:
        part = transfer._Copy(place)
        part.begin('"one"', None)
        place.write_bytes(BODY)
    assert get(server, tmp_path) == BODY
    assert server.ranges == [f"bytes={len(BODY)}-"]
    server.files[PATH] = b""
    server.etag = '"two"'
    assert get(server, tmp_path) == b""


def _fetch(url: str, folder: str, results: Any) -> None:
    results.put(hashlib.sha256(copy(url, Path(folder)).read_bytes()).hexdigest())


def test_processes_that_fetch_the_same_at_once_do_not_mix(server: Server, tmp_path: Path) -> None:
    server.faults = [Fault(stop=1_000_000)]
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=_fetch, args=(server.url + PATH, str(tmp_path), results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    found = {results.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
    assert found == {hashlib.sha256(BODY).hexdigest()}
    assert sorted(path.suffix for path in tmp_path.iterdir() if not path.name.startswith(".part-")) == []
    assert len(list(tmp_path.iterdir())) == 3


class _Breaking:
    """A stream of another file system that breaks once."""

    def __init__(self, inner: Any, after: list[int]) -> None:
        self._inner, self._after = inner, after

    def __enter__(self) -> _Breaking:
        return self

    def __exit__(self, *args: object) -> None:
        self._inner.close()

    def seek(self, place: int) -> None:
        self._inner.seek(place)

    def read(self, count: int) -> bytes:
        if self._after and self._inner.tell() >= self._after[0]:
            self._after.pop()
            raise ConnectionResetError("the line broke")
        return bytes(self._inner.read(count))


def test_other_file_systems_are_resumed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fsspec.open("memory://bucket/file", "wb") as stream:
        stream.write(BODY)
    fs = fsspec.filesystem("memory")
    opened: list[int] = []
    after = [1 << 20]
    plain = type(fs).open

    def breaking(self: Any, path: str, mode: str = "rb") -> Any:
        opened.append(len(after))
        return _Breaking(plain(self, path, mode), after)

    monkeypatch.setattr(type(fs), "open", breaking)
    assert copy("memory://bucket/file", tmp_path).read_bytes() == BODY
    assert opened == [1, 0]


def test_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        # Another test's server may be known to this process as "s3".
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        fs.mkdir("crawl")
        for name in ("b.warc.gz", "a.warc.gz"):
            fs.pipe_file(f"crawl/{name}", name.encode() + BODY)
        sources = resolve_sources(["s3://crawl/*.warc.gz"], "crawl")
        assert [(source.name, source.bytes) for source in sources] == [
            ("a.warc.gz", len(BODY) + 9),
            ("b.warc.gz", len(BODY) + 9),
        ]
        assert sources[0].path.read_bytes() == b"a.warc.gz" + BODY
        with pytest.raises(UserError, match="s3://crawl/none: cannot be fetched"):
            resolve_sources(["s3://crawl/none"], "crawl")
    finally:
        server.stop()


# --- rates


class Clock:
    """Time that passes only while someone sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_requests_are_spaced_by_host() -> None:
    clock = Clock()
    throttle = Throttle(clock, clock.sleep)
    limits = Limits(requests_per_second=2)
    starts = []
    for host in ("a", "a", "b", "a"):
        throttle.request(host, limits)
        starts.append(clock.now - 100)
    assert starts == [0.0, 0.5, 0.5, 1.0]
    clock.now += 60
    for _ in range(2):
        throttle.request("a", limits)
    # A pause earns no burst.
    assert clock.now - 100 == 61.5


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=30), st.floats(1e3, 1e8))
def test_bytes_never_come_faster_than_the_limit(counts: list[int], rate: float) -> None:
    clock = Clock()
    throttle = Throttle(clock, clock.sleep)
    for count in counts:
        throttle.took("host", count, Limits(bytes_per_second=rate))
    assert clock.now - 100 == pytest.approx(sum(counts) / rate)


def test_limits_come_from_the_environment(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(transfer, "THROTTLE", Throttle(clock, clock.sleep))
    monkeypatch.setenv("CRAWL2CHAT_FETCH_BYTES_PER_SECOND", "1e6")
    assert get(server, tmp_path) == BODY
    assert clock.now - 100 == pytest.approx(3.0)
    monkeypatch.setenv("CRAWL2CHAT_FETCH_REQUESTS_PER_SECOND", "fast")
    with pytest.raises(UserError, match="CRAWL2CHAT_FETCH_REQUESTS_PER_SECOND is 'fast'"):
        resolve_sources([server.url + "/b"], "crawl")


def test_retry_after_is_seconds_or_a_date() -> None:
    now = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
    given = ["120", " 0 ", "Mon, 01 Jan 2024 00:00:30 GMT", "Sun, 31 Dec 2023 00:00:00 GMT", "soon", "", None, "-5"]
    assert [retry_after(value, now) for value in given] == [120.0, 0.0, 30.0, 0.0, None, None, None, None]


def test_plans_fetch_nothing(server: Server) -> None:
    with fetch.offline(), pytest.raises(UserError, match="a plan fetches nothing"):
        resolve_sources([server.url + PATH], "crawl")
    assert server.asked == []
