"""Getting one external file: from the cache or a mirror folder by its hash, else from its URL, checked every time."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import urllib.error
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from urllib.parse import unquote, urlsplit

from artifacts.digest import digest_file
from artifacts.errors import UserError
from artifacts.redaction import redact_text
from artifacts.transfer import copy

CHUNK = 1 << 20
# From this size on the hash of an unchanged file is remembered between processes (by inode, size, mtime and ctime, the
# last of which nobody can set); smaller files are hashed anew in each process.
REMEMBERED_BYTES = 64 * 2**20


_OFFLINE: ContextVar[bool] = ContextVar("offline", default=False)


@contextmanager
def offline() -> Iterator[None]:
    """Within it nothing is fetched: a file that is not here is an error. For plans, which only look."""
    token = _OFFLINE.set(True)
    try:
        yield
    finally:
        _OFFLINE.reset(token)


def require_network(url: str) -> None:
    """Raise `UserError` within `offline`."""
    if _OFFLINE.get():
        raise UserError(f"{url}: not fetched yet (a plan fetches nothing)")


def cache_folder() -> Path:
    """`$CRAWL2CHAT_CACHE`, else `~/.cache/crawl2chat/sources`."""
    given = os.environ.get("CRAWL2CHAT_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "crawl2chat" / "sources"


def mirror_folders() -> list[Path]:
    """The folders of `CRAWL2CHAT_MIRROR`, separated as in PATH. Raises `UserError` for one that is not there."""
    folders = [Path(part).expanduser() for part in os.environ.get("CRAWL2CHAT_MIRROR", "").split(os.pathsep) if part]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"CRAWL2CHAT_MIRROR names {folder}, which is not a folder")
    return folders


# --- hashes of files that did not change since they were hashed

_known: dict[str, str] = {}


def sha256_of(path: Path) -> str:
    """SHA-256 of a local file; computed once for a file as long as it stays unchanged."""
    status = path.stat()
    key = f"{path.absolute()}|{status.st_ino}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}"
    if key in _known:
        return _known[key]
    ledger = cache_folder() / "hashes.jsonl"
    if status.st_size >= REMEMBERED_BYTES:
        _known.update(_remembered(ledger))
    if key not in _known:
        _known[key] = digest_file(path)
        if status.st_size >= REMEMBERED_BYTES:
            ledger.parent.mkdir(parents=True, exist_ok=True)
            with open(ledger, "a", encoding="utf8") as stream:
                stream.write(json.dumps([key, _known[key]]) + "\n")
    return _known[key]


def _remembered(ledger: Path) -> Iterator[tuple[str, str]]:
    try:
        lines = ledger.read_text("utf8").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            key, digest = json.loads(line)
        except ValueError:  # another process is writing its line
            continue
        yield key, digest


# --- finding by hash


class Mirror:
    """The files of the mirror folders by size, so that only those of the wanted size are ever hashed."""

    def __init__(self, folders: list[Path]) -> None:
        self._by_size: dict[int, list[Path]] = {}
        self._by_name: dict[str, list[Path]] = {}
        for folder in folders:
            for root, names, files in os.walk(folder):
                names.sort()
                for name in sorted(files):
                    path = Path(root, name)
                    try:
                        size = path.stat().st_size
                    except OSError:  # a dangling link
                        continue
                    self._by_size.setdefault(size, []).append(path)
                    self._by_name.setdefault(name, []).append(path)

    def find(self, sha256: str, size: int) -> Path | None:
        """The first file with this hash, whatever its name."""
        return next((path for path in self._by_size.get(size, []) if sha256_of(path) == sha256), None)

    def named(self, name: str) -> list[Path]:
        """Files of this base name: what a message about a wrong hash points at."""
        return self._by_name.get(name, [])


def find_or_fetch(url: str, name: str, sha256: str, size: int, mirror: Mirror, where: str) -> Path:
    """A local file with this hash: from the cache, a mirror folder or its URL, in this order.

    Args:
        where: manifest and file, for messages.

    Raises:
        UserError: it is nowhere, or what the URL gave has another hash.
    """
    cached = cache_folder() / sha256[:2] / sha256
    if cached.is_file() and cached.stat().st_size == size and sha256_of(cached) == sha256:
        return cached
    found = mirror.find(sha256, size)
    if found is not None:
        return found
    others = "".join(
        f"\n  {path} has that name, but sha256 {sha256_of(path)} and {path.stat().st_size} bytes"
        for path in mirror.named(name)
    )
    try:
        partial, fetched, length = download(url, cache_folder())
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            f"{where}: not in the cache ({cache_folder()}), not in CRAWL2CHAT_MIRROR, and not to be had from {url}"
            f" ({_reason(error)}). Wanted: sha256 {sha256}, {size} bytes{others}"
        ) from error
    if fetched != sha256 or length != size:
        partial.unlink()
        raise UserError(
            f"{where}: the hash does not match. The manifest says sha256 {sha256} and {size} bytes,"
            f" {url} gave sha256 {fetched} and {length} bytes{others}"
        )
    cached.parent.mkdir(parents=True, exist_ok=True)
    os.replace(partial, cached)
    return cached


def fetch_unhashed(url: str) -> Path:
    """A local copy of a URL that comes without a hash. Fetched once; delete the cache folder to fetch it anew.

    Raises:
        UserError: it cannot be fetched.
    """
    digest = hashlib.sha256(url.encode()).hexdigest()
    target = cache_folder() / "urls" / digest[:2] / digest / (url_name(url) or "file")
    if target.is_file():
        return target
    try:
        partial, _, _ = download(url, cache_folder())
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{url}: cannot be fetched ({_reason(error)})") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(partial, target)
    return target


def url_name(url: str) -> str:
    """The last part of a URL's path, unquoted."""
    return unquote(urlsplit(url).path).rstrip("/").rsplit("/", 1)[-1]


def extract_member(archive: Path, archive_sha256: str, member: str, where: str) -> Path:
    """One member of a zip file, as a file in the cache.

    Raises:
        UserError: the archive is no zip file, or has no such member.
    """
    digest = hashlib.sha256(f"{archive_sha256}\0{member}".encode()).hexdigest()
    target = cache_folder() / "members" / digest[:2] / digest
    try:
        with zipfile.ZipFile(archive) as opened:
            info = opened.getinfo(member)
            if target.is_file() and target.stat().st_size == info.file_size:
                return target
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{uuid.uuid4().hex}")
            with opened.open(info) as source, open(partial, "wb") as sink:
                shutil.copyfileobj(source, sink, CHUNK)
    except KeyError as error:
        raise UserError(f"{where}: the archive has no member {member!r}") from error
    except zipfile.BadZipFile as error:
        raise UserError(f"{where}: member {member!r} cannot be read: {error}") from error
    os.replace(partial, target)
    return target


# --- fetching


def download(url: str, folder: Path) -> tuple[Path, str, int]:
    """Fetch a URL into a new file of `folder`: its path, SHA-256 and length. See `artifacts.transfer.copy`.

    The URL is as `artifacts.redaction.hidden` gives it; its credentials are put back where it is opened.

    Raises:
        OSError: it is not there, or not to be reached. ValueError, ImportError: fsspec does not know its protocol.
    """
    require_network(url)
    try:
        path = copy(url, folder)
    except (OSError, ValueError) as error:
        if redact_text(str(error)) == str(error):
            raise
        # Without its cause, which a log would print with the whole URL.
        raise OSError(redact_text(_reason(error))) from None
    return path, digest_file(path), path.stat().st_size


def _reason(error: BaseException) -> str:
    if isinstance(error, ImportError):
        return f"{error}; for s3:// install crawl2chat[s3]"
    if isinstance(error, urllib.error.URLError) and error.reason and not isinstance(error, urllib.error.HTTPError):
        return str(error.reason)
    return str(error) or type(error).__name__
