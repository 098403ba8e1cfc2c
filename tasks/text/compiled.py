"""Numba, typed: functions that run as machine code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The function compiled on first call (cached on disk, releasing the GIL).

    Numba notices a change of the function's own file only: keep what it calls in the same module.
    """
    return cast(Function, numba.njit(cache=True, nogil=True)(function))
