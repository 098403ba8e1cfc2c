"""A store on an object store does what a folder does: in memory, and on a server that speaks S3."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from artifacts.audit.verify import verify
from artifacts.errors import UserError
from artifacts.store import Store
from tests.artifacts.test_store import make
from tests.support import read_rows


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Store(f"memory://{tmp_path.name}/store")


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    # Another test's server may be known to this process as "s3".
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    bucket = "c" + "".join(c for c in tmp_path.name.lower() if c.isalnum())[-40:]
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(bucket)
    return Store(f"s3://{bucket}/some/store")


@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_an_object_store_does_what_a_folder_does(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    store: Store = request.getfixturevalue(kind)
    assert store.artifacts() == [] and store.stages() == []
    local = make(Store(tmp_path / "local")).artifact
    first = make(store)
    assert not first.reused and make(store).reused
    assert first.artifact == local and first.artifact.manifest.content == local.manifest.content
    assert first.artifact.path == f"{store.url}/{local.folder}"
    assert store.resolve("made@latest") == local and Store(store.url).artifacts() == [local]
    assert read_rows(first.artifact) == read_rows(local)
    assert verify(store).ok and verify(store).checked == 1
    # The manifest is the commit mark: without it nothing is read, and the next build takes the place.
    store.fs.rm(f"{store.root}/{local.folder}/manifest.json")
    assert store.artifacts() == [] and verify(store).ok
    assert not make(store).reused and verify(store).checked == 1
    data = f"{store.root}/{local.folder}/data/part-00000.parquet"
    store.fs.pipe_file(data, store.fs.cat_file(data)[:-1])
    assert [p.file for p in verify(store).problems] == ["data/part-00000.parquet"]
    make(store, force=True)
    assert verify(store).ok


@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_small_files_and_listings_of_an_object_store(kind: str, request: pytest.FixtureRequest) -> None:
    store: Store = request.getfixturevalue(kind)
    store.write_text("runs/one.json", "{}")
    assert store.list_dir("runs") == ["one.json"] and store.read_text("runs/one.json") == "{}"
    assert store.walk("runs") == ["one.json"] and store.stages() == []
    with pytest.raises(UserError, match=r"none\.json: no such file"):
        store.read_text("runs/none.json")


def test_a_chain_on_s3_reads_its_inputs_from_there(s3: Store) -> None:
    from tests.artifacts.chain import build

    made = build(s3)
    assert verify(s3).ok and verify(s3).checked == 9
    shutil.rmtree(s3.scratch_root() / "copies")
    assert build(Store(s3.url)) == made


def test_roots_without_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Store("memory://").join("a") == "memory://a" and Store("memory://")._full("a") == "/a"
    assert Store("here").url == str(tmp_path / "here") == Store(f"file://{tmp_path}/here/").url
    with pytest.raises(UserError, match="nosuch"):
        Store("nosuch://x")
