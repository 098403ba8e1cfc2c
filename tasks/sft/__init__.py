"""sft: supervised fine-tuning of a language model on conversations, answers learnt and prompts masked."""

from typing import TYPE_CHECKING

from tasks.lazily import names_of
from tasks.sft.config import SftConfig

if TYPE_CHECKING:
    from tasks.sft.stage import STAGE

__all__ = ["STAGE", "SftConfig"]
__getattr__ = names_of(f"{__name__}.stage", __all__)
