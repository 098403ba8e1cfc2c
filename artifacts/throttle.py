"""How fast this process may fetch, by host: requests and bytes a second."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from artifacts.errors import UserError


@dataclass(frozen=True)
class Limits:
    """What `CRAWL2CHAT_FETCH_*` says. Rates are per host and process; infinity is no limit."""

    tries: int = 5
    timeout: float = 60.0
    longest_wait: float = 300.0
    requests_per_second: float = math.inf
    bytes_per_second: float = math.inf

    @staticmethod
    def from_environment() -> Limits:
        """Raises `UserError` for a value that is no positive number; names the variable."""
        return Limits(
            tries=math.ceil(_number("CRAWL2CHAT_FETCH_TRIES", 5)),
            timeout=_number("CRAWL2CHAT_FETCH_TIMEOUT", 60),
            longest_wait=_number("CRAWL2CHAT_FETCH_LONGEST_WAIT", 300),
            requests_per_second=_number("CRAWL2CHAT_FETCH_REQUESTS_PER_SECOND", math.inf),
            bytes_per_second=_number("CRAWL2CHAT_FETCH_BYTES_PER_SECOND", math.inf),
        )


def _number(name: str, default: float) -> float:
    given = os.environ.get(name, "").strip()
    if not given:
        return default
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UserError(f"{name} is {given!r}; it must be a number above 0")
    return value


class Throttle:
    """Makes callers wait so that no host is asked, or sends, more than the limits allow.

    Each request, and each byte, takes a share of a second; the next may begin once all before it have had theirs. A
    pause earns nothing: after it, a host is asked no faster than before.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._free: dict[tuple[str, str], float] = {}

    def request(self, host: str, limits: Limits) -> None:
        """Wait until this host may be asked again."""
        self._spend("requests", host, 1 / limits.requests_per_second, before=True)

    def took(self, host: str, count: int, limits: Limits) -> None:
        """`count` bytes came: wait until they would have come at the limit's rate."""
        self._spend("bytes", host, count / limits.bytes_per_second, before=False)

    def _spend(self, kind: str, host: str, seconds: float, before: bool) -> None:
        if seconds <= 0:
            return
        now = self._clock()
        free = max(self._free.get((kind, host), now), now)
        self._free[kind, host] = free + seconds
        wait = (free if before else free + seconds) - now
        if wait > 0:
            self._sleep(wait)


THROTTLE = Throttle()
