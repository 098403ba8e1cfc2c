"""One record of an instruction file, of whatever form, as conversations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.text.records import Message, instruction_prompt, normalise_messages, prompt_of

ANSWERS = ("output", "response", "completion", "answer")
NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+")
KNOWN = (
    "instruction and output; messages or conversations; prompt and an answer; chosen and rejected; question and answer"
)


@dataclass(frozen=True)
class Demonstration:
    """A conversation that ends with the assistant's turn (which may be empty).

    `answer` is the checkable answer of a GSM8K record, what stands after `####`; `note` says what was changed.
    """

    messages: list[Message]
    answer: str | None = None
    note: str = ""


def read_demonstrations(value: Mapping[str, Any]) -> list[Demonstration]:
    """The conversations of one record: one, or one an instance of a Self-Instruct task.

    Read are the forms of INTERFACE ("Instruction and preference files"). Of ranked answers the best is the
    demonstration, of `chosen` and `rejected` the chosen one. A last turn of the user's that nobody answers is cut off.

    Raises:
        ValueError: what is missing, in words for people.
    """
    if isinstance(value.get("instances"), list) and value["instances"]:
        return [_instance(value, item, number) for number, item in enumerate(value["instances"], start=1)]
    return [_read(value)]


def _instance(value: Mapping[str, Any], item: Any, number: int) -> Demonstration:
    if not isinstance(item, Mapping):
        raise ValueError(f'"instances" entry {number} is not an object with input and output')
    return _instruction({**value, "input": item.get("input"), "output": item.get("output")})


def _read(value: Mapping[str, Any]) -> Demonstration:
    for name in ("messages", "conversations"):
        if value.get(name) is not None:
            return _dialogue(value, name)
    if value.get("instruction") is not None:
        return _instruction(value)
    if value.get("prompt") is not None:
        return _prompted(normalise_messages(value["prompt"]), value)
    if value.get("chosen") is not None:
        return _ended(normalise_messages(value["chosen"]))
    if value.get("question") is not None or (value.get("context") is not None and value.get("answer") is not None):
        return _question(value)
    fields = ", ".join(sorted(map(str, value))[:8]) or "none"
    raise ValueError(f"no demonstration: its fields are {fields}; wanted are {KNOWN}")


def _dialogue(value: Mapping[str, Any], name: str) -> Demonstration:
    messages = normalise_messages(value[name])
    system = value.get("system")
    if isinstance(system, str) and system.strip() and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system.strip()}, *messages]
    if value.get("chosen") is not None or any(value.get(answer) is not None for answer in ANSWERS):
        return _prompted(messages, value)
    return _ended(messages)


def _instruction(value: Mapping[str, Any]) -> Demonstration:
    fields = dict(value)
    if fields.get("input") is None and fields.get("context") is not None:
        fields["input"] = fields["context"]
    return _prompted(instruction_prompt(fields), value)


def _question(value: Mapping[str, Any]) -> Demonstration:
    """GSM8K, and SVAMP, where the question ends the context. The checkable answer follows `####` or is all there is."""
    asked = [value[name] for name in ("context", "question") if value.get(name) is not None]
    if not all(isinstance(part, str) for part in asked):
        raise ValueError('"question" must be a text')
    found = _prompted(normalise_messages("\n".join(asked)), value)
    said = found.messages[-1]["content"]
    _, marker, after = said.rpartition("####")
    if marker:
        return Demonstration(found.messages, after.strip())
    return Demonstration(found.messages, said if NUMBER.fullmatch(said) else None)


def _prompted(prompt: list[Message], value: Mapping[str, Any]) -> Demonstration:
    """A prompt and the answer that the record gives to it."""
    chosen = value.get("chosen")
    if isinstance(chosen, list) and chosen:
        whole = _whole(chosen)
        if whole is not None:
            return whole
    name = "chosen" if chosen is not None else next((name for name in ANSWERS if value.get(name) is not None), None)
    if name is None:
        raise ValueError('the answer is missing ("output", "response", "completion" or "chosen")')
    prompt = prompt_of(prompt)
    return Demonstration([*prompt, {"role": "assistant", "content": _best(value[name], name, value.get("ranks"))}])


def _whole(chosen: list[Any]) -> Demonstration | None:
    """The dialogue of a `chosen` that repeats its prompt; None for one that is the answer alone."""
    try:
        return _ended(normalise_messages(chosen))
    except ValueError:
        return None


def _best(given: Any, name: str, ranks: Any) -> str:
    """The text of the best answer: of a list the first, or the one of lowest rank."""
    if isinstance(given, list):
        if not given:
            raise ValueError(f'"{name}" is an empty list')
        place = 0
        if isinstance(ranks, list) and len(ranks) == len(given) and all(isinstance(rank, int) for rank in ranks):
            place = ranks.index(min(ranks))
        given = given[place]
    if isinstance(given, Mapping):
        given = next((given[key] for key in ("content", "value", "text") if given.get(key) is not None), None)
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = str(given)
    if not isinstance(given, str):
        raise ValueError(f'"{name}" holds no text')
    return given.strip()


def _ended(messages: list[Message]) -> Demonstration:
    """The dialogue up to the assistant's last turn."""
    end = len(messages)
    while end and messages[end - 1]["role"] != "assistant":
        end -= 1
    if not end:
        raise ValueError("no turn of the assistant's")
    note = "" if end == len(messages) else "the last turn is the user's and was cut off"
    return Demonstration(messages[:end], note=note)
