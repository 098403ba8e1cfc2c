"""tokenize: a byte-level BPE trained on the kept text, or a given tokenizer, and every document's tokens."""

from typing import TYPE_CHECKING

from tasks.lazily import names_of
from tasks.tokenize.config import TokenizeConfig

if TYPE_CHECKING:
    from tasks.tokenize.stage import STAGE

__all__ = ["STAGE", "TokenizeConfig"]
__getattr__ = names_of(f"{__name__}.stage", __all__)
