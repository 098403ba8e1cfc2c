"""pii: e-mail addresses, IP addresses and telephone numbers in the text, replaced by placeholders."""

from typing import TYPE_CHECKING

from tasks.lazily import names_of
from tasks.pii.config import PiiConfig

if TYPE_CHECKING:
    from tasks.pii.stage import STAGE

__all__ = ["STAGE", "PiiConfig"]
__getattr__ = names_of(f"{__name__}.stage", __all__)
