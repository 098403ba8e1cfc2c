"""Checkpoints: all that the next step depends on, so that a killed run goes on to the same bits."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from artifacts.errors import RunError
from tasks.training.engine import Engine
from tasks.training.safe_load import load_plain


class Checkpoints:
    """The checkpoints of one run, in its work folder: `step-00000120/` holds the state after 120 steps.

    A checkpoint appears by one rename when it is whole; then the one before it is removed.
    """

    def __init__(self, work: str | Path, every: int) -> None:
        """`every`: steps between checkpoints; 0 for none."""
        self.folder = Path(work) / "checkpoints"
        self.every = every

    def due(self, step: int, last: int) -> bool:
        """Whether to save after `step` steps of `last`; never at the end, where the artifact itself follows."""
        return self.every > 0 and step % self.every == 0 and step < last

    def latest(self) -> Path | None:
        """The newest whole checkpoint that this number of ranks can load, or None."""
        for folder in sorted(self.folder.glob("step-*"), reverse=True):
            if len(list(folder.glob("state-*.pt"))) == torch.distributed.get_world_size():
                return folder
        return None

    def save(self, step: int, engines: dict[str, Engine], state: dict[str, Any]) -> None:
        """Save after `step` steps. All ranks call; each has a `state` of its own (tensors and plain values)."""
        rank = torch.distributed.get_rank()
        final = self.folder / f"step-{step:08d}"
        partial = self.folder / f"partial-{step:08d}"
        if rank == 0:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        _barrier()
        for name, engine in engines.items():
            engine.save(partial / name)
        torch.save({"step": step, "state": state}, partial / f"state-{rank}.pt")
        _barrier()
        if rank == 0:
            shutil.rmtree(final, ignore_errors=True)
            os.replace(partial, final)
            for old in sorted(self.folder.iterdir()):
                if old != final:
                    shutil.rmtree(old, ignore_errors=True)
        _barrier()

    def load(self, folder: Path, engines: dict[str, Engine]) -> tuple[int, dict[str, Any]]:
        """(steps done, state) of a checkpoint, with the engines set to it. All ranks call.

        Raises:
            RunError: it is damaged, of another model, or holds more than numbers.
        """
        for name, engine in engines.items():
            engine.load(folder / name)
        path = folder / f"state-{torch.distributed.get_rank()}.pt"
        try:
            found = load_plain(path)
        except (OSError, RuntimeError) as error:
            raise RunError(f"{path}: damaged checkpoint ({error}); remove {folder} to begin anew") from error
        return int(found["step"]), dict(found["state"])

    def resume(self, engines: dict[str, Engine], state: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """As `load` of the latest, or (0, the given state) if there is none."""
        latest = self.latest()
        return (0, state) if latest is None else self.load(latest, engines)


def _barrier() -> None:
    if torch.distributed.get_world_size() > 1:
        torch.distributed.barrier()
