"""Loading never unpickles: no call here could, and a pickle in the place of a checkpoint or a model is refused."""

from __future__ import annotations

import ast
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artifacts.errors import RunError, UserError
from tasks.sft.samples import Samples
from tasks.training.checkpoint import Checkpoints
from tasks.training.engine import Engine
from tasks.training.model import ModelConfig, build_causal, load_causal, load_tokenizer, save_causal
from tasks.training.safe_load import load_plain
from tests.training_support import make_tokenizer

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for package in ("artifacts", "tasks", "flows") for path in (ROOT / package).rglob("*.py"))
UNPICKLERS = ("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle")


def name_of(node: ast.expr) -> str:
    """`a.b.c` of an attribute or a name; "" of anything else."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def constant(call: ast.Call, keyword: str) -> Any:
    """The literal given for a keyword; an Ellipsis if it is none or not given."""
    found = [item.value for item in call.keywords if item.arg == keyword]
    return found[0].value if found and isinstance(found[0], ast.Constant) else ...


def forbidden(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, why) of what could run what a file says."""
    restricted = [
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.With)
        and any(
            isinstance(i.context_expr, ast.Call) and name_of(i.context_expr.func) == "weights_only" for i in block.items
        )
        for node in ast.walk(block)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in UNPICKLERS:
            yield node.lineno, f"imports from {node.module}"
        if isinstance(node, ast.Attribute) and name_of(node.value) in UNPICKLERS and node.attr != "UnpicklingError":
            yield node.lineno, f"{name_of(node)}"
        if not isinstance(node, ast.Call):
            continue
        called = name_of(node.func)
        last = called.rpartition(".")[2]
        if called == "torch.load" and constant(node, "weights_only") is not True:
            yield node.lineno, "torch.load without weights_only=True"
        if called in ("np.load", "numpy.load") and constant(node, "allow_pickle") is not False:
            yield node.lineno, "np.load without allow_pickle=False"
        if last == "from_pretrained" and constant(node, "trust_remote_code") is not False:
            yield node.lineno, "from_pretrained without trust_remote_code=False"
        opens_model = last == "from_pretrained" and "config" in {keyword.arg for keyword in node.keywords}
        if opens_model and constant(node, "use_safetensors") is not True:
            yield node.lineno, "a model without use_safetensors=True"
        if last == "load_checkpoint" and node not in restricted:
            yield node.lineno, "DeepSpeed's load_checkpoint outside of weights_only"
        if called in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.jit.load", "eval", "exec"):
            yield node.lineno, called
        if last in ("read_pickle", "load_pickle", "set_default_load_endianness", "load_dataset"):
            yield node.lineno, called


# What a run and its workers on Ray or Dask tell one another, as those do among themselves already: bytes in
# memory, over channels that need a key of the run, and never a file.
MESSAGES = "flows/runners/calls.py"


def test_no_call_could_unpickle() -> None:
    found = [
        (str(path.relative_to(ROOT)), line, why)
        for path in FILES
        for line, why in forbidden(ast.parse(path.read_text()))
    ]
    assert len(FILES) > 100 and [one for one in found if one[0] != MESSAGES] == []
    assert {why for path, _, why in found if path == MESSAGES} == {"pickle.loads", "pickle.dumps"}


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "torch.load(p, weights_only=given)",
        "np.load(p)",
        "np.load(p, allow_pickle=True)",
        "pickle.load(f)",
        "x = pickle.Unpickler",
        "from dill import loads",
        "AutoModel.from_pretrained(p, config=c, trust_remote_code=False)",
        "AutoConfig.from_pretrained(p)",
        "engine.load_checkpoint(p)",
        "yaml.load(t)",
        "eval(t)",
    ],
)
def test_the_walk_finds_what_is_forbidden(code: str) -> None:
    assert list(forbidden(ast.parse(code)))


def test_the_walk_passes_what_is_safe() -> None:
    safe = "with weights_only(p):\n    e.load_checkpoint(p)\nnp.load(p, allow_pickle=False)\nmodel.eval()\n"
    assert list(forbidden(ast.parse(safe))) == []


# --- pickles in the place of files


class Payload:
    """Reading its pickle makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Path]:
    """An engine, and the work folder with its checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    shape = ModelConfig(layers=1, width=16, heads=2, context=16)
    engine = Engine(build_causal(shape, 300, 0), lambda _: 0.1, None, {"zero_optimization": {"stage": 0}}, "fp32")
    Checkpoints(folder, 1).save(1, {"model": engine}, {"metrics": [(0, "loss", 0.5)]})
    return engine, folder


def test_a_checkpoint_loads_as_it_is(trained: tuple[Engine, Path]) -> None:
    engine, folder = trained
    checkpoints = Checkpoints(folder, 1)
    latest = checkpoints.latest()
    assert latest is not None
    assert checkpoints.load(latest, {"model": engine}) == (1, {"metrics": [(0, "loss", 0.5)]})


@pytest.mark.parametrize("name", ["state-0.pt", "model/random-0.pt", "model/engine/mp_rank_00_model_states.pt"])
def test_a_pickle_in_the_place_of_a_checkpoint_is_refused(
    trained: tuple[Engine, Path], tmp_path: Path, name: str
) -> None:
    engine, folder = trained
    checkpoints = Checkpoints(folder, 1)
    latest = checkpoints.latest()
    assert latest is not None and (latest / name).is_file()
    before = (latest / name).read_bytes()
    for write in (torch.save, lambda value, path: Path(path).write_bytes(pickle.dumps(value))):
        write({"step": 1, "state": Payload(tmp_path / "ran")}, latest / name)
        with pytest.raises(RunError, match=r"refused: it holds more than numbers.*remove it to begin anew"):
            checkpoints.load(latest, {"model": engine})
        assert not (tmp_path / "ran").exists() and "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    (latest / name).write_bytes(before)


def test_the_payload_does_run_where_pickles_are_read(tmp_path: Path) -> None:
    """Or the tests above would show nothing."""
    torch.save(Payload(tmp_path / "ran"), tmp_path / "file.pt")
    with pytest.raises(RunError):
        load_plain(tmp_path / "file.pt")
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "file.pt", weights_only=False)
    assert (tmp_path / "ran").is_dir()


def test_a_pickle_in_the_place_of_a_model_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    make_tokenizer(tmp_path / "tokenizer")
    save_causal(
        build_causal(ModelConfig(layers=1, width=16, heads=2, context=16), 300, 0), tmp_path / "tokenizer", folder
    )
    load_causal(folder)
    weights = folder / "model.safetensors"
    torch.save({"transformer.wte.weight": Payload(tmp_path / "ran")}, folder / "pytorch_model.bin")
    before = weights.read_bytes()
    weights.unlink()
    with pytest.raises(UserError, match="not a model that transformers opens"):
        load_causal(folder)
    torch.save({"transformer.wte.weight": Payload(tmp_path / "ran")}, weights)
    with pytest.raises(UserError, match="not a model that transformers opens"):
        load_causal(folder)
    weights.write_bytes(before)
    assert load_tokenizer(folder) is not None and not (tmp_path / "ran").exists()


def test_a_pickle_in_the_place_of_samples_is_refused(tmp_path: Path) -> None:
    objects = np.array([Payload(tmp_path / "ran")], dtype=object)
    np.savez(tmp_path / "samples.npz", ids=objects, mask=objects, ends=objects)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Samples(tmp_path / "samples.npz")
    assert not (tmp_path / "ran").exists()
