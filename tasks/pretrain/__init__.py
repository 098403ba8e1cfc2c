"""pretrain: a causal language model from scratch, on the sequences in their order."""

from typing import TYPE_CHECKING

from tasks.lazily import names_of
from tasks.pretrain.config import PretrainConfig

if TYPE_CHECKING:
    from tasks.pretrain.stage import STAGE

__all__ = ["STAGE", "PretrainConfig"]
__getattr__ = names_of(f"{__name__}.stage", __all__)
