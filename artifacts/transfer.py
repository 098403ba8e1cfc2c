"""Copying one remote file, through servers that are busy, lines that break, and files that change half-way.

A copy that breaks off goes on where it was (`Range`, RFC 9110 section 14), if the server says that it still is the
same file: `If-Range` with a strong `ETag` or, without one, `Last-Modified`. A server that ignores the range, or whose
file has another tag by now, sends the whole, and the copy begins anew. What was copied, and of what, stays beside the
target when the process dies, so that the next one goes on from there. A length that is not the one stated is a broken
line, never a file.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import fcntl
import hashlib
import http.client
import json
import os
import random
import re
import ssl
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from artifacts.redaction import credentials, revealed
from artifacts.throttle import THROTTLE, Limits

CHUNK = 1 << 20
# Worth another try (RFC 9110 section 15, RFC 6585): busy, overloaded, a gateway's trouble.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class Interrupted(OSError):
    """The line broke, or the body is shorter or longer than stated. `wait`: seconds that the server asked for."""


@dataclass
class _Copy:
    """A file that is being copied: `path` holds its first bytes, `path.json` which file they are of."""

    path: Path
    validator: str = ""
    total: int | None = None

    @property
    def length(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def _note(self) -> Path:
        return self.path.with_suffix(".json")

    def load(self) -> None:
        """Take up what an earlier process left, if it says of what."""
        try:
            note = json.loads(self._note.read_text("utf8"))
            self.validator, self.total = str(note["validator"]), note["total"]
        except (OSError, ValueError, KeyError, TypeError):
            self.begin("", None)

    def begin(self, validator: str, total: int | None) -> None:
        """Start anew with a file of this tag and length."""
        self.validator, self.total = validator, total
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        if validator:
            self._note.write_text(json.dumps({"validator": validator, "total": total}), "utf8")

    def take(self, source: IO[bytes] | Any, host: str, limits: Limits) -> None:
        """Append all of a stream. Raises `Interrupted` where that is not the length stated."""
        with open(self.path, "ab") as sink:
            while chunk := source.read(CHUNK):
                sink.write(chunk)
                THROTTLE.took(host, len(chunk), limits)
        if self.total is not None and self.length != self.total:
            have = self.length
            if have > self.total:
                self.begin("", None)
            raise Interrupted(f"the body has {have} bytes, stated are {self.total}")

    def drop_note(self) -> None:
        self._note.unlink(missing_ok=True)


def copy(url: str, folder: Path) -> Path:
    """The file behind a URL (as `artifacts.redaction.hidden` gives it), whole, as a new file of `folder`.

    Tries again after passing faults, `CRAWL2CHAT_FETCH_TRIES` times without progress and twenty times as often in all,
    and waits 1, 2, 4 … seconds or as long as the server asks.

    Raises:
        OSError: it is not there, or not to be had. ValueError, ImportError: fsspec does not know its protocol.
    """
    limits = Limits.from_environment()
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, url) as path:
        part = _Copy(path)
        part.load()
        failures = tries = 0
        while True:
            tries += 1
            before = part.length
            try:
                (_attempt_http if _is_http(url) else _attempt_fsspec)(url, part, limits)
                break
            except Exception as error:
                failures = 1 if part.length > before else failures + 1
                if not _passing(error) or failures >= limits.tries or tries >= 20 * limits.tries:
                    if not part.validator:  # nobody could go on with it
                        part.path.unlink(missing_ok=True)
                    if isinstance(error, http.client.HTTPException):
                        raise Interrupted(f"{type(error).__name__}: {error}") from error
                    raise
                time.sleep(_wait(error, failures, limits))
        part.drop_note()
        part.path.touch()  # an empty body leaves none
        done = folder / f".part-{uuid.uuid4().hex}"
        os.replace(path, done)
    return done


@contextmanager
def _locked(folder: Path, url: str) -> Iterator[Path]:
    """Where the bytes of a URL are gathered. While another process gathers the same: a place of one's own."""
    place = folder / f".{hashlib.sha256(url.encode()).hexdigest()}.bytes"
    mark = place.with_suffix(".lock")
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(open(mark, "ab"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock.fileno()).st_ino != os.stat(mark).st_ino:  # its last owner has just removed it
                raise BlockingIOError
            stack.callback(mark.unlink, missing_ok=True)
        except (BlockingIOError, FileNotFoundError):
            place = folder / f".part-{uuid.uuid4().hex}.bytes"
            stack.callback(place.with_suffix(".json").unlink, missing_ok=True)
            stack.callback(place.unlink, missing_ok=True)
        yield place


def _is_http(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https")


# --- one attempt


def _attempt_http(url: str, part: _Copy, limits: Limits) -> None:
    host = urlsplit(url).netloc.rpartition("@")[2]
    have = part.length if part.validator else 0
    THROTTLE.request(host, limits)
    try:
        with urllib.request.urlopen(_request(url, part.validator, have), timeout=limits.timeout) as stream:
            if have and stream.status == 206:
                _check_range(stream.headers, part, have)
            else:  # all of it: no range was asked for, or it is another file by now, or ranges are not served
                part.begin(_validator(stream.headers), _length(stream.headers))
            part.take(stream, host, limits)
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 416 or not have:
                raise
            found = _RANGE.match(error.headers.get("Content-Range", ""))
            # Nothing lies behind what we have: it was whole already. Else the file has shrunk.
            if found is None or found[2] != str(have):
                part.begin("", None)
                raise Interrupted(f"the server has no byte {have} of it") from None


def _request(url: str, validator: str, have: int) -> urllib.request.Request:
    # urllib and not fsspec: fsspec's http needs aiohttp, which nothing else here does.
    url, login = credentials(revealed(url))
    request = urllib.request.Request(url, headers={"User-Agent": "crawl2chat", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator)
    if login is not None:
        # urllib makes nothing of a user in a URL. A redirect may lead to another host: not there.
        basic = base64.b64encode(":".join(login).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {basic}")
    return request


def _check_range(headers: Any, part: _Copy, have: int) -> None:
    stated = headers.get("Content-Range") or ""
    found = _RANGE.match(stated)
    total = int(found[2]) if found and found[2].isdigit() else None
    other = found is None or found[1] != str(have) or (part.total is not None and total not in (None, part.total))
    # Some servers honour Range and pass over If-Range.
    if other or _validator(headers) not in ("", part.validator):
        part.begin("", None)
        raise Interrupted(f"asked for the bytes from {have}, the server sent {stated[:60]!r} of another file or place")
    part.total = total if part.total is None else part.total


def _validator(headers: Any) -> str:
    """What tells whether a file is still the same: a strong ETag, else its date (RFC 9110 section 13.1.5)."""
    tag = (headers.get("ETag") or "").strip()
    return tag if tag.startswith('"') else (headers.get("Last-Modified") or "").strip()


def _length(headers: Any) -> int | None:
    stated = (headers.get("Content-Length") or "").strip()
    return int(stated) if stated.isascii() and stated.isdigit() else None


def _attempt_fsspec(url: str, part: _Copy, limits: Limits) -> None:
    import fsspec

    host = urlsplit(url).netloc.rpartition("@")[2]
    THROTTLE.request(host, limits)
    fs, path = fsspec.core.url_to_fs(revealed(url))
    info = fs.info(path)
    validator = str(info.get("ETag") or info.get("LastModified") or info.get("mtime") or info.get("created") or "")
    size = info.get("size")
    if not validator or validator != part.validator or part.length > (size or 0):
        part.begin(validator, size)
    with fs.open(path, "rb") as stream:
        if part.length:
            stream.seek(part.length)
        part.take(stream, host, limits)


# --- what a fault means


def _passing(error: BaseException) -> bool:
    """Whether the same request may succeed in a while."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in PASSING
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        return _passing(error.reason)
    if isinstance(error, ssl.SSLCertVerificationError):
        return False
    kinds = (Interrupted, TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException)
    return isinstance(error, kinds)


def _wait(error: BaseException, failures: int, limits: Limits) -> float:
    """Seconds until the next try: what `Retry-After` says (seconds or a date), else twice as long each time.

    Up to a quarter longer by chance, so that many clients of one server do not come back at once.
    """
    asked = None
    if isinstance(error, urllib.error.HTTPError):
        asked = retry_after(error.headers.get("Retry-After"), time.time())
    wait = 2.0 ** (failures - 1) if asked is None else asked
    return min(wait, limits.longest_wait) * (1 + random.random() / 4)


def retry_after(value: str | None, now: float) -> float | None:
    """The seconds that a Retry-After header asks for (RFC 9110 section 10.2.3); None where it says nothing usable."""
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    with contextlib.suppress(TypeError, ValueError, IndexError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    return None
