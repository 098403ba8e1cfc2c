"""Decontaminate: overlap with evaluation sets, found by n-grams and cut out."""

from typing import TYPE_CHECKING

from tasks.decontaminate.config import DecontaminateConfig
from tasks.lazily import names_of

if TYPE_CHECKING:
    from tasks.decontaminate.stage import STAGE

__all__ = ["STAGE", "DecontaminateConfig"]
__getattr__ = names_of(f"{__name__}.stage", __all__)
