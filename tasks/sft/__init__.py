"""sft: supervised fine-tuning of a language model on conversations, answers learnt and prompts masked."""

from tasks.sft.config import SftConfig
from tasks.sft.stage import STAGE

__all__ = ["STAGE", "SftConfig"]
