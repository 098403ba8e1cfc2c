"""The process that turns docstrings of the standard library into questions and answers. Started by path.

Argument: one JSON object, `modules` (names, in order) and `limit`. It prints one instruction record a line:
`instruction`, `input` (empty) and `output`, the first sentences of the docstring. It runs without site-packages.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

SHORTEST, LONGEST = 20, 320  # characters of an answer
SENTENCES = 2

QUESTIONS = {
    "function": (
        "What does {name} do?",
        "What does the function {name} do?",
        "Explain what {name} does.",
        "What is {name} for?",
        "In Python, what does {name} do?",
        "Describe the function {name}.",
    ),
    "method": (
        "What does {name} do?",
        "What does the method {name} do?",
        "Explain what {name} does.",
        "What is the method {name} for?",
        "In Python, what does {name} do?",
        "Describe the method {name}.",
    ),
    "class": (
        "What is {name}?",
        "What is the class {name} for?",
        "Describe the class {name}.",
        "In Python, what is {name}?",
        "Explain what {name} is.",
    ),
    "attribute": (
        "What is {name}?",
        "What does the attribute {name} hold?",
        "Describe the attribute {name}.",
        "In Python, what is {name}?",
    ),
    "module": (
        "What is the module {name} for?",
        "Describe the module {name}.",
        "What does the Python module {name} offer?",
        "What can I do with the module {name}?",
    ),
}
# `join(a, *p)`, `range(stop) -> range object`: how C functions and old docstrings begin.
SIGNATURE = re.compile(r"^[\w.]+\s*\([^\n]*\)?(\s*(->|=>|--|:|=)[^\n]*)?$")
LEADING_SIGNATURE = re.compile(r"^[\w.]+\([^()\n]*(\([^()\n]*\)[^()\n]*)*\)\s*(->\s*[\w\[\], ().]+?)?\s*(--|[:.]\s)\s*")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(`])")
# What reads like a declaration, a session or a table, not like a sentence; and what is said of everything.
UNSUITED = re.compile(r">>>|:param|\||\+-|={3}|-{3}|\*{3}|at 0x|See help\(type\(self\)\)|^Alias for field number|^\d")


def first_sentences(docstring: str | None) -> str | None:
    """One or two sentences from the first paragraph that is prose, or None if there is none worth having."""
    if not isinstance(docstring, str):
        return None
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(docstring))[:3]:
        lines = paragraph.splitlines()
        while lines and SIGNATURE.match(lines[0].strip()) and not lines[0].strip().endswith("."):
            lines.pop(0)
        text = LEADING_SIGNATURE.sub("", " ".join(" ".join(lines).split()))
        if text:
            return _answer(text)
    return None


def _answer(text: str) -> str | None:
    if UNSUITED.search(text):
        return None
    chosen = ""
    for sentence in SENTENCE_END.split(text)[:SENTENCES]:
        if chosen and len(chosen) + 1 + len(sentence) > LONGEST:
            break
        chosen = f"{chosen} {sentence}".strip()
    chosen = chosen.rstrip(" ,;:")
    if not SHORTEST <= len(chosen) <= LONGEST or len(chosen.split()) < 4:
        return None
    # A paragraph that goes over into a list ends in a colon; a phrase ends in nothing.
    chosen = chosen if chosen[-1] in ".!?" else f"{chosen}."
    first = chosen.split()[0]
    return chosen[0].upper() + chosen[1:] if first.isalpha() and first.islower() else chosen


def public_names(module: Any) -> list[str]:
    listed = getattr(module, "__all__", None)
    if isinstance(listed, list | tuple):
        return sorted({name for name in listed if isinstance(name, str)})
    return sorted(name for name in vars(module) if not name.startswith("_"))


def entries(name: str, module: Any, seen: set[int]) -> Iterator[tuple[str, str, str | None]]:
    """(kind, dotted name, docstring) of a module, its public functions and classes, and their public members."""
    yield "module", name, module.__doc__
    everything = hasattr(module, "__all__") or name in sys.builtin_module_names
    for member in public_names(module):
        try:
            found = getattr(module, member)
        except AttributeError:
            continue
        ours = everything or getattr(found, "__module__", None) == module.__name__
        if not ours or id(found) in seen:
            continue
        if inspect.isclass(found):
            seen.add(id(found))
            yield "class", f"{name}.{member}", vars(found).get("__doc__")
            yield from class_entries(f"{name}.{member}", found)
        elif inspect.isroutine(found):
            seen.add(id(found))
            yield "function", f"{name}.{member}", found.__doc__


def class_entries(name: str, cls: type) -> Iterator[tuple[str, str, str | None]]:
    for member, found in sorted(vars(cls).items()):
        if member.startswith("_"):
            continue
        if isinstance(found, staticmethod | classmethod):
            found = found.__func__
        if inspect.isroutine(found):
            yield "method", f"{name}.{member}", found.__doc__
        elif inspect.isdatadescriptor(found):
            yield "attribute", f"{name}.{member}", found.__doc__


def records(modules: list[str], limit: int) -> Iterator[dict[str, str]]:
    """Instruction records in the order of the modules and their names; an answer that was given before is left out."""
    seen: set[int] = set()
    answers: set[str] = set()
    for name in modules:
        try:
            module = importlib.import_module(name)
        except BaseException:
            continue
        if id(module) in seen:
            continue
        seen.add(id(module))
        for kind, dotted, docstring in entries(name, module, seen):
            answer = first_sentences(docstring)
            if answer is None or answer in answers:
                continue
            answers.add(answer)
            dotted = dotted.removeprefix("builtins.")
            choice = int.from_bytes(hashlib.blake2b(dotted.encode(), digest_size=8).digest(), "big")
            question = QUESTIONS[kind][choice % len(QUESTIONS[kind])]
            yield {"instruction": question.format(name=dotted), "input": "", "output": answer}
            if len(answers) >= limit:
                return


def main() -> None:
    given = json.loads(sys.argv[1])
    sys.argv = ["pydoc"]
    # What modules print when imported goes nowhere; the records go to the real standard output.
    output = os.fdopen(os.dup(1), "w", encoding="utf8")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    for record in records(given["modules"], given["limit"]):
        output.write(json.dumps(record, ensure_ascii=False) + "\n")
    output.flush()
    os._exit(0)  # a module that was imported may have left a thread or an exit handler


if __name__ == "__main__":
    main()
