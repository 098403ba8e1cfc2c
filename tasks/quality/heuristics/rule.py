"""What a rule is: a measure of a document, a bound, and on which side of it a document fails."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Measures = dict[str, Floats]

_FAILS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@dataclass(frozen=True)
class Rule:
    """A document fails if `measure` `side` `bound`, such as words < 50. A measure that is NaN fails no rule.

    Attributes:
        reason: the decision's reason, such as `gopher_min_words`.
        measure: the name of the measure, a column of what `measure_texts` gives.
    """

    reason: str
    measure: str
    side: Literal["<", "<=", ">", ">="]
    bound: float

    def fails(self, measures: Measures) -> NDArray[np.bool_]:
        """Which of N documents fail, shape (N,)."""
        return np.asarray(_FAILS[self.side](measures[self.measure], self.bound), dtype=np.bool_)


def chosen(*rules: tuple[str, str, Literal["<", "<=", ">", ">="], float | None]) -> list[Rule]:
    """The rules whose bound is not None."""
    return [Rule(reason, measure, side, float(bound)) for reason, measure, side, bound in rules if bound is not None]
