"""The engine: DeepSpeed behind six methods, the same from two CPU cores to ZeRO-3 on many GPUs.

What a caller may rely on: losses are summed, never divided (neither by micro-batches nor by ranks), so a loss that is
normalised by the global count of its tokens gives the same gradient however the batch was cut; every `step()` is one
optimizer step; a rate is a function of the update's number. The accumulation boundary is the caller's own
(DeepSpeed's `managed_gradient_accumulation: false`).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from artifacts.errors import RunError, UserError
from tasks.training.safe_load import load_plain, weights_only
from tasks.training.shapes import Precision
from tasks.training.worker import current_device, prepare

Result = TypeVar("Result")

NO_CLIPPING = 1e30
OWN_KEYS = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "managed_gradient_accumulation",
    "gradient_clipping",
    "optimizer",
    "scheduler",
)


@dataclass(frozen=True)
class AdamSettings:
    """AdamW (Loshchilov and Hutter 2019) and the clipping of the gradient's global norm.

    Attributes:
        weight_decay: for matrices and embeddings; biases and norms are never decayed.
        clip: largest global norm; 0 for none.
    """

    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 1.0


class Engine:
    """A model under training.

    Attributes:
        module: the plain model. Under ZeRO-3 its weights are there only inside `engine(...)` and `gathered()`.
        device: where its inputs belong.
        updates: optimizer steps taken.
    """

    def __init__(
        self,
        model: nn.Module,
        rate: Callable[[int], float],
        settings: AdamSettings | None = None,
        deepspeed_config: str | Path | dict[str, Any] = "configs/deepspeed/zero0.json",
        precision: Precision = "auto",
    ) -> None:
        prepare()
        import deepspeed

        settings = settings or AdamSettings()
        self.device = current_device()
        self.module = model.to(self.device)
        self.updates = 0
        self._rate = rate
        self._clip = settings.clip or NO_CLIPPING
        self._grad_norm: float | None = None
        bf16 = precision == "bf16" or (precision == "auto" and self.device.type == "cuda")
        self._precision = torch.bfloat16 if bf16 else None
        self._runner = _Runner(self.module)
        config = _deepspeed_config(deepspeed_config, self._clip)
        self.zero_stage = int(config.get("zero_optimization", {}).get("stage", 0))
        optimizer = torch.optim.AdamW(_groups(model, settings), lr=rate(0), betas=settings.betas, eps=settings.eps)
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=self._runner, optimizer=optimizer, config=config, dist_init_required=False
        )
        # DeepSpeed clips in fp32 without telling the norm; ZeRO's own optimizers tell it themselves.
        self._engine.clip_fp32_gradients = self._clip_gradients

    @property
    def world_size(self) -> int:
        return torch.distributed.get_world_size()

    @property
    def rank(self) -> int:
        return torch.distributed.get_rank()

    def __call__(self, function: Callable[..., Result], *args: Any, **keywords: Any) -> Result:
        """`function(module, *args, **keywords)` in the engine's precision.

        Under ZeRO-3 this is what gathers weights, those used outside their own layer's forward (a loss that reads the
        output embedding) included: compute losses in here, whole.
        """
        with self.autocast():
            result: Result = self._engine(function, *args, **keywords)
        return result

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The precision of forward passes: nothing in fp32, bf16 autocast over fp32 weights else."""
        if self._precision is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self._precision)

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient to what has accumulated since the last step. Not scaled by anything.

        Summed over ranks at the step: normalise by global counts.
        """
        # The reduction averages over ranks; times their number it is a sum.
        scaled = loss if self.world_size == 1 else loss * self.world_size
        self._engine.backward(scaled, scale_wrt_gas=False)

    def step(self) -> float:
        """Clip, take one optimizer step at this update's rate, forget the gradients. Returns the norm before clipping.

        Raises:
            RunError: the norm is not finite; without ZeRO the weights are as before.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate
        self._engine.step()
        self.updates += 1
        norm = float((self._grad_norm if self.zero_stage == 0 else self._engine.get_global_grad_norm()) or 0.0)
        self._check(norm)
        return norm

    @property
    def rate(self) -> float:
        """The learning rate that the next step will have."""
        return self._rate(self.updates)

    def _clip_gradients(self) -> None:
        norm = float(torch.nn.utils.clip_grad_norm_(self.module.parameters(), self._clip))
        self._check(norm)
        self._grad_norm = norm

    def _check(self, norm: float) -> None:
        if not np.isfinite(norm):
            raise RunError(f"the gradient of update {self.updates} is not finite: lower lr, or look at the data")

    def gather_sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all ranks, on every rank."""
        total = tensor.detach().clone()
        if self.world_size > 1:
            total = total.to(self.device)
            torch.distributed.all_reduce(total)
        return total

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.world_size > 1:
            torch.distributed.barrier()

    @contextlib.contextmanager
    def gathered(self) -> Iterator[nn.Module]:
        """The module with all its weights present on every rank, to read or save them."""
        if self.zero_stage < 3:
            yield self.module
            return
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(self.module.parameters())):
            yield self.module

    def save(self, folder: str | Path) -> None:
        """All that the next step depends on: weights, optimizer, update number, random states. All ranks call."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        self._engine.save_checkpoint(str(target), tag="engine", client_state={"updates": self.updates})
        torch.save(random_states(), target / f"random-{self.rank}.pt")

    def load(self, folder: str | Path) -> None:
        """What `save` wrote, with the same number of ranks.

        Raises:
            RunError: the checkpoint is incomplete, of another model, or holds more than numbers.
        """
        source = Path(folder)
        try:
            with weights_only(source):
                _, state = self._engine.load_checkpoint(str(source), tag="engine")
            self.updates = int(state["updates"])
            restore_random_states(load_plain(source / f"random-{self.rank}.pt"))
        except (OSError, RuntimeError, TypeError, KeyError) as error:
            raise RunError(f"{source}: not a checkpoint of this model ({error}); remove it to begin anew") from error


class _Runner(nn.Module):
    """Runs any function of the model as a forward pass, which is where DeepSpeed's hooks sit."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        embedding = getattr(model, "get_output_embeddings", lambda: None)()
        if embedding is not None:
            # ZeRO-3 gathers a weight for its own layer; the loss reads this one by itself.
            import deepspeed

            deepspeed.zero.register_external_parameter(self, embedding.weight)

    def forward(self, function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        return function(self.model, *args, **keywords)


def _groups(model: nn.Module, settings: AdamSettings) -> list[dict[str, Any]]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.dim() >= 2]
    vectors = [parameter for parameter in trained if parameter.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _deepspeed_config(given: str | Path | dict[str, Any], clip: float) -> dict[str, Any]:
    config = dict(given) if isinstance(given, dict) else read_deepspeed_config(given)
    for key in OWN_KEYS:
        if key in config:
            raise UserError(f"{given}: {key!r} is set by the stage; a DeepSpeed config here may not name it")
    return {
        **config,
        "train_micro_batch_size_per_gpu": 1,  # only names a figure in DeepSpeed's own reports
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": clip,
        "steps_per_print": 10**9,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def read_deepspeed_config(path: str | Path) -> dict[str, Any]:
    """A DeepSpeed JSON config; a relative path counts from the working folder, then from the checkout.

    Raises:
        UserError: there is no such file, or it is not a JSON object.
    """
    checkout = Path(__file__).resolve().parents[2]
    found = next((p for p in (Path(path), checkout / path) if p.is_file()), None)
    if found is None:
        raise UserError(f"DeepSpeed config {str(path)!r}: no such file")
    try:
        config = json.loads(found.read_text())
    except ValueError as error:
        raise UserError(f"{found}: not JSON ({error})") from error
    if not isinstance(config, dict):
        raise UserError(f"{found}: a DeepSpeed config is a JSON object")
    return config


def random_states() -> dict[str, Any]:
    """The states of every global random generator."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Undo of `random_states`."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def seed_everything(seed: int) -> None:
    """Seed the global generators; ranks draw differently (dropout), the data order never comes from here."""
    rank = int(os.environ.get("RANK", "0"))
    random.seed(seed + rank)
    np.random.seed((seed + rank) % 2**32)
    torch.manual_seed(seed + rank)
