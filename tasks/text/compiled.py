"""Numba, typed and late: functions that run as machine code, where one is called."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from threading import Lock
from types import FunctionType
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

_first = Lock()


def compiled(function: Function) -> Function:
    """The function compiled on first call (cached on disk, releasing the GIL).

    Numba notices a change of the function's own file only: keep what it calls in the same module. A part that is called
    for every character must not be handed arrays and loop over them: counting references to them then takes longer
    than the work (measured: five times as long).
    """
    return cast(Function, _Late(cast(FunctionType, function)))


class _Late:
    """Stands for a compiled function. Numba takes a second to import, and planning a run compiles nothing."""

    def __init__(self, function: FunctionType) -> None:
        update_wrapper(self, function)
        self._function = function
        self._compiled: Any = None

    def __call__(self, *arguments: Any) -> Any:
        if self._compiled is None:
            self._compile()
        return self._compiled(*arguments)

    def _compile(self) -> None:
        """Compile the function, and put it and all that it may call into its module: Numba can call only its own."""
        import numba

        with _first:
            names = self._function.__globals__
            for late in [self, *(value for value in names.values() if isinstance(value, _Late))]:
                if late._compiled is None:
                    late._compiled = numba.njit(cache=True, nogil=True)(late._function)
            names.update({name: value._compiled for name, value in names.items() if isinstance(value, _Late)})
