"""A package whose names are imported when they are asked for (PEP 562).

Whoever only checks a config (`crawl2chat takedown`, a form) needs the configs of all stages and the code of none, which
takes a second to import.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib import import_module
from typing import Any


def names_of(module: str, names: Collection[str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package: those of `names` that it has not itself are in this module."""

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module.rpartition('.')[0]!r} has no attribute {name!r}")
        return getattr(import_module(module), name)

    return find
