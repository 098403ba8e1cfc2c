"""Requests that met a locked database are made again by the server itself.

Prefect's API reads before it writes within one transaction. Where another one has committed in between, SQLite refuses
the write at once, however long it is told to wait for locks, and the API answers 503: of 8 runs created at the same
moment 7 were refused (3.8.8). Prefect's Python client asks again; a browser shows "Unknown error".
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

from flows.serving.quiet import Application, Message, Receive, Send

BUSY = 503  # what the API answers where the same request may succeed later; nothing of it was committed
ATTEMPTS = 24
PATIENCE = 60.0  # seconds after which no attempt follows: each may itself have waited a minute for a lock
LONGEST_PAUSE = 1.0  # seconds; the first pause is at most a twentieth of it, each later one at most twice as long
LARGEST_BODY = 8 * 2**20  # bytes; larger requests are made once
CREATION = "/create_flow_run"
CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def patient(app: Application) -> Application:
    """The application, which makes a request that changes something again as long as the answer to it is 503.

    Runs are created one after the other from the first attempt on: that is what a person waits for.
    """
    creating = asyncio.Lock()

    async def served(scope: Message, receive: Receive, send: Send) -> None:
        async with creating if str(scope.get("path")).endswith(CREATION) else nullcontext():
            await attempted(scope, receive, send)

    async def attempted(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in CHANGES:
            await app(scope, receive, send)
            return
        body = await _read(receive)
        attempts = ATTEMPTS if sum(len(part.get("body", b"")) for part in body) <= LARGEST_BODY else 1
        began = time.monotonic()
        for attempt in range(1, attempts + 1):
            answer = _Answer(send, partial(_is_last, attempt, attempts, began))
            try:
                # A copy: what an application writes into the scope is of one attempt.
                await app(dict(scope), _again(body, receive), answer)
            except Exception:
                if not answer.withheld:  # the API raises behind its answer, too
                    raise
            if not answer.withheld:
                return
            await asyncio.sleep(random.uniform(0, min(LONGEST_PAUSE, LONGEST_PAUSE / 20 * 2 ** (attempt - 1))))

    return served


def _is_last(attempt: int, attempts: int, began: float) -> bool:
    return attempt == attempts or time.monotonic() - began >= PATIENCE


class _Answer:
    """Passes an answer on, unless it is 503 and another attempt follows: when that is known, it is asked for."""

    def __init__(self, send: Send, is_last: Callable[[], bool]) -> None:
        self._send, self._is_last = send, is_last
        self.withheld = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == BUSY and not self._is_last():
            self.withheld = True
        if not self.withheld:
            await self._send(message)


async def _read(receive: Receive) -> list[Message]:
    """The messages of a request's body, up to its end or to the client's leaving."""
    found = [await receive()]
    while found[-1]["type"] == "http.request" and found[-1].get("more_body"):
        found.append(await receive())
    return found


def _again(body: list[Message], receive: Receive) -> Receive:
    """Messages from the start of the body, then whatever comes."""
    left = iter(body)

    async def next_message() -> Message:
        for message in left:
            return message
        return await receive()

    return next_message
