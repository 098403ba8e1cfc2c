"""The chat format: how messages become text and token ids, and which of those tokens a model learns.

One turn is `### Instruction:\\n{content}\\n\\n### Response:\\n{answer}<|endoftext|>`; turns follow one another
directly. A system message stands before the first instruction as plain text with a blank line behind it.
`<|endoftext|>` is the only special token: it ends documents in pretraining and answers here.

Prompt and answer are encoded apart, so that the boundary of the loss mask is exact, and text that happens to hold
`<|endoftext|>` is encoded as plain characters: no page and no user can end a turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

END = "<|endoftext|>"
INSTRUCTION = "### Instruction:\n"
RESPONSE = "\n\n### Response:\n"

# The same format for everybody who opens the tokenizer with transformers (stored as its `chat_template`).
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'user' %}"
    "{{ '### Instruction:\\n' + message['content'] + '\\n\\n### Response:\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + '<|endoftext|>' }}"
    "{% endif %}{% endfor %}"
)

Message = Mapping[str, str]


def turns_of(messages: Sequence[Message]) -> list[tuple[str, str | None]]:
    """(prompt text, answer) a turn; the answer of the last is None if the user spoke last.

    Neighbouring messages of one role count as one, joined by a blank line.

    Raises:
        ValueError: a role is unknown, a system message is not the first, or an answer has no instruction before it.
    """
    merged: list[tuple[str, str]] = []
    for message in messages:
        role, content = message["role"], message["content"]
        if role not in ("system", "user", "assistant"):
            raise ValueError(f"unknown role {role!r}")
        if merged and merged[-1][0] == role:
            merged[-1] = (role, f"{merged[-1][1]}\n\n{content}")
        else:
            merged.append((role, content))
    turns: list[tuple[str, str | None]] = []
    system = ""
    for number, (role, content) in enumerate(merged):
        if role == "system":
            if number:
                raise ValueError("a system message must be the first")
            system = f"{content}\n\n"
        elif role == "user":
            turns.append((f"{system}{INSTRUCTION}{content}{RESPONSE}", None))
            system = ""
        elif not turns:
            raise ValueError("the first answer has no instruction before it")
        else:
            turns[-1] = (turns[-1][0], content)
    if not turns:
        raise ValueError("there is no instruction")
    return turns


def render_prompt(messages: Sequence[Message]) -> str:
    """The text up to and including `### Response:\\n` of the last user turn, earlier turns in full.

    Raises:
        ValueError: as `turns_of`, or the user did not speak last.
    """
    turns = turns_of(messages)
    if turns[-1][1] is not None:
        raise ValueError("a prompt ends with the user's turn")
    return "".join(prompt if answer is None else f"{prompt}{answer}{END}" for prompt, answer in turns)


def end_id(tokenizer: Any) -> int:
    """The id of `<|endoftext|>`, which both documents and answers end with."""
    found = tokenizer.convert_tokens_to_ids(END)
    if not isinstance(found, int):
        raise ValueError(f"the tokenizer has no token {END}")
    return found


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Token ids of plain text: special tokens written in it stay characters, none are added."""
    if not text:
        return []
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return ids


def encode_conversation(
    tokenizer: Any, messages: Sequence[Message], turns: Literal["all", "last"] = "all"
) -> tuple[list[int], list[bool]]:
    """Token ids of a conversation, and for each whether it is learnt: the tokens of answers with their end token.

    Args:
        turns: `all` answers are learnt at once, or the `last` alone. A trailing user's turn is left out.

    Raises:
        ValueError: as `turns_of`, or there is no answer.
    """
    found = [(prompt, answer) for prompt, answer in turns_of(messages) if answer is not None]
    if not found:
        raise ValueError("there is no answer")
    end = end_id(tokenizer)
    ids: list[int] = []
    mask: list[bool] = []
    for number, (prompt, answer) in enumerate(found):
        before = encode_text(tokenizer, prompt)
        after = [*encode_text(tokenizer, answer), end]
        ids += before + after
        mask += [False] * len(before) + [turns == "all" or number == len(found) - 1] * len(after)
    return ids, mask


def encode_prompt(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Token ids up to where the answer begins. Raises ValueError as `render_prompt`."""
    turns = turns_of(messages)
    if turns[-1][1] is not None:
        raise ValueError("a prompt ends with the user's turn")
    end = end_id(tokenizer)
    ids: list[int] = []
    for prompt, answer in turns:
        ids += encode_text(tokenizer, prompt)
        if answer is not None:
            ids += [*encode_text(tokenizer, answer), end]
    return ids


def encode_response(tokenizer: Any, messages: Sequence[Message], response: str) -> list[int]:
    """Token ids of prompt, response and the end token: what a reward model reads."""
    return [*encode_prompt(tokenizer, messages), *encode_text(tokenizer, response), end_id(tokenizer)]
