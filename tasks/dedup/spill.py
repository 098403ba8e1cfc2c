"""Arrays too large for memory: appended to a file while shards come in, then mapped."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Spill:
    """A file of equal rows. Rows come in by `append`; `array` maps what was written."""

    def __init__(self, path: Path, dtype: Any, width: int = 1) -> None:
        self.rows = 0
        self._path, self._dtype, self._width = path, np.dtype(dtype), width
        self._file = path.open("wb")

    def append(self, values: NDArray[Any]) -> None:
        """Append an array of rows (one- or two-dimensional)."""
        data = np.ascontiguousarray(values, dtype=self._dtype)
        self.rows += data.size // self._width
        self._file.write(data.data)

    def array(self) -> NDArray[Any]:
        """All rows, (rows, width), or one-dimensional for a width of 1. Pages are read when touched."""
        self._file.flush()
        shape = (self.rows,) if self._width == 1 else (self.rows, self._width)
        if self.rows == 0:
            return np.empty(shape, dtype=self._dtype)
        return np.asarray(np.memmap(self._path, dtype=self._dtype, mode="r", shape=shape))

    def __enter__(self) -> Spill:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)
