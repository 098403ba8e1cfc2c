"""Paragraphs: what other documents say word for word is cut out, line by line or paragraph by paragraph."""

from typing import TYPE_CHECKING

from tasks.lazily import names_of
from tasks.paragraphs.config import ParagraphsConfig

if TYPE_CHECKING:
    from tasks.paragraphs.stage import STAGE

__all__ = ["STAGE", "ParagraphsConfig"]
__getattr__ = names_of(f"{__name__}.stage", __all__)
