"""pretrain: figures, row account, learning, and what survives kill -9."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import RunError, UserError
from artifacts.store import Artifact, Store
from tasks.pretrain import STAGE, PretrainConfig
from tasks.stage import StageContext
from tasks.training.launcher import LauncherConfig, launch
from tasks.training.shapes import ModelConfig
from tests.support import read_rows, run_stage
from tests.training_support import put_sequences, put_tokenizer, tiny_rows

HERE = LauncherConfig(starter="none", threads=1)
SHAPE = ModelConfig(layers=2, width=32, heads=2, context=16)


def config(**fields: Any) -> PretrainConfig:
    return PretrainConfig(
        **{"model": SHAPE, "batch_tokens": 128, "warmup_tokens": 256, "lr": 1e-2, "launcher": HERE, **fields}
    )


def inputs(store: Store) -> dict[str, Artifact]:
    return {"sequences": put_sequences(store, tiny_rows(60), tiny_rows(5)), "tokenizer": put_tokenizer(store)}


def values(artifact: Artifact, name: str) -> list[float]:
    return [row["value"] for row in read_rows(artifact) if row["name"] == name]


def test_one_pass_reads_rows_in_order_and_accounts_for_the_rest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = run_stage(STAGE, config(), store, inputs(store)).artifact
    counts, metrics = artifact.manifest.counts, artifact.manifest.metrics
    # 128 tokens are 8 rows of 16: 7 steps read 56 of 60 rows.
    assert (counts.rows_in, counts.kept, counts.dropped, counts.failed) == (60, 56, 4, 0)
    assert counts.reasons == {"not_reached": 4}
    assert metrics["reads"] == [{"input": "sequences", "first_row": 0, "rows_per_step": 8, "steps": 7, "rows": 60}]
    assert metrics["tokens"] == 56 * 16 and metrics["heldout_tokens"] == 5 * 15
    assert metrics["uniform_loss"] == pytest.approx(math.log(300))
    # 300 tokens and 16 positions of 32; a block: 12 * 32^2 weights and 13 * 32 biases and norms; the last norm.
    assert metrics["parameters"] == 316 * 32 + 2 * (12 * 32**2 + 13 * 32) + 64
    losses = values(artifact, "train_loss")
    assert len(losses) == 7 and losses[0] == pytest.approx(math.log(300), abs=0.2)
    assert values(artifact, "lr")[:2] == [0.005, 0.01] and values(artifact, "lr")[-1] == pytest.approx(1e-3)
    assert values(artifact, "heldout_loss") == [metrics["heldout_loss"]]


def test_it_learns_a_small_corpus(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = run_stage(STAGE, config(steps=120, batch_tokens=256), store, inputs(store)).artifact
    assert artifact.manifest.metrics["final_loss"] < 1.0 < 5.0 < values(artifact, "train_loss")[0]
    assert artifact.manifest.metrics["heldout_loss"] < 1.0  # rows of the same kind, all of them seen
    assert artifact.manifest.counts.kept == 60 and artifact.manifest.counts.reasons == {}


def test_bits_per_byte_are_nats_over_the_bytes_of_predicted_tokens(tmp_path: Path) -> None:
    store = Store(tmp_path)
    tokenizer = put_tokenizer(store)
    from tasks.training.language import byte_lengths
    from tasks.training.model import load_tokenizer

    loaded = load_tokenizer(tokenizer.local() / "model")
    held = [loaded("the cat sat on a mat and the dog ran to what it does")["input_ids"][:12] + [0] * 4]
    given = {"sequences": put_sequences(store, tiny_rows(8), held), "tokenizer": tokenizer}
    metrics = run_stage(STAGE, config(steps=1), store, given).artifact.manifest.metrics
    lengths = byte_lengths(loaded)
    size = sum(lengths[token] for token in held[0][1:])
    assert metrics["bits_per_byte"] == pytest.approx(metrics["heldout_loss"] * 15 / math.log(2) / size)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"model": ModelConfig(layers=1, width=16, heads=2, context=8)}, "pretrain.model.context is 8"),
        ({"batch_tokens": 8}, "batch_tokens is 8"),
        ({"launcher": LauncherConfig(starter="none", deepspeed="nowhere.json")}, "nowhere.json"),
    ],
)
def test_what_cannot_be_trained_is_the_users_error(tmp_path: Path, fields: dict[str, Any], problem: str) -> None:
    store = Store(tmp_path)
    with pytest.raises(UserError, match=problem):
        run_stage(STAGE, config(**fields), store, inputs(store))
    assert store.artifacts("pretrain") == []


TRAINING = """
import sys
from artifacts.store import Store
from tests.support import run_stage
from tests.tasks.test_pretrain import STAGE, config, inputs
from tasks.training.launcher import LauncherConfig
store = Store(sys.argv[1])
def progress(done, total, what):
    print(done, flush=True)
spawned = LauncherConfig(threads=1)
run_stage(STAGE, config(steps=600, checkpoint_every=3, launcher=spawned), store, inputs(store), progress=progress)
"""

# Workers that say one word and then nothing: no broken pipe of theirs can tell them of their parent's end.
SLEEPING = """
import sys
from pathlib import Path
from tests.tasks.test_pretrain import context
from tasks.training.launcher import LauncherConfig, launch
def progress(done, total, what):
    print(done, flush=True)
two = LauncherConfig(processes=2)
launch(context(Path(sys.argv[1]), progress), "tests.tasks.test_pretrain:fail", {"how": "sleep"}, two)
"""


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def end_at(script: str, folder: Path, step: int, number: signal.Signals) -> list[int]:
    """Run a script in a process, end it by a signal after the step was reported; the workers it had then."""
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert parent.stdout is not None
    workers: list[int] = []
    for line in parent.stdout:
        if int(line) >= step:
            workers = children(parent.pid)
            parent.send_signal(number)
            break
    parent.wait(30)
    return workers


def assert_gone(workers: list[int]) -> None:
    end = time.monotonic() + 10
    while any(map(running, workers)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(running, workers))


@pytest.mark.slow
def test_kill_9_leaves_no_orphan_and_resuming_gives_the_same_bits(tmp_path: Path) -> None:
    step = random.Random(os.getpid()).randrange(5, 40)
    workers = end_at(TRAINING, tmp_path / "killed", step, signal.SIGKILL)
    assert len(workers) == 1
    assert_gone(workers)
    store = Store(tmp_path / "killed")
    assert store.artifacts("pretrain") == []
    assert list((tmp_path / "killed" / ".work").glob("pretrain-*/checkpoints/step-*"))
    seen: list[int] = []

    def progress(done: int, total: int | None, what: str) -> None:
        seen.append(done)

    # The rest in this process; the reference has never seen another one. Threads are the same, and so are the bits.
    resumed = run_stage(STAGE, config(steps=600, checkpoint_every=3), store, inputs(store), progress=progress)
    other = Store(tmp_path / "whole")
    whole = run_stage(STAGE, config(steps=600, checkpoint_every=0), other, inputs(other))
    assert seen[0] > step - 3 and len(seen) == 600 - seen[0] + 1
    assert resumed.artifact.content == whole.artifact.content
    assert resumed.artifact.manifest.metrics == whole.artifact.manifest.metrics


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_silent_workers_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    workers = end_at(SLEEPING, tmp_path, 1, number)
    assert len(workers) == 2
    assert_gone(workers)


def fail(job: dict[str, Any], report: Any) -> dict[str, Any]:
    """An entry function for the launcher's own tests."""
    if job["how"] == "user":
        raise UserError("the field x is wrong")
    if job["how"] == "run":
        raise ValueError("no such thing")
    if job["how"] == "sleep":
        report(1, None, "asleep")
        time.sleep(60)
    if job["how"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    os.write(1, b"not a line of the protocol\n")
    report(1, 2, "half")
    return {"pid": os.getpid(), "work": job["work"]}


def context(tmp_path: Path, progress: Any) -> StageContext:
    work = tmp_path / "work"
    return StageContext(STAGE, config(), 0, {}, [], tmp_path / "draft", work, progress=progress)


def test_launcher_speaks_with_its_workers(tmp_path: Path) -> None:
    before = children(os.getpid())
    heard: list[tuple[int, int | None, str]] = []
    ctx = context(tmp_path, lambda *said: heard.append(said))
    entry = "tests.tasks.test_pretrain:fail"
    found = launch(ctx, entry, {"how": ""}, LauncherConfig())
    assert heard == [(1, 2, "half")] and found["work"] == str(ctx.work) and found["pid"] != os.getpid()
    with pytest.raises(UserError, match=r"^the field x is wrong$"):
        launch(ctx, entry, {"how": "user"}, LauncherConfig())
    with pytest.raises(RunError, match=r"pretrain: ValueError: no such thing \(log: .*worker-0.log\)"):
        launch(ctx, entry, {"how": "run"}, LauncherConfig())
    assert "Traceback" in (ctx.work / "worker-0.log").read_text()
    with pytest.raises(RunError, match="ended by SIGKILL"):
        launch(ctx, entry, {"how": "kill"}, LauncherConfig())
    with pytest.raises(RunError, match=r"not done after 0\.5 seconds"):
        launch(ctx, entry, {"how": "sleep"}, LauncherConfig(timeout=0.5))
    assert children(os.getpid()) == before


def test_cancelling_the_caller_ends_the_workers(tmp_path: Path) -> None:
    class Cancelled(BaseException):
        pass

    def cancel(*_: Any) -> None:
        raise Cancelled

    before = children(os.getpid())
    with pytest.raises(Cancelled):
        launch(context(tmp_path, cancel), "tests.tasks.test_pretrain:fail", {"how": "sleep"}, LauncherConfig())
    assert children(os.getpid()) == before


@pytest.mark.slow
def test_two_ranks_under_zero_3_compute_the_same_mathematics(tmp_path: Path) -> None:
    store = Store(tmp_path)
    given = inputs(store)
    alone = run_stage(STAGE, config(micro_batch=3), store, given).artifact
    two = LauncherConfig(processes=2, threads=1, deepspeed="configs/deepspeed/zero3.json")
    both = run_stage(STAGE, config(micro_batch=3, launcher=two), store, given, force=True).artifact
    assert both.recipe == alone.recipe  # how it is started is no part of what is made
    for name in ("train_loss", "lr", "grad_norm", "heldout_loss"):
        assert values(both, name) == pytest.approx(values(alone, name), rel=1e-4), name
    assert both.manifest.metrics["parameters"] == alone.manifest.metrics["parameters"]
    from tasks.training.model import load_causal

    weights = load_causal(Path(both.path) / "model").state_dict()
    for name, weight in load_causal(Path(alone.path) / "model").state_dict().items():
        assert float((weights[name] - weight).abs().max()) < 5e-3, name
