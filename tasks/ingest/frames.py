"""Decompressed bytes of an archive with the file offset they came from, and a way on after damage.

A WARC or ARC file is a row of gzip members (ISO 28500 annex D: one a record) or LZ4 frames, or plain bytes. fastwarc's
`ArchiveIterator` reads all three, but after a damaged member it raises again on every call, and a cut-off tail comes
out as a shorter payload without a word. Ingest has to account for every region it could not read, so it keeps the
frames itself: each is decompressed to its end (its CRC is checked by the codec), and after a damaged one the scan goes
on at the next magic number behind which a record begins.
"""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from typing import Any, BinaryIO, cast

import lz4.frame

# zlib's own API, words of errors and all, half again as fast on real archives. igzip is as fast, but its errors differ.
from zlib_ng import zlib_ng

GZIP_MAGIC = b"\x1f\x8b\x08"
LZ4_MAGIC = b"\x04\x22\x4d\x18"
READ_BYTES = 1 << 18
FILL_BYTES = 1 << 18  # decompressed bytes a step: what a bomb can add before anyone looks
HEAD_BYTES = 1 << 16
PROBE_BYTES = 16_384  # compressed bytes tried behind a magic number
# The package's types call its error a value.
_ZLIB_ERROR = cast(type[Exception], zlib_ng.error)
CODEC_ERRORS = (_ZLIB_ERROR, RuntimeError, ValueError, MemoryError)


class FrameError(Exception):
    """A frame could not be decompressed. `truncated` when the file ends inside it."""

    def __init__(self, offset: int, message: str, truncated: bool) -> None:
        super().__init__(message)
        self.offset = offset
        self.message = message
        self.truncated = truncated


class _Gzip:
    magic = GZIP_MAGIC
    name = "gzip member"

    def __init__(self) -> None:
        self._inner = zlib_ng.decompressobj(wbits=31)

    def decompress(self, data: bytes) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, FILL_BYTES)

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused(self) -> bytes:
        return self._inner.unused_data


class _Lz4:
    magic = LZ4_MAGIC
    name = "LZ4 frame"

    def __init__(self) -> None:
        self._inner = lz4.frame.LZ4FrameDecompressor()

    def decompress(self, data: bytes) -> bytes:
        found: bytes = self._inner.decompress(data, max_length=FILL_BYTES)
        return found

    @property
    def needs_input(self) -> bool:
        return bool(self._inner.needs_input)

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused(self) -> bytes:
        return self._inner.unused_data or b""


class _Plain:
    """No compression: one frame that ends where the file ends."""

    magic = b""
    name = "file"
    eof = False
    needs_input = True
    unused = b""

    def decompress(self, data: bytes) -> bytes:
        return data


Codec = type[_Gzip] | type[_Lz4] | type[_Plain]


def codec_of(head: bytes) -> Codec:
    """The codec that a file's first bytes name; plain bytes where none does."""
    if head.startswith(GZIP_MAGIC):
        return _Gzip
    return _Lz4 if head.startswith(LZ4_MAGIC) else _Plain


class FrameStream:
    """A window on the decompressed bytes. Records are looked at in `buffer` and taken by `skip` once they are whole.

    Attributes:
        buffer: decompressed bytes from the current position on, as far as `fill` was called.
        start_pattern: a compiled pattern that matches where a record begins; used to find the way on after damage.
    """

    def __init__(self, file: BinaryIO, start_pattern: Any) -> None:
        self._file = file
        self.start_pattern = start_pattern
        head = file.read(4)
        file.seek(0)
        self._codec: Codec = codec_of(head)
        self.plain = self._codec is _Plain
        self.size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if self.plain:
            self._look_for_frames()
        self.buffer = bytearray()
        self._position = 0  # of buffer[0], counted in decompressed bytes
        self._marks: list[tuple[int, int]] = [(0, 0)]  # (decompressed position, file offset) of frame starts
        self._raw = b""
        self._raw_offset = 0  # file offset of _raw[0]
        self._frame: Any = self._codec()
        self._frame_offset = 0
        self._open = self.size > 0

    def _look_for_frames(self) -> None:
        """Damage may have hit the very magic number that names the codec: then a later frame does."""
        head = self._file.read(HEAD_BYTES)
        self._file.seek(0)
        if re.search(rb"(?:\A|\n)(?:" + self.start_pattern.pattern + rb")", head):
            return
        for codec in (_Gzip, _Lz4):
            self._codec = codec
            if self._find_frame(0) < self.size:
                self.plain = False
                break
        else:
            self._codec = _Plain
        self._file.seek(0)

    # -- where we are -----------------------------------------------------------------------------------------------
    @property
    def position(self) -> int:
        """The current position in decompressed bytes."""
        return self._position

    def offset(self, ahead: int = 0) -> int:
        """File offset of the frame that holds the byte `ahead` of the position; exact to the byte in plain files."""
        at = self._position + ahead
        mark, file_offset = self._marks[bisect_right(self._marks, (at, 1 << 62)) - 1]
        return file_offset + (at - mark) if self.plain else file_offset

    def frame_end(self) -> int | None:
        """How many buffered bytes ahead the next known frame begins, None if the buffer holds a single frame."""
        for mark, _ in self._marks:
            if mark > self._position:
                return mark - self._position
        return None

    # -- reading ----------------------------------------------------------------------------------------------------
    def fill(self) -> bool:
        """Add decompressed bytes of the current frame to `buffer`. False when the frame has ended, CRC and all.

        Raises:
            FrameError: the frame is damaged or cut off.
        """
        while self._open:
            if self._frame.eof:
                self._close_frame()
                return False
            data = b""
            if self._frame.needs_input:
                data = self._raw or self._file.read(READ_BYTES)
                self._raw_offset += len(data)
                self._raw = b""
                if not data:
                    return self._end_of_file()
            try:
                found = self._frame.decompress(data)
            except CODEC_ERRORS as error:
                # zlib puts the codec's words behind a fixed phrase; both stay the same from run to run.
                raise FrameError(self._frame_offset, f"{self._frame.name}: {error}", False) from error
            if found:
                self.buffer += found
                return True
        return False

    def _end_of_file(self) -> bool:
        if self.plain:
            self._open = False
            return False
        raise FrameError(self._frame_offset, f"the file ends inside a {self._frame.name}", True)

    def _close_frame(self) -> None:
        unused = self._frame.unused
        self._raw = unused
        self._raw_offset -= len(unused)
        self._open = False

    def next_frame(self) -> bool:
        """Open the frame behind the one that `fill` has ended. False at the end of the file (zero padding included).

        Raises:
            FrameError: what follows is no frame.
        """
        if self._open:
            return True
        while len(self._raw) < 4 or _only_zeros(self._raw):
            more = self._file.read(READ_BYTES)
            if not more:
                break
            self._raw = (b"" if _only_zeros(self._raw) else self._raw) + more
            self._raw_offset = self._file.tell() - len(self._raw)
        if self.plain or _only_zeros(self._raw):
            self._raw = b""
            return False
        self._start_frame()
        if not self._raw.startswith(self._frame.magic):
            raise FrameError(self._frame_offset, f"no {self._frame.name} begins here", False)
        return True

    def _start_frame(self) -> None:
        self._frame = self._codec()
        self._frame_offset = self._raw_offset
        self._open = True
        # A record may go on over a million frames: its marks must not be copied for each.
        if passed := bisect_right(self._marks, (self._position, 1 << 62)) - 1:
            del self._marks[:passed]
        self._marks.append((self._position + len(self.buffer), self._frame_offset))

    def skip(self, count: int) -> None:
        """Take `count` buffered bytes: the position moves behind them."""
        del self.buffer[:count]
        self._position += count

    def go_back(self, offset: int) -> bool:
        """Stand at an earlier file offset again; in plain files alone."""
        self._file.seek(offset)
        self.buffer.clear()
        self._raw, self._raw_offset = b"", offset
        self._position, self._open = offset, True
        return True

    # -- after damage -----------------------------------------------------------------------------------------------
    def resynchronise(self, after: int) -> int:
        """Drop the buffer and open the first frame behind file offset `after` in which a record begins.

        Returns: its file offset, or the file's size if there is none.
        """
        self._position += len(self.buffer)
        self.buffer.clear()
        found = self.size if self.plain else self._find_frame(after + 1)
        self._file.seek(found)
        self._raw, self._raw_offset = b"", found
        if found < self.size:
            self._start_frame()
        else:
            self._open = False
        self._marks = [(self._position, found)]
        return found

    def _find_frame(self, offset: int) -> int:
        magic = self._codec.magic
        tail = b""
        self._file.seek(offset)
        while data := self._file.read(READ_BYTES):
            window = tail + data
            base = self._file.tell() - len(window)
            at = window.find(magic)
            while at >= 0:
                if self._record_at(base + at):
                    return base + at
                at = window.find(magic, at + 1)
            tail = window[-(len(magic) - 1) :]
        return self.size

    def _record_at(self, offset: int) -> bool:
        """Whether a frame at `offset` opens with a record: three magic bytes also occur inside compressed data."""
        here = self._file.tell()
        self._file.seek(offset)
        probe = self._file.read(PROBE_BYTES)
        self._file.seek(here)
        try:
            head = self._codec().decompress(probe)
        except CODEC_ERRORS:
            return False
        return self.start_pattern.match(head.lstrip(b"\r\n")) is not None


def _only_zeros(data: bytes) -> bool:
    return data[:1] in (b"", b"\0") and not data.strip(b"\0")
