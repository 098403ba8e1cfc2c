"""Heuristic rules of what a good page is: Gopher's, C4's and FineWeb's, measured in compiled code.

`judge_texts` measures texts and says which rule each fails first; rules and bounds come from the config alone.
"""

from typing import TYPE_CHECKING

from tasks.lazily import names_of
from tasks.quality.heuristics.config import HeuristicsConfig

if TYPE_CHECKING:
    from tasks.quality.heuristics.verdicts import Rule, Verdict, judge_texts, measure_texts, rules_of

__all__ = ["HeuristicsConfig", "Rule", "Verdict", "judge_texts", "measure_texts", "rules_of"]
__getattr__ = names_of(f"{__name__}.verdicts", __all__)
