"""Decontaminate: overlap with evaluation sets, found by n-grams and cut out."""

from tasks.decontaminate.config import DecontaminateConfig
from tasks.decontaminate.stage import STAGE

__all__ = ["STAGE", "DecontaminateConfig"]
