"""tokenize: a byte-level BPE trained on the kept text, or a given tokenizer, and every document's tokens."""

from tasks.tokenize.config import TokenizeConfig
from tasks.tokenize.stage import STAGE

__all__ = ["STAGE", "TokenizeConfig"]
