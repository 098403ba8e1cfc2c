"""Evaluation items as texts to look for, out of files of any shape."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from artifacts.errors import UserError
from artifacts.sources import Source
from tasks.text.records import BadRecord, read_records

# What is read first and what is put behind it, by the names that evaluation sets use.
PROMPTS = (
    "context", "context_options", "ctx", "document", "goal", "input", "instruction", "passage", "problem", "prompt",
    "query", "question", "sentence", "source", "text",
)  # fmt: skip
ENDINGS = (
    "answer", "answers", "choices", "chosen", "completion", "continuation", "endings", "options", "output", "rejected",
    "response", "solution", "target",
)  # fmt: skip

# Labels that the evaluation harness adds; no web page has them.
_LABEL = re.compile(r"\A\s*(?:question|passage|context|goal|problem|q)\s*:\s*", re.IGNORECASE)
_CUE = re.compile(r"\s*(?:answer|a)\s*:\s*\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Item:
    """One evaluation item.

    Attributes:
        prompts: each is looked for by its n-grams, or whole if it is shorter than n.
        others: endings and other fields: by their n-grams alone.
        wholes: prompt and ending in one, as the item is read: by n-grams; whole if nothing else of the item is long
            enough.
    """

    prompts: tuple[str, ...]
    others: tuple[str, ...] = ()
    wholes: tuple[str, ...] = ()


def set_name(source: Source) -> str:
    """The name under which a source's figures stand."""
    return f"{source.manifest}/{source.name}" if source.manifest else source.name


def read_items(source: Source) -> Iterator[Item | BadRecord]:
    """The items of an evaluation set: a record each, or in plain text a paragraph (between blank lines) each.

    Raises:
        UserError: the file's format is none that holds evaluation items.
    """
    form = source.option("format") or ("text" if source.name.removesuffix(".gz").endswith((".txt", ".text")) else None)
    if form in ("warc", "zip_text"):
        raise UserError(f"decontaminate.against: {set_name(source)}: format {form} holds no evaluation items")
    if form == "text":
        text = source.path.read_text("utf8", errors="replace")
        yield from (Item((paragraph,)) for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip())
        return
    for record in read_records(source.path, source.name):
        yield record if isinstance(record, BadRecord) else item_of(record.value)


def item_of(value: dict[str, Any]) -> Item:
    """The texts of one record, whatever its fields are called; numbers and empty fields are passed over."""
    leads = [_texts(value[key]) for key in value if key.lower() in PROMPTS]
    leads = [[_CUE.sub("", _LABEL.sub("", text)) for text in texts] for texts in leads if texts]
    endings = [text for key in value if key.lower() in ENDINGS for text in _texts(value[key])]
    known = (*PROMPTS, *ENDINGS)
    others = [text for key in value if key.lower() not in known for text in _texts(value[key])]
    # Lists are alternatives (Winogrande's two contexts), fields follow one another (a passage, then its question).
    fronts = [" ".join(parts) for parts in product(*leads)] if leads else []
    wholes = [f"{front} {ending}" for front in fronts or [""] for ending in endings] or fronts
    return Item(tuple(text for texts in leads for text in texts), (*endings, *others), tuple(wholes))


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in _texts(item)]
    return []
