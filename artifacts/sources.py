"""External files: data manifests, and finding each file by its hash in cache, mirror or network.

A data manifest is a YAML file that says what goes in: `name`, `role`, `licence`, `format` and the `files`, each with
`name`, `url`, `sha256` and `bytes`. INTERFACE, "Data sources without a network". In place of files it may name a part
of the pipeline's own crawl, or a sample of Common Crawl.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from artifacts.commoncrawl import CommonCrawlBlock, find_files
from artifacts.digest import source_identity
from artifacts.errors import UserError
from artifacts.fetch import (
    Mirror,
    extract_member,
    fetch_unhashed,
    find_or_fetch,
    mirror_folders,
    require_network,
    sha256_of,
    url_name,
)
from artifacts.redaction import hidden, redact_text, redacted, revealed

ROOT = Path(__file__).resolve().parent.parent
Role = Literal["crawl", "curated", "demonstrations", "rankings", "evaluation"]


@dataclass(frozen=True)
class Source:
    """One external file, local and checked.

    Attributes:
        name: base name as upstream spells it (what `warc_file` and error messages show).
        path: the local file.
        source: the value of the `source` column for rows that come from it.
        manifest: name of its data manifest, None for a bare path.
        options: reader options of its data manifest (`format` and others).
    """

    name: str
    path: Path
    sha256: str
    bytes: int
    source: str
    manifest: str | None = None
    role: str | None = None
    licence: str | None = None
    url: str | None = None
    options: tuple[tuple[str, Any], ...] = ()

    def option(self, name: str, default: Any = None) -> Any:
        return dict(self.options).get(name, default)

    @property
    def identity(self) -> str:
        """A digest of all that may change what is read from the file: content, name, role, source and options."""
        return source_identity(self.sha256, self.name, self.role, self.source, dict(self.options))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ManifestFile(_Strict):
    """One file of a data manifest. `sha256` and `bytes` are those of what the URL gives."""

    name: str = Field(min_length=1, pattern=r"^[^/\x00]+$", description="Base name, as upstream spells it")
    url: str = Field(min_length=1, description="Where to fetch it; without a scheme: a path beside the manifest")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)
    member: str | None = Field(None, description="Path inside the zip file at `url`; the source is that member")


class CrawlBlock(_Strict):
    """A source that the pipeline crawls itself instead of reading files."""

    server: Literal["pydoc"]
    part: Literal["modules", "topics", "docstrings"]


class DataManifest(_Strict):
    """What goes in: one source, with its role and licence, and its files or what is to be crawled."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    title: str | None = None
    role: Role
    source: str | None = Field(None, min_length=1, description="Value of the `source` column")
    licence: str = Field(min_length=1)
    homepage: str | None = None
    notes: str | None = None
    format: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    files: list[ManifestFile] = Field(default_factory=list)
    crawl: CrawlBlock | None = None
    commoncrawl: CommonCrawlBlock | None = None

    @model_validator(mode="after")
    def _one_of_three(self) -> DataManifest:
        if [bool(self.files), self.crawl is not None, self.commoncrawl is not None].count(True) != 1:
            raise ValueError("a manifest has either files or a crawl block or a commoncrawl block")
        return self

    @property
    def source_name(self) -> str:
        """The `source` column: as given, else "crawl" for a crawl and the manifest's name for the rest."""
        return self.source or ("crawl" if self.role == "crawl" else self.name)

    @property
    def reader_options(self) -> tuple[tuple[str, Any], ...]:
        """`options` and `format`, in a fixed order."""
        named = {**self.options, **({"format": self.format} if self.format else {})}
        return tuple(sorted(redacted(named).items()))


def find_path(entry: str) -> Path:
    """A path as given, against the current folder and then the repository's root (where the configs point)."""
    path = Path(entry).expanduser()
    if not path.exists() and not path.is_absolute() and (ROOT / path).exists():
        return ROOT / path
    return path


def load_manifest(path: str | Path) -> DataManifest:
    """Read and check a data manifest.

    Raises:
        UserError: it is not there, not YAML, or a field is wrong; names the file and the field's path.
    """
    found = find_path(str(path))
    try:
        value = yaml.safe_load(found.read_text("utf8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such data manifest ({_looked_in()})") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {redact_text(' '.join(str(error).split()))}") from None
    value = hidden(value)
    if not isinstance(value, dict):
        raise UserError(f"{path}: a data manifest is a mapping of fields (name, role, licence, files, …)")
    try:
        return DataManifest.model_validate(value)
    except ValidationError as error:
        problems = [f"{'.'.join(str(p) for p in e['loc']) or 'manifest'}: {e['msg']}" for e in error.errors()]
        raise UserError(f"{path}: " + "; ".join(problems)) from error


def resolve_sources(entries: Sequence[str], default_source: str) -> list[Source]:
    """The files behind config entries: each a data manifest (`*.yaml`), a path, a glob or a URL. In order.

    Files of a glob come in the order of their paths. A file that is named twice is read once. A manifest with a
    `crawl` block has no files and gives nothing here: the pipeline crawls it.

    Args:
        default_source: the `source` of files that are named by bare paths and URLs.

    Raises:
        UserError: an entry names nothing, a manifest is wrong, or a file is not to be had or not the one meant.
    """
    mirror: Mirror | None = None
    found: dict[tuple[str, str, str], Source] = {}
    for entry in _expand(entries):
        if entry.endswith((".yaml", ".yml")) and "://" not in entry:
            manifest = load_manifest(entry)
            if manifest.files and mirror is None:
                mirror = Mirror(mirror_folders())
            sources = [_manifest_source(manifest, file, entry, mirror) for file in manifest.files if mirror is not None]
            sources += _commoncrawl_sources(manifest, entry)
        else:
            sources = [_bare_source(entry, default_source)]
        for source in sources:
            found.setdefault((os.path.realpath(source.path), source.name, source.source), source)
    return list(found.values())


def crawl_sources(entries: Sequence[str]) -> list[Source]:
    """The manifests among the entries that name a part of the pipeline's own crawl, each as a source.

    Its path is the manifest itself, its option `part` says what of the crawl artifact is meant. As a source it enters
    the recipe, which decides whether that part is read and what its rows are called.
    """
    found = []
    for entry in _expand(entries):
        if not entry.endswith((".yaml", ".yml")) or "://" in entry:
            continue
        manifest, path = load_manifest(entry), find_path(entry)
        if manifest.crawl is not None:
            found.append(
                Source(
                    name=path.name,
                    path=path,
                    sha256=sha256_of(path),
                    bytes=path.stat().st_size,
                    source=manifest.source_name,
                    manifest=manifest.name,
                    role=manifest.role,
                    licence=manifest.licence,
                    options=(("part", manifest.crawl.part),),
                )
            )
    return found


def _expand(entries: Sequence[str]) -> Iterator[str]:
    for entry in hidden(list(entries)):
        if not glob.has_magic(entry) or entry.startswith(("http://", "https://")):
            yield entry
        elif "://" in entry:
            yield from _expand_url(entry)
        else:
            matches = sorted(glob.glob(os.path.expanduser(entry), recursive=True))
            if not matches and not os.path.isabs(entry):
                matches = sorted(glob.glob(str(ROOT / entry), recursive=True))
            matches = [match for match in matches if os.path.isfile(match)]
            # A name may hold brackets of its own.
            if not matches and os.path.isfile(entry):
                matches = [entry]
            if not matches:
                raise UserError(f"{entry}: no file matches ({_looked_in()})")
            yield from matches


def _looked_in() -> str:
    return "looked in " + " and ".join(dict.fromkeys([str(Path.cwd()), str(ROOT)]))


def _expand_url(pattern: str) -> list[str]:
    import fsspec

    require_network(pattern)
    try:
        fs, path = fsspec.core.url_to_fs(revealed(pattern))
        matches = sorted(fs.unstrip_protocol(name) for name in fs.glob(path))
    except (ImportError, ValueError, OSError) as error:
        raise UserError(f"{pattern}: {redact_text(str(error))}") from None
    if not matches:
        raise UserError(f"{pattern}: no file matches")
    return matches


def _bare_source(entry: str, default_source: str) -> Source:
    entry = entry.removeprefix("file://")
    url = entry if "://" in entry else None
    if url is not None:
        path, name = fetch_unhashed(url), url_name(url)
    else:
        path = find_path(entry)
        name = path.name
        if not path.exists():
            raise UserError(f"{entry}: no such file ({_looked_in()})")
        if not path.is_file():
            raise UserError(f"{entry}: a folder, not a file; name its files, as in {entry.rstrip('/')}/*.warc.gz")
    try:
        return Source(name, path, sha256_of(path), path.stat().st_size, default_source, url=url)
    except OSError as error:
        raise UserError(f"{entry}: cannot be read: {error.strerror or error}") from error


def _manifest_source(manifest: DataManifest, file: ManifestFile, entry: str, mirror: Mirror) -> Source:
    where = f"{entry}: {file.name}"
    url = file.url
    if "://" not in url:
        url = (find_path(entry).absolute().parent / url).as_uri()
    path = find_or_fetch(url, file.name, file.sha256, file.bytes, mirror, where)
    sha256, size = file.sha256, file.bytes
    if file.member is not None:
        path = extract_member(path, file.sha256, file.member, where)
        sha256, size = sha256_of(path), path.stat().st_size
    return Source(
        name=file.name,
        path=path,
        sha256=sha256,
        bytes=size,
        source=manifest.source_name,
        manifest=manifest.name,
        role=manifest.role,
        licence=manifest.licence,
        url=file.url,
        options=manifest.reader_options,
    )


def _commoncrawl_sources(manifest: DataManifest, entry: str) -> list[Source]:
    if manifest.commoncrawl is None:
        return []
    return [
        Source(
            name=name,
            path=path,
            sha256=sha256_of(path),
            bytes=path.stat().st_size,
            source=manifest.source_name,
            manifest=manifest.name,
            role=manifest.role,
            licence=manifest.licence,
            url=url,
            options=manifest.reader_options,
        )
        for name, path, url in find_files(manifest.commoncrawl, entry)
    ]
