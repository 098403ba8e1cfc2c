"""pii: e-mail addresses, IP addresses and telephone numbers in the text, replaced by placeholders."""

from tasks.pii.config import PiiConfig
from tasks.pii.stage import STAGE

__all__ = ["STAGE", "PiiConfig"]
