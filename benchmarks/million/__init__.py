"""A store of a million documents, for benchmarks and tests of the audit questions.

    python -m benchmarks.million FOLDER [--documents N]

Every artifact is committed by the contract (`tasks.execution.execute`) and has the tables, decisions, spans and
`metrics.reads` of the real stage of its name. The texts are invented words, the models are some random numbers: what
the audit reads is as in a real store, what it does not read is as small as it can be.
"""

from .build import build

__all__ = ["build"]
