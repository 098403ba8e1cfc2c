"""pretrain: a causal language model from scratch, on the sequences in their order."""

from tasks.pretrain.config import PretrainConfig
from tasks.pretrain.stage import STAGE

__all__ = ["STAGE", "PretrainConfig"]
