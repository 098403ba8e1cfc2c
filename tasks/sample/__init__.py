"""sample: several responses of a model to each prompt, to be ranked."""

from typing import TYPE_CHECKING

from tasks.lazily import names_of
from tasks.sample.config import SampleConfig

if TYPE_CHECKING:
    from tasks.sample.stage import STAGE

__all__ = ["STAGE", "SampleConfig"]
__getattr__ = names_of(f"{__name__}.stage", __all__)
