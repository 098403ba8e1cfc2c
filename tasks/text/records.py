"""Reading records (JSON, JSONL, Parquet) line by line without ever failing on one of them, and the forms of a dialogue.

What stages share about instruction and preference files: a record with the place it came from, a bad record with what
is wrong with it, messages in one form whatever the file's form was, and the identity of a prompt.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from artifacts.digest import canonical_json

Message = dict[str, str]

# Roles as OpenAI, ShareGPT, OpenAssistant and Anthropic spell them.
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):")
# JSON can spell half of a surrogate pair; no file and no table can hold it.
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class Record:
    """One record of a file. `line` is its 1-based line (JSONL), position in the list (JSON) or row (Parquet)."""

    file: str
    line: int
    value: dict[str, Any]


@dataclass(frozen=True)
class BadRecord:
    """A place of a file that holds no record; `problem` says what is wrong there, in words for a person."""

    file: str
    line: int
    problem: str


def read_records(path: str | Path, name: str) -> Iterator[Record | BadRecord]:
    """Every record of a `.json` (a list or one object), `.jsonl`, `.json.gz`, `.jsonl.gz` or `.parquet` file, in order.

    Never raises for what the file holds: a line that is no JSON object, a cut-off gzip member, a damaged Parquet file
    come out as `BadRecord`. Blank lines are no records. A `.json` file that holds one object a line is read as JSONL.

    Args:
        path: the local file, under whatever name.
        name: the name upstream gives it: it decides the format and stands in the records.
    """
    plain = name.removesuffix(".gz")
    if plain.endswith(".parquet"):
        yield from _read_parquet(Path(path), name)
        return
    with _open(Path(path)) as stream:
        if plain.endswith(".json"):
            yield from _read_json(stream, name)
        else:
            yield from _read_lines(stream, name)


def _open(path: Path) -> IO[bytes]:
    with open(path, "rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if zipped else open(path, "rb")


def _read_lines(stream: IO[bytes], name: str) -> Iterator[Record | BadRecord]:
    number = 0
    while True:
        try:
            line = stream.readline()
        except (OSError, EOFError, zlib.error) as error:
            yield BadRecord(name, number + 1, f"the compressed file cannot be read on from here ({error})")
            return
        if not line:
            return
        number += 1
        if line.strip():
            yield _parse(line, name, number)


def _parse(line: bytes, name: str, number: int) -> Record | BadRecord:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return BadRecord(name, number, f"not UTF-8 at byte {error.start} of the line")
    except (ValueError, RecursionError) as error:
        return BadRecord(name, number, f"not JSON ({error})")
    return _as_record(value, name, number, _HALF.search(line) is not None)


def _as_record(value: Any, name: str, number: int, doubtful: bool) -> Record | BadRecord:
    if not isinstance(value, dict):
        return BadRecord(name, number, f"a record must be an object with named fields, this is {_kind(value)}")
    if doubtful:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return BadRecord(name, number, "holds half of a surrogate pair, which is no character")
    return Record(name, number, value)


def _read_json(stream: IO[bytes], name: str) -> Iterator[Record | BadRecord]:
    try:
        data = stream.read()
        value = json.loads(data.decode("utf-8-sig"))
    except (OSError, EOFError, zlib.error) as error:
        yield BadRecord(name, 1, f"the compressed file cannot be read to its end ({error})")
        return
    except UnicodeDecodeError as error:
        yield BadRecord(name, data.count(b"\n", 0, error.start) + 1, f"not UTF-8 at byte {error.start} of the file")
        return
    except json.JSONDecodeError as error:
        first, _, rest = data.partition(b"\n")
        if rest.strip() and isinstance(_parse(first, name, 1), Record):
            for number, line in enumerate(data.split(b"\n"), start=1):
                if line.strip():
                    yield _parse(line, name, number)
            return
        yield BadRecord(
            name, error.lineno, f"not JSON ({error.msg}, column {error.colno}); nothing of the file is read"
        )
        return
    except RecursionError as error:
        yield BadRecord(name, 1, f"not JSON ({error})")
        return
    if not isinstance(value, list):
        value = [value]
    doubtful = _HALF.search(data) is not None
    for number, item in enumerate(value, start=1):
        yield _as_record(item, name, number, doubtful)


def _read_parquet(path: Path, name: str) -> Iterator[Record | BadRecord]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    # A column that other rows fill is not a field of this record.
                    yield Record(name, number, {key: value for key, value in row.items() if value is not None})
    except (pa.ArrowException, OSError) as error:
        yield BadRecord(name, number + 1, f"not readable as Parquet ({error})")


# --- dialogues


def normalise_messages(value: Any) -> list[Message]:
    """A dialogue as `[{"role", "content"}]` with roles system, user and assistant, whatever form it came in.

    Takes OpenAI messages (`role`, `content`; the content a string or a list of text parts), ShareGPT turns (`from`,
    `value`), hh-rlhf transcripts (`\\n\\nHuman: … \\n\\nAssistant: …`) and a plain string (one turn of the user's).
    Outer white space goes; neighbouring turns of one speaker are joined by a blank line. The result starts with the
    user's turn, after a system message if there is one; it may end with either speaker. An assistant's turn may be
    empty (a caller decides what that means), a user's turn not.

    Raises:
        ValueError: with what is missing, in words for a person.
    """
    if isinstance(value, str):
        turns = split_transcript(value) if _TURN.match(value) else [{"role": "user", "content": value.strip()}]
    elif isinstance(value, list) and value:
        turns = [_message(item, number) for number, item in enumerate(value, start=1)]
    elif isinstance(value, list):
        raise ValueError("the list of messages is empty")
    else:
        raise ValueError(f"messages must be a list of turns or a string, not {_kind(value)}")
    joined: list[Message] = []
    for turn in turns:
        if joined and joined[-1]["role"] == turn["role"]:
            joined[-1]["content"] = f"{joined[-1]['content']}\n\n{turn['content']}".strip()
        else:
            joined.append(dict(turn))
    _check_order(joined)
    return joined


def _message(item: Any, number: int) -> Message:
    if not isinstance(item, dict):
        raise ValueError(f"turn {number} must be an object with role and content, not {_kind(item)}")
    said = next((item[key] for key in ("role", "from") if item.get(key) is not None), None)
    if said is None:
        raise ValueError(f'turn {number} has no "role" (or "from")')
    role = ROLES.get(str(said).strip().lower())
    if role is None:
        raise ValueError(f"turn {number} has the role {str(said)[:40]!r}; known are {', '.join(ROLES)}")
    content = next((item[key] for key in ("content", "value", "text") if item.get(key) is not None), None)
    if isinstance(content, list):
        content = "\n".join(_part(part, number) for part in content)
    if not isinstance(content, str):
        raise ValueError(f'turn {number} has no text in "content" (or "value")')
    return {"role": role, "content": content.strip()}


def _part(part: Any, number: int) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return str(part["text"])
    raise ValueError(f"turn {number} has a part that is not text; only text is read")


def _check_order(turns: list[Message]) -> None:
    for number, turn in enumerate(turns, start=1):
        if turn["role"] == "system" and number > 1:
            raise ValueError(f"turn {number} is a system message; one may stand at the beginning only")
        if turn["role"] == "user" and not turn["content"]:
            raise ValueError(f"turn {number}, the user's, is empty")
    spoken = [turn for turn in turns if turn["role"] != "system"]
    if not spoken or spoken[0]["role"] != "user":
        raise ValueError("the dialogue does not begin with a turn of the user's")


def split_transcript(text: str) -> list[Message]:
    """The turns of an hh-rlhf transcript, `\\n\\nHuman: …\\n\\nAssistant: …`, in order.

    Raises:
        ValueError: the text does not begin with `Human:` or `Assistant:`.
    """
    pieces = _TURN.split(text)
    if len(pieces) < 3 or pieces[0].strip():
        raise ValueError('the transcript does not begin with "\\n\\nHuman:"')
    return [
        {"role": ROLES[speaker.lower()], "content": content.strip()}
        for speaker, content in zip(pieces[1::2], pieces[2::2], strict=True)
    ]


def instruction_prompt(value: dict[str, Any]) -> list[Message]:
    """The prompt of an Alpaca record: `system`, the turns of `history`, then `instruction` and `input`.

    The two are joined by a line break, as LLaMA-Factory does. Ends with the user's turn.

    Raises:
        ValueError: with what is missing.
    """
    instruction = _text(value, "instruction")
    if instruction is None:
        raise ValueError('"instruction" is missing')
    turns: list[Message] = []
    if system := _text(value, "system"):
        turns.append({"role": "system", "content": system})
    for number, pair in enumerate(value.get("history") or [], start=1):
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(said, str) for said in pair)):
            raise ValueError(f'"history" entry {number} is not a pair of texts [user, assistant]')
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    asked = "\n".join(part for part in (instruction, _text(value, "input") or "") if part)
    return normalise_messages([*turns, {"role": "user", "content": asked}])


def _text(value: dict[str, Any], field: str) -> str | None:
    found = value.get(field)
    if found is None:
        return None
    if not isinstance(found, str):
        raise ValueError(f'"{field}" must be a text, not {_kind(found)}')
    return found.strip()


def prompt_of(messages: list[Message]) -> list[Message]:
    """The messages up to and including the last turn of the user's."""
    end = len(messages)
    while end and messages[end - 1]["role"] == "assistant":
        end -= 1
    return messages[:end]


def prompt_id(messages: list[Message]) -> str:
    """The identity of a prompt: 32 hex digits of BLAKE2b-128 over the canonical JSON of its messages.

    Answers behind the last turn of the user's do not count, so a prompt and a conversation that answers it agree.
    """
    prompt = [{"role": turn["role"], "content": turn["content"]} for turn in prompt_of(messages)]
    return blake2b(canonical_json(prompt).encode("utf8", "surrogatepass"), digest_size=16).hexdigest()


def opening_id(messages: list[Message]) -> str:
    """The identity of a dialogue's opening: the `prompt_id` up to and including the user's first turn.

    Splits go by it and not by the whole prompt: published dialogues are cut from trees, so that one holds the prompts
    (and the answers to them) of others. Of a prompt of one turn it is the `prompt_id`.
    """
    first = next((number for number, turn in enumerate(messages) if turn["role"] == "user"), len(messages))
    return prompt_id(messages[: first + 1])


def _kind(value: Any) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")
