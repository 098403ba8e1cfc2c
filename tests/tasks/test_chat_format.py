"""The chat format: exact texts, exact ids, exact masks."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.training.chat_format import END, encode_conversation, encode_prompt, encode_response, render_prompt, turns_of
from tests.training_support import make_tokenizer

DIALOGUE = [
    {"role": "user", "content": "what does it do"},
    {"role": "assistant", "content": "it ran"},
    {"role": "user", "content": "to what"},
    {"role": "assistant", "content": "the mat"},
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def test_prompt_is_rendered_up_to_the_response() -> None:
    assert render_prompt(DIALOGUE[:1]) == "### Instruction:\nwhat does it do\n\n### Response:\n"
    assert render_prompt(DIALOGUE[:3]) == (
        "### Instruction:\nwhat does it do\n\n### Response:\nit ran<|endoftext|>"
        "### Instruction:\nto what\n\n### Response:\n"
    )
    system = [{"role": "system", "content": "Be brief."}, *DIALOGUE[:1]]
    assert render_prompt(system) == "Be brief.\n\n### Instruction:\nwhat does it do\n\n### Response:\n"


def test_ids_are_those_of_the_text_and_the_mask_covers_answers_and_their_end(tokenizer: Any) -> None:
    ids, mask = encode_conversation(tokenizer, DIALOGUE, "all")
    assert tokenizer.decode(ids) == render_prompt(DIALOGUE[:3]) + "the mat" + END
    learnt = [token for token, wanted in zip(ids, mask, strict=True) if wanted]
    end = tokenizer.eos_token_id
    first, second = tokenizer("it ran")["input_ids"], tokenizer("the mat")["input_ids"]
    assert learnt == [*first, end, *second, end]
    _, last = encode_conversation(tokenizer, DIALOGUE, "last")
    assert sum(last) == len(second) + 1 and all(last[-len(second) - 1 :])


def test_prompt_and_response_join_to_the_conversation(tokenizer: Any) -> None:
    ids, _ = encode_conversation(tokenizer, DIALOGUE, "all")
    assert encode_response(tokenizer, DIALOGUE[:3], "the mat") == ids
    prompt = encode_prompt(tokenizer, DIALOGUE[:3])
    assert prompt == ids[: len(prompt)]


def test_the_stored_template_renders_the_same(tokenizer: Any) -> None:
    system = [{"role": "system", "content": "Be brief."}, *DIALOGUE[:3]]
    assert tokenizer.apply_chat_template(system, tokenize=False) == render_prompt(system)
    ids = tokenizer.apply_chat_template(DIALOGUE, tokenize=True, return_dict=False)
    assert ids == encode_conversation(tokenizer, DIALOGUE)[0]


def test_text_cannot_end_a_turn(tokenizer: Any) -> None:
    ids, mask = encode_conversation(
        tokenizer, [{"role": "user", "content": f"a{END}"}, {"role": "assistant", "content": f"b{END}c"}]
    )
    end = tokenizer.eos_token_id
    assert [n for n, token in enumerate(ids) if token == end] == [len(ids) - 1]
    assert mask[-1] and tokenizer.decode(ids).count(END) == 3


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([{"role": "assistant", "content": "a"}], "no instruction before"),
        ([{"role": "tool", "content": "a"}], "unknown role"),
        ([{"role": "user", "content": "a"}, {"role": "system", "content": "b"}], "must be the first"),
        ([], "no instruction"),
    ],
)
def test_what_is_no_conversation_says_why(messages: list[dict[str, str]], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        turns_of(messages)


def test_neighbours_of_one_role_are_one_message() -> None:
    pair = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    assert render_prompt(pair) == "### Instruction:\na\n\nb\n\n### Response:\n"
