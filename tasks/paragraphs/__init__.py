"""Paragraphs: what other documents say word for word is cut out, line by line or paragraph by paragraph."""

from tasks.paragraphs.config import ParagraphsConfig
from tasks.paragraphs.stage import STAGE

__all__ = ["STAGE", "ParagraphsConfig"]
