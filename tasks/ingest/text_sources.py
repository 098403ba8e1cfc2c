"""Documents of sources that are no archives: text files, zip files of texts, JSON Lines. Mostly the curated class.

A data manifest's `format` and `options` say how to read one:

    format: text      split: none (default: the file is one document) | lines (a document a line) | blank (documents
                      stand between blank lines) | wikitext (articles under ` = Title = `, tokens put together again)
    format: zip_text  a document a member; split applies to each; XML and HTML members lose their tags
    format: jsonl     a document a record (JSON, JSONL, Parquet; gzip); text_field: text, url_field, date_field

A document without a URL of its own is called `file:<file name>#<member, line or number>`.
"""

from __future__ import annotations

import gzip
import html
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from tasks.ingest.extract import TextError, decode_text
from tasks.text.records import BadRecord
from tasks.text.records import read_records as read_json_records

SPLITS = ("none", "lines", "blank", "wikitext")

_TITLE = re.compile(r"^ ?= ([^=].*?) = ?$")
_SECTION = re.compile(r"^ ?((?:= ){2,})(.+?)((?: =){2,}) ?$")
# To the end where one is never closed: a million of them cost one pass.
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)|<\?.*?(?:\?>|\Z)|<!DOCTYPE[^>]*(?:>|\Z)", re.DOTALL)
_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>")


@dataclass(frozen=True)
class TextItem:
    """One document as it stands in its file. `offset`: the byte, line or record it is found at."""

    url: str
    date: str
    text: str
    charset: str
    offset: int


@dataclass(frozen=True)
class BadText:
    """A place that could not be read as text."""

    url: str
    offset: int
    reason: str
    what: str


def read_texts(path: Path, name: str, options: dict[str, Any], limit: int) -> Iterator[TextItem | BadText]:
    """The documents of one source file, in file order. Never raises for what the file holds."""
    form = options["format"]
    if form == "jsonl":
        yield from _read_jsonl(path, name, options)
    elif form == "zip_text":
        yield from _read_zip(path, name, str(options.get("split", "none")), limit)
    else:
        try:
            with _open(path) as stream:
                body = stream.read(limit + 1)
        except (OSError, EOFError, zlib.error) as error:
            yield BadText(f"file:{name}", 0, "damaged_record", f"the compressed file cannot be read: {error}")
            return
        yield from _split_body(body, f"file:{name}", "", str(options.get("split", "none")), limit)


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if zipped else path.open("rb")


def _read_jsonl(path: Path, name: str, options: dict[str, Any]) -> Iterator[TextItem | BadText]:
    field = str(options.get("text_field", "text"))
    for record in read_json_records(path, name):
        url = f"file:{name}#{record.line}"
        if isinstance(record, BadRecord):
            yield BadText(url, record.line, "damaged_record", record.problem)
            continue
        text = record.value.get(field)
        if not isinstance(text, str):
            yield BadText(url, record.line, "damaged_record", f"no text in the field {field!r}")
            continue
        stated, date = (record.value.get(str(options.get(f"{key}_field", key))) for key in ("url", "date"))
        yield TextItem(
            stated if isinstance(stated, str) and stated else url,
            date if isinstance(date, str) else "",
            text,
            "utf-8",
            record.line,
        )


def _read_zip(path: Path, name: str, split: str, limit: int) -> Iterator[TextItem | BadText]:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        yield BadText(f"file:{name}", 0, "damaged_record", f"no zip file: {error}")
        return
    with archive:
        for member in archive.infolist():
            base = member.filename.rpartition("/")[2]
            # Style sheets, DTDs and notes of the packers are no documents.
            if member.is_dir() or not base.lower().endswith((".txt", ".xml", ".html", ".htm", ".md")) or base[0] == ".":
                continue
            url = f"file:{name}#{member.filename}"
            try:
                with archive.open(member) as stream:
                    body = stream.read(limit + 1)
            # RuntimeError: encrypted; NotImplementedError, one of them: a compression method nobody knows.
            except (OSError, EOFError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
                yield BadText(url, member.header_offset, "damaged_record", str(error))
                continue
            markup = not base.lower().endswith((".txt", ".md"))
            yield from _split_body(body, url, "", split, limit, member.header_offset, markup)


def _split_body(
    body: bytes, url: str, date: str, split: str, limit: int, offset: int = 0, markup: bool = False
) -> Iterator[TextItem | BadText]:
    if len(body) > limit:
        yield BadText(url, offset, "too_large", f"more than {limit} bytes")
        return
    try:
        text, charset = decode_text(body, None, False)
    except TextError as error:
        yield BadText(url, offset, "undecodable", str(error))
        return
    if markup:
        text = html.unescape(_MARKUP.sub("", _COMMENT.sub("", text)))
    if split == "none":
        yield TextItem(url, date, text, charset, offset)
        return
    for number, piece in enumerate(_pieces(text, split), start=1):
        mark = "/" if "#" in url else "#"
        yield TextItem(f"{url}{mark}{number}", date, piece, charset, offset + number)


def _pieces(text: str, split: str) -> Iterator[str]:
    if split == "lines":
        yield from (line for line in text.splitlines() if line.strip())
    elif split == "blank":
        yield from (piece for piece in re.split(r"\n[ \t\r]*\n+", text) if piece.strip())
    else:
        yield from _articles(text)


def _articles(text: str) -> Iterator[str]:
    """The articles of WikiText files (Merity et al. 2016): a level-one heading opens one."""
    lines: list[str] = []
    for line in text.splitlines():
        if _TITLE.match(line) and any(lines):
            yield detokenise("\n".join(lines))
            lines = []
        lines.append(line.strip())
    if any(lines):
        yield detokenise("\n".join(lines))


def detokenise(text: str) -> str:
    """WikiText's tokens as running text again: ` @-@ ` joined, punctuation at its word, headings without `=`.

    `<unk>`, which stands for rare words that the corpus no longer has, is left out.
    """
    text = re.sub(r" @([-,.])@ ", r"\1", text.replace("<unk>", " "))
    text = "\n".join(_heading(line) for line in text.split("\n"))
    text = re.sub(r'(?<!\S)" ([^"\n]*?) "(?!\w)', r'"\1"', text)
    text = re.sub(r"[^\S\n]+([,.;:!?%)\]])(?!\S*\d)", r"\1", text)
    text = re.sub(r"([(\[$£€])[^\S\n]+", r"\1", text)
    text = re.sub(r"[^\S\n]+('(?:s|t|re|ve|ll|d|m)?)(?!\w)", r"\1", text)
    return re.sub(r"[^\S\n]{2,}", " ", text)


def _heading(line: str) -> str:
    found = _TITLE.match(line) or _SECTION.match(line)
    if found is None:
        return line
    return found[1] if found.re is _TITLE else found[2]
