"""reward: what is cut, what is counted, that it learns, and that a killed run ends in the same bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from artifacts.errors import UserError
from artifacts.reader import InputTable
from artifacts.store import Artifact, Store
from artifacts.tables import CONVERSATIONS, RANKINGS
from tasks.reward import STAGE, RewardConfig
from tasks.reward.accuracy import length_accuracy, pair_accuracy
from tasks.reward.examples import Example, fit, openings, read_examples
from tasks.training.launcher import LauncherConfig
from tasks.training.model import build_causal, load_tokenizer
from tasks.training.shapes import ModelConfig
from tests.support import put_table, read_rows, run_stage
from tests.training_support import put_model, put_tokenizer


def test_prompts_are_cut_from_the_left_and_alike_for_all_answers() -> None:
    prompt = list(range(100, 110))
    assert fit(prompt, [[1, 2], [3]], 20, 4) == ([[*prompt, 1, 2], [*prompt, 3]], [0, 1])
    assert fit(prompt, [[1, 2], [3]], 8, 4) == ([[*prompt[4:], 1, 2], [*prompt[4:], 3]], [0, 1])
    # The second would leave fewer than four tokens of the prompt.
    assert fit(prompt, [[1], [2] * 5, [3]], 8, 4) == ([[*prompt[3:], 1], [*prompt[3:], 3]], [0, 2])
    assert fit(prompt, [[1] * 9], 8, 4) == ([], [])


def example(
    number: int, ranks: list[int], lengths: list[int], group: str = "human/helpful", prompt: str = "p"
) -> Example:
    return Example(number, prompt, [[0]] * len(ranks), ranks, lengths, group)


def test_accuracy_counts_untied_pairs() -> None:
    examples = [example(0, [1, 2, 2], [5, 3, 3]), example(1, [2, 1], [4, 4], "made/harmless", "q")]
    found = pair_accuracy(examples, [[1.0, 2.0, 0.0], [1.0, 1.0]])
    assert examples[0].pairs == [(0, 1), (0, 2)]
    assert (found["pairs"]["value"], found["pairs"]["n"]) == (pytest.approx(1 / 3), 3)
    assert (found["prompts"]["mean"], found["prompts"]["n"]) == (pytest.approx(0.25), 2)
    assert found["groups"]["human/helpful"]["value"] == 0.5
    assert found["groups"]["made/harmless"]["value"] == 0.0
    # A second annotator's ranking of a prompt is no second prompt.
    twice = pair_accuracy([examples[0], examples[0], examples[1]], [[1.0, 2.0, 0.0], [3.0, 2.0, 0.0], [1.0, 1.0]])
    assert (twice["prompts"]["mean"], twice["prompts"]["n"]) == (pytest.approx(0.375), 2)
    # Pairs of one length are not counted.
    baseline = length_accuracy(examples)
    assert (baseline["value"], baseline["n"]) == (1.0, 2)


def rankings(count: int) -> list[dict[str, Any]]:
    """Answers with an exclamation mark are better than the one without, and tied with one another."""
    draw = random.Random(0)
    rows = []
    for number in range(count):
        words = ["".join(draw.choices("abcdefgh", k=draw.randrange(2, 8))) for _ in range(3)]
        rows.append(
            {
                "prompt_id": f"{number:032x}",
                "messages": [{"role": "user", "content": f"Say {words[0]}"}],
                "responses": [f"{words[1]}!", f"{words[2]}", f"{words[0]}!"],
                "ranks": [1, 2, 1],
                "annotator": "made",
                "axis": "helpful",
                "policy": [],
                "source": "made",
                "split": "heldout" if number % 4 == 0 else "train",
            }
        )
    rows.append({**rows[1], "ranks": [1, 1, 1], "split": "train"})
    rows.append({**rows[1], "responses": ["x" * 200, "y", "z" * 300], "split": "train"})
    rows.append({**rows[1], "messages": [{"role": "user", "content": "long " * 40}], "split": "train"})
    return rows


def table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=schema)


def tiny_model(store: Store) -> Artifact:
    tokenizer = put_tokenizer(store)
    shape = ModelConfig(layers=2, width=32, heads=2, context=96)
    return put_model(store, tokenizer, build_causal(shape, 300, seed=0), "sft")


CONFIG = RewardConfig(lr=3e-3, batch_prompts=16, micro_batch=8, epochs=3, checkpoint_every=2)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, Artifact]]:
    store = Store(str(tmp_path_factory.mktemp("reward") / "store"))
    demonstrations = [
        {
            "prompt_id": f"{number:032x}",
            "messages": [
                {"role": "user", "content": f"Say {number}"},
                {"role": "assistant", "content": f"{number}!" if number % 2 else f"{number}"},
            ],
            "source": "made",
            "split": "train",
        }
        for number in range(8)
    ]
    return store, {
        "rankings": put_table(store, RANKINGS, table(rankings(120), RANKINGS.schema), "label"),
        "model": tiny_model(store),
        "conversations": put_table(store, CONVERSATIONS, table(demonstrations, CONVERSATIONS.schema), "demonstrations"),
    }


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def trained(given: tuple[Store, dict[str, Artifact]]) -> Iterator[Artifact]:
    """The artifact of a run that was killed after three steps, past the checkpoint of step 2, and run again."""
    store, inputs = given

    def kill(done: int, total: int | None, what: str) -> None:
        if what.startswith("training") and done == 3:
            raise Killed

    with pytest.raises(Killed):
        run_stage(STAGE, CONFIG, store, inputs, progress=kill)
    yield run_stage(STAGE, CONFIG, store, inputs).artifact


def test_it_learns_what_is_preferred(trained: Artifact) -> None:
    counts, metrics = trained.manifest.counts, trained.manifest.metrics
    assert (counts.rows_in, counts.kept, counts.dropped) == (123, 121, 2)
    assert counts.reasons == {"only_ties": 1, "too_long": 1}
    assert (metrics["prompts_cut"], metrics["answers_too_long"]) == (1, 2)
    assert metrics["steps"] == 3 * 6
    accuracy = metrics["heldout_accuracy"]
    assert accuracy["pairs"]["n"] == 30 * 2
    assert accuracy["pairs"]["low"] > 0.8
    assert metrics["heldout_loss"]["mean"] < 0.4
    assert list(accuracy["groups"]) == ["made/helpful"]
    rows = read_rows(trained)
    assert [row["step"] for row in rows if row["name"] == "train_loss"] == list(range(1, 19))
    assert [row["step"] for row in rows if row["name"] == "heldout_loss"] == [0, 18]
    rates = [row["value"] for row in rows if row["name"] == "lr"]
    assert rates[0] == pytest.approx(3e-3)
    assert rates[-1] == pytest.approx(3e-4)


def test_demonstrations_score_zero_on_average(trained: Artifact, given: tuple[Store, dict[str, Artifact]]) -> None:
    import torch

    from tasks.training.batches import pad_right
    from tasks.training.chat_format import encode_response
    from tasks.training.model import RewardModel

    folder = trained.local() / "model"
    bias = json.loads((folder / "config.json").read_text())["reward_bias"]
    assert bias == pytest.approx(trained.manifest.metrics["bias"]["value"], abs=1e-6)
    assert trained.manifest.metrics["bias"]["n"] == 8
    model, tokenizer = RewardModel.load(folder), load_tokenizer(folder)
    rows = [row["messages"] for row in read_rows(given[1]["conversations"])]
    ids, mask = pad_right([encode_response(tokenizer, row[:-1], row[-1]["content"]) for row in rows])
    with torch.no_grad():
        assert model.scores(ids, mask.sum(1)).mean().item() == pytest.approx(0, abs=1e-4)


def test_a_killed_run_ends_in_the_bytes_of_an_undisturbed_one(
    trained: Artifact, given: tuple[Store, dict[str, Artifact]], tmp_path: Path
) -> None:
    store, inputs = given
    again = run_stage(STAGE, CONFIG, store, inputs, force=True).artifact
    assert again.manifest.content == trained.manifest.content


def test_what_is_unseen_in_one_stage_is_unseen_in_all(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))

    def asked(question: str, answer: str | None = None) -> list[dict[str, str]]:
        said = [{"role": "user", "content": question}]
        return said if answer is None else [*said, {"role": "assistant", "content": answer}]

    dialogues = {"learnt": "train", "unseen": "heldout"}
    demonstrations = [
        {"prompt_id": f"{n:032x}", "messages": asked(question, "yes"), "source": "made", "split": split}
        for n, (question, split) in enumerate(dialogues.items())
    ]
    base = {"responses": ["a", "b"], "ranks": [1, 2], "annotator": "x", "axis": "helpful", "policy": [], "source": "s"}
    rows = [
        {**base, "prompt_id": f"{n:032x}", "messages": messages, "split": split}
        for n, (messages, split) in enumerate(
            (messages, split)
            for split in ("train", "heldout")
            for messages in (asked("learnt"), [*asked("learnt", "no"), *asked("so")], asked("unseen"), asked("other"))
        )
    ]
    model = tiny_model(store)
    table_of = InputTable(put_table(store, RANKINGS, table(rows, RANKINGS.schema), "label").files("data"))
    given = put_table(store, CONVERSATIONS, table(demonstrations, CONVERSATIONS.schema), "demonstrations")
    tokenizer = load_tokenizer(model.local() / "model")
    found = read_examples(table_of, tokenizer, 96, 8, openings(InputTable(given.files("data"))))
    assert [example.number for example in found.train] == [0, 1, 3]
    assert [example.number for example in found.heldout] == [6, 7]
    assert found.account == {"rows": 8, "kept": 5, "reasons": {"heldout_prompt": 1, "learnt_in_sft": 2}}
    assert read_examples(table_of, tokenizer, 96, 8).account["kept"] == 8


def test_nothing_to_train_on_is_the_users_error(given: tuple[Store, dict[str, Artifact]]) -> None:
    store, inputs = given
    ties = [{**row, "ranks": [1, 1, 1]} for row in rankings(4)[:4]]
    empty = put_table(store, RANKINGS, table(ties, RANKINGS.schema), "label", "ties")
    config = RewardConfig(launcher=LauncherConfig(starter="none"))  # it fails before any engine starts
    with pytest.raises(UserError, match=r"no ranking to train on: 4 read.*only_ties"):
        run_stage(STAGE, config, store, {"rankings": empty, "model": inputs["model"]})
