"""Preference records of all kinds that people publish, read into one shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.text.records import Message, instruction_prompt, normalise_messages

ASSISTANT = "\n\nAssistant:"

# The words for a judgement of two answers: which is better, "a", "b" or a tie.
VERDICTS = {
    "a-is-better": "a",
    "a-is-slightly-better": "a",
    "a": "a",
    "model_a": "a",
    "tie": "tie",
    "tied": "tie",
    "b-is-better": "b",
    "b-is-slightly-better": "b",
    "b": "b",
    "model_b": "b",
}


@dataclass(frozen=True)
class Judged:
    """What one record says: some answers to a prompt and their ranks (1 = best, ties allowed).

    `pairwise` marks a judgement of two answers by a person who may have judged others of the same prompt.
    """

    messages: list[Message]
    responses: list[str]
    ranks: list[int]
    policy: list[str] = field(default_factory=list)
    annotator: str | None = None
    pairwise: bool = False


def read_preference(value: Any) -> Judged:
    """The preference in one record.

    Read are: a pairwise judgement (`completion_a`, `completion_b`, `preference`); `chosen` and `rejected` with a prompt
    (`prompt`, `instruction`/`input`/`history`, `messages` or `conversations`), as whole transcripts (hh-rlhf) or as
    whole message lists; `output` or `responses` as a list, best first or with `ranks`.

    Raises:
        ValueError: what is missing, in words for people.
    """
    if not isinstance(value, Mapping):
        raise ValueError("not an object with named fields")
    if "preference" in value or ("completion_a" in value and "completion_b" in value):
        judged = _pairwise(value)
    elif value.get("chosen") is not None or value.get("rejected") is not None:
        judged = _chosen_rejected(value)
    elif value.get("responses") is not None or value.get("output") is not None:
        judged = _ranked(value)
    else:
        raise ValueError("no preference: neither chosen and rejected, nor a ranked list of outputs, nor a judgement")
    if judged.messages[-1]["role"] != "user":
        raise ValueError("the prompt does not end with the user's turn")
    return judged


def _pairwise(value: Mapping[str, Any]) -> Judged:
    answers = []
    for letter in "ab":
        answer = value.get(f"completion_{letter}", value.get(f"response_{letter}"))
        if not isinstance(answer, str):
            raise ValueError(f"completion_{letter} is missing")
        answers.append(answer.strip())
    verdict = VERDICTS.get(str(value.get("preference", "")).strip().lower())
    if verdict is None:
        raise ValueError(f"preference is {value.get('preference')!r}, not one of {', '.join(VERDICTS)}")
    ranks = {"a": [1, 2], "b": [2, 1], "tie": [1, 1]}[verdict]
    policy = [str(value[f"model_{letter}"]) for letter in "ab" if value.get(f"model_{letter}") is not None]
    return Judged(
        prompt_of(value), answers, ranks, policy if len(policy) == 2 else [], _annotator(value), pairwise=True
    )


def _chosen_rejected(value: Mapping[str, Any]) -> Judged:
    for name in ("chosen", "rejected"):
        if value.get(name) is None:
            raise ValueError(f"{name} is missing")
    chosen, rejected = value["chosen"], value["rejected"]
    if any(value.get(name) is not None for name in ("prompt", "instruction", "messages", "conversations")):
        messages, answers = prompt_of(value), [_answer(chosen, "chosen"), _answer(rejected, "rejected")]
    elif isinstance(chosen, str) and isinstance(rejected, str):
        messages, answers = _transcripts(chosen, rejected)
    elif isinstance(chosen, list) and isinstance(rejected, list):
        messages, answers = _message_lists(normalise_messages(chosen), normalise_messages(rejected))
    else:
        raise ValueError("prompt is missing")
    return Judged(messages, answers, [1, 2], annotator=_annotator(value))


def _transcripts(chosen: str, rejected: str) -> tuple[list[Message], list[str]]:
    """hh-rlhf: two whole dialogues that differ in the last answer."""
    prompts, answers = [], []
    for name, text in (("chosen", chosen), ("rejected", rejected)):
        before, marker, after = text.rpartition(ASSISTANT)
        if not marker or "\n\nHuman:" not in before:
            raise ValueError(f"prompt is missing, and {name} is no transcript (\\n\\nHuman: … \\n\\nAssistant: …)")
        prompts.append(before)
        answers.append(after.strip())
    if prompts[0] != prompts[1]:
        raise ValueError("chosen and rejected do not share their prompt")
    return normalise_messages(prompts[0]), answers


def _message_lists(chosen: list[Message], rejected: list[Message]) -> tuple[list[Message], list[str]]:
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        raise ValueError("chosen and rejected must end with an answer of the assistant")
    if chosen[:-1] != rejected[:-1]:
        raise ValueError("chosen and rejected do not share their prompt")
    return chosen[:-1], [chosen[-1]["content"], rejected[-1]["content"]]


def _ranked(value: Mapping[str, Any]) -> Judged:
    name = "responses" if value.get("responses") is not None else "output"
    given = value[name]
    if isinstance(given, str):
        raise ValueError("no preference: output is one answer, not a list ranked best first")
    if not isinstance(given, list) or len(given) < 2:
        raise ValueError(f"{name} must list two answers or more, best first")
    answers = [_answer(answer, name) for answer in given]
    ranks = value.get("ranks")
    if ranks is None:
        ranks = list(range(1, len(answers) + 1))
    if not isinstance(ranks, list) or not all(isinstance(rank, int) and rank > 0 for rank in ranks):
        raise ValueError("ranks must be a list of whole numbers from 1 on")
    if len(ranks) != len(answers):
        raise ValueError(f"ranks has {len(ranks)} numbers for {len(answers)} answers")
    policy = value.get("policy")
    policy = [str(name) for name in policy] if isinstance(policy, list) and len(policy) == len(answers) else []
    return Judged(prompt_of(value), answers, ranks, policy, _annotator(value))


def _answer(value: Any, name: str) -> str:
    """The text of an answer given as a string, one message, or a message list that ends with it."""
    if isinstance(value, list) and value:
        value = value[-1]
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("content", "value", "text") if value.get(key) is not None), None)
    if not isinstance(value, str):
        raise ValueError(f"{name} holds no text")
    return value.strip()


def prompt_of(value: Mapping[str, Any]) -> list[Message]:
    """The prompt of a record, whatever its field is called.

    Raises:
        ValueError: there is none.
    """
    for name in ("messages", "conversations", "prompt"):
        if value.get(name) is not None:
            prompt = value[name]
            # hh-rlhf's prompts, cut out by others, keep the mark behind which the answer begins.
            return normalise_messages(prompt.removesuffix(ASSISTANT) if isinstance(prompt, str) else prompt)
    if value.get("instruction") is None:
        raise ValueError("prompt is missing")
    return instruction_prompt(dict(value))


def _annotator(value: Mapping[str, Any]) -> str | None:
    name = value.get("annotator", value.get("evaluator"))
    return None if name is None or str(name) == "" else str(name)
