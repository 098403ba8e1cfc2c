"""label: rankings of answers, imported from people's preference files or given by a simulated annotator."""

from typing import TYPE_CHECKING

from tasks.label.config import LabelConfig
from tasks.lazily import names_of

if TYPE_CHECKING:
    from tasks.label.stage import STAGE

__all__ = ["STAGE", "LabelConfig"]
__getattr__ = names_of(f"{__name__}.stage", __all__)
