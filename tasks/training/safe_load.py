"""Loading checkpoints without unpickling: numbers, texts and containers, and nothing that could run.

A checkpoint is written by `torch.save`, whose format is a pickle. A pickle may name any function to be called with any
arguments when it is read. PyTorch's restricted reader builds tensors and plain values alone, and the few classes named
here, none of which does anything when it is built. DeepSpeed asks for the unrestricted reader;
`TORCH_FORCE_WEIGHTS_ONLY_LOAD`, PyTorch's own switch, overrules it for as long as a checkpoint is read.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from artifacts.errors import RunError

FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


@contextmanager
def weights_only(where: str | Path) -> Iterator[None]:
    """Within it every `torch.load` of this process is restricted, whatever it asks for.

    Raises:
        RunError: a file wanted more than that.
    """
    before = os.environ.get(FORCE)
    os.environ[FORCE] = "1"
    try:
        with torch.serialization.safe_globals(_plain_classes()):
            yield
    except pickle.UnpicklingError as error:
        raise RunError(
            f"{where}: refused: it holds more than numbers, and reading it could run a program. A checkpoint of this "
            f"version never does; remove it to begin anew ({_first_line(error)})"
        ) from None
    finally:
        if before is None:
            del os.environ[FORCE]
        else:
            os.environ[FORCE] = before


def load_plain(path: str | Path) -> Any:
    """What `torch.save` wrote, if it is tensors and plain values.

    Raises:
        RunError: it is more than that. OSError, RuntimeError: it cannot be read.
    """
    with weights_only(path):
        return torch.load(path, weights_only=True)


def _plain_classes() -> list[Any]:
    """What DeepSpeed's and our own checkpoints hold beside tensors: settings and counters, and NumPy's random state."""
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    classes: list[Any] = [LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address]
    return [*classes, np._core.multiarray._reconstruct, np.ndarray, np.dtype, type(np.dtype(np.uint32))]  # type: ignore[attr-defined]


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if "Unsupported" in line or "GLOBAL" in line), lines[0] if lines else "")
