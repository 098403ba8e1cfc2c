"""Talking to a model of the store, line by line."""

from __future__ import annotations

import sys

from artifacts.errors import UserError
from artifacts.store import Artifact
from tasks.execution import held_model


def chat(artifact: Artifact, temperature: float, max_tokens: int, seed: int) -> None:
    """Read a question a line from standard input, write the model's answer to standard output.

    The conversation is kept and cut from the front when it outgrows the model's context. An empty line starts a new
    one; end of input ends.

    Raises:
        UserError: the artifact holds no causal language model.
    """
    found = held_model(artifact)
    if found != "language model":
        what = f"a {found}, which gives scores and no answers" if found else "no language model"
        raise UserError(f"{artifact.ref} holds {what} (chat with one of pretrain, sft, ppo)")
    folder = artifact.local() / "model"
    import torch

    from tasks.training.chat_format import encode_prompt
    from tasks.training.generate import generate
    from tasks.training.model import load_causal, load_tokenizer

    torch.manual_seed(seed)
    model, tokenizer = load_causal(folder).eval(), load_tokenizer(folder)
    context = int(model.config.max_position_embeddings)
    longest = min(max_tokens, context // 2)
    messages: list[dict[str, str]] = []
    turn = 0
    prompting = sys.stdin.isatty()
    if prompting:
        sys.stderr.write(f"{artifact.ref}. An empty line starts anew; Ctrl-D ends.\n")
    while True:
        if prompting:
            sys.stderr.write("> ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            return
        if not line.strip():
            messages = []
            continue
        messages.append({"role": "user", "content": line.strip()})
        ids = encode_prompt(tokenizer, messages)
        while len(ids) > context - longest and len(messages) > 2:
            messages = messages[2:]
            ids = encode_prompt(tokenizer, messages)
        answer = generate(
            model,
            [ids[-(context - longest) :]],
            max_new_tokens=longest,
            temperature=temperature,
            eos_id=tokenizer.eos_token_id,
            seeds=[seed + turn],
        )[0]
        text = tokenizer.decode(answer.ids, skip_special_tokens=True).strip()
        messages.append({"role": "assistant", "content": text})
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        turn += 1
