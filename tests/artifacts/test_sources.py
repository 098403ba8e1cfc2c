"""Data manifests, and files found by their hash: cache, then mirror, then URL."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from artifacts import fetch, transfer
from artifacts.errors import UserError
from artifacts.sources import ROOT, load_manifest, resolve_sources

BODY = b"one page of text\n"
SHA = hashlib.sha256(BODY).hexdigest()
MIRROR = os.environ.get("CRAWL2CHAT_MIRROR")
NOWHERE = "http://127.0.0.1:9/page.txt"  # the discard port: refused at once


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, no mirror, an empty current folder."""
    monkeypatch.setenv("CRAWL2CHAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CRAWL2CHAT_MIRROR", raising=False)
    monkeypatch.setattr(transfer.time, "sleep", lambda seconds: None)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def manifest() -> Callable[..., str]:
    def write(name: str = "m.yaml", **fields: Any) -> str:
        file = {"name": "page.txt", "url": NOWHERE, "sha256": SHA, "bytes": len(BODY), **fields.pop("file", {})}
        value = {"name": "pages", "role": "curated", "licence": "CC0-1.0", "files": [file], **fields}
        Path(name).write_text(yaml.safe_dump(value))
        return name

    return write


def test_a_mirror_is_searched_by_hash_whatever_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manifest: Callable[..., str]
) -> None:
    mirrors = [tmp_path / "first", tmp_path / "second"]
    (mirrors[1] / "deep").mkdir(parents=True)
    mirrors[0].mkdir()
    (mirrors[0] / "page.txt").write_bytes(BODY[::-1])  # the name and the size, but another content
    (mirrors[1] / "deep" / "renamed.bin").write_bytes(BODY)
    monkeypatch.setenv("CRAWL2CHAT_MIRROR", os.pathsep.join(map(str, mirrors)))
    (source,) = resolve_sources([manifest(format="text", options={"b": 1, "a": 2})], "crawl")
    assert source.path == mirrors[1] / "deep" / "renamed.bin"
    assert (source.name, source.sha256, source.bytes) == ("page.txt", SHA, len(BODY))
    assert (source.source, source.manifest, source.role) == ("pages", "pages", "curated")
    assert source.options == (("a", 2), ("b", 1), ("format", "text"))


def test_the_url_comes_last_and_fills_the_cache(tmp_path: Path, manifest: Callable[..., str]) -> None:
    upstream = tmp_path / "upstream.txt"
    upstream.write_bytes(BODY)
    entry = manifest(file={"url": upstream.as_uri()})
    (source,) = resolve_sources([entry], "crawl")
    assert source.path == tmp_path / "cache" / SHA[:2] / SHA
    upstream.unlink()
    assert resolve_sources([entry], "crawl")[0].path == source.path
    source.path.write_bytes(BODY[::-1])  # a damaged cache is not believed
    with pytest.raises(UserError, match="not to be had from"):
        resolve_sources([entry], "crawl")


def test_a_url_without_a_scheme_is_a_path_beside_the_manifest(manifest: Callable[..., str]) -> None:
    Path("sub").mkdir()
    Path("sub/text.txt").write_bytes(BODY)
    (source,) = resolve_sources([manifest("sub/m.yaml", file={"url": "text.txt"})], "crawl")
    assert source.path.read_bytes() == BODY


def test_a_wrong_hash_names_manifest_file_and_both_hashes(tmp_path: Path, manifest: Callable[..., str]) -> None:
    upstream = tmp_path / "upstream.txt"
    upstream.write_bytes(b"something else\n")
    with pytest.raises(UserError) as caught:
        resolve_sources([manifest(file={"url": upstream.as_uri()})], "crawl")
    other = hashlib.sha256(b"something else\n").hexdigest()
    assert all(part in str(caught.value) for part in ("m.yaml: page.txt", "does not match", SHA, other))
    assert not list((tmp_path / "cache").glob(".part-*"))


def test_a_file_that_is_nowhere_says_what_a_mirror_has_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manifest: Callable[..., str]
) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "page.txt").write_bytes(b"something else\n")
    monkeypatch.setenv("CRAWL2CHAT_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(UserError) as caught:
        resolve_sources([manifest()], "crawl")
    other = hashlib.sha256(b"something else\n").hexdigest()
    assert all(part in str(caught.value) for part in ("m.yaml: page.txt", NOWHERE, SHA, other))
    monkeypatch.setenv("CRAWL2CHAT_MIRROR", str(tmp_path / "gone"))
    with pytest.raises(UserError, match="gone, which is not a folder"):
        resolve_sources([manifest()], "crawl")


def test_a_member_of_a_zip_file(tmp_path: Path, manifest: Callable[..., str]) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("texts/page.txt", BODY)
    data = (tmp_path / "all.zip").read_bytes()
    file = {"url": (tmp_path / "all.zip").as_uri(), "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (source,) = resolve_sources([manifest(file={**file, "member": "texts/page.txt"})], "crawl")
    assert (source.path.read_bytes(), source.sha256, source.name) == (BODY, SHA, "page.txt")
    with pytest.raises(UserError, match=r"no member 'texts/other.txt'"):
        resolve_sources([manifest(file={**file, "member": "texts/other.txt"})], "crawl")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"role": "food"}, "m.yaml: role: Input should be"),
        ({"file": {"sha256": "abc"}}, "m.yaml: files.0.sha256: String should match"),
        ({"file": {"bytes": -1}}, "m.yaml: files.0.bytes:"),
        ({"colour": "red"}, "m.yaml: colour: Extra inputs are not permitted"),
        ({"files": []}, "either files or a crawl block"),
        ({"crawl": {"server": "pydoc", "part": "topics"}}, "either files or a crawl block"),
        ({"commoncrawl": {"crawl": "CC-MAIN-2024-22", "fraction": 1}}, "either files or a crawl block"),
        ({"files": [], "commoncrawl": {"crawl": "../x", "fraction": 1}}, "m.yaml: commoncrawl.crawl: String should"),
        ({"files": [], "commoncrawl": {"crawl": "CC", "fraction": 0}}, "m.yaml: commoncrawl.fraction: Input should"),
        ({"files": [], "commoncrawl": {"crawl": "CC", "fraction": 1, "kind": "wat"}}, "m.yaml: commoncrawl.kind:"),
        ({"licence": ""}, "m.yaml: licence:"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(manifest: Callable[..., str], fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve_sources([manifest(**fields)], "crawl")
    assert problem in str(caught.value)


def test_a_manifest_that_is_no_yaml_or_not_there() -> None:
    Path("bad.yaml").write_text("name: [unclosed\n")
    with pytest.raises(UserError, match=r"bad\.yaml: not YAML: .*line 2"):
        resolve_sources(["bad.yaml"], "crawl")
    Path("list.yaml").write_text("- a\n")
    with pytest.raises(UserError, match="is a mapping of fields"):
        resolve_sources(["list.yaml"], "crawl")
    with pytest.raises(UserError, match=r"gone\.yaml: no such data manifest"):
        resolve_sources(["gone.yaml"], "crawl")


def test_paths_and_globs_come_in_order_and_once() -> None:
    for name in ("b.warc", "a.warc", "c.txt"):
        Path(name).write_text(name)
    sources = resolve_sources(["c.txt", "*.warc", "./b.warc"], "crawl")
    assert [source.name for source in sources] == ["c.txt", "a.warc", "b.warc"]
    assert {source.source for source in sources} == {"crawl"}
    assert sources[0].sha256 == hashlib.sha256(b"c.txt").hexdigest()


@pytest.mark.parametrize("entry", ["gone.warc.gz", "*.gone", "."])
def test_a_path_that_names_no_file_is_an_error(entry: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve_sources([entry], "crawl")
    assert str(caught.value).startswith(f"{entry}: ")


def test_a_url_of_another_protocol_is_copied_to_the_cache(tmp_path: Path) -> None:
    import fsspec

    with fsspec.open("memory://crawl/page%20one.txt", "wb") as stream:
        stream.write(BODY)
    (source,) = resolve_sources(["memory://crawl/*.txt"], "crawl")
    assert (source.sha256, source.path.read_bytes()) == (SHA, BODY)
    assert source.path.is_relative_to(tmp_path / "cache")
    with pytest.raises(UserError, match="cannot be fetched"):
        resolve_sources([NOWHERE], "crawl")


def test_what_may_change_the_reading_changes_the_identity(manifest: Callable[..., str]) -> None:
    Path("page.txt").write_bytes(BODY)
    local = {"file": {"url": "page.txt"}}

    def identity(**fields: Any) -> str:
        (source,) = resolve_sources([manifest(**local, **fields)], "crawl")
        return source.identity

    plain = identity()
    assert identity(title="Another title", licence="MIT") == plain
    assert len({plain, identity(source="books"), identity(format="zip_text"), identity(options={"k": 1})}) == 4


def test_every_manifest_of_the_repository_is_valid() -> None:
    paths = sorted((ROOT / "data_manifests").rglob("*.yaml"))
    manifests = [load_manifest(path) for path in paths]
    names = [manifest.name for manifest in manifests]
    assert len(set(names)) == len(names) >= 3
    assert [m.name for m in manifests if m.crawl] == ["pydoc-docstrings", "pydoc-topics", "pydoc"]
    # Manifests with a crawl block have no files, and need none.
    assert resolve_sources([str(path) for path, m in zip(paths, manifests, strict=True) if m.crawl], "crawl") == []


@pytest.mark.real
@pytest.mark.skipif(MIRROR is None, reason="needs the public data: CRAWL2CHAT_MIRROR is not set")
def test_every_public_file_is_found_in_the_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRAWL2CHAT_MIRROR", MIRROR or "")
    monkeypatch.setattr(fetch, "download", lambda url, folder: pytest.fail(f"{url} is not in the mirror"))
    entries = sorted(str(path) for path in (ROOT / "data_manifests" / "public").glob("*.yaml"))
    sources = resolve_sources(entries, "crawl")
    files = [file for entry in entries for file in load_manifest(entry).files]
    assert sorted(source.name for source in sources) == sorted(file.name for file in files)
