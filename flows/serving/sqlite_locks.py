"""Waiting for SQLite's write lock in the event loop, not inside SQLite.

Prefect lets a connection wait for a minute inside SQLite, in a thread of its own. All that time SQLite holds the
connection's mutex. If the garbage collector meets a forgotten cursor of that connection meanwhile, on any thread, it
waits for the mutex and keeps the interpreter's lock; so nothing runs, not even what would give the write lock back, and
the server answers nobody until the minute is over. (Seen with Prefect 3.8.8 on Python 3.11 under load: 57 seconds for
one request after the other. Cursors are forgotten where a request is cancelled.)

So SQLite is told to give up soon, and the statement is made again after a pause that other coroutines can use.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_cursor
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool
from sqlalchemy.util import await_only

INSIDE = 100  # milliseconds that SQLite itself waits for a lock, where a statement is not made again: on commit
PATIENCE = 60.0  # seconds for which a statement is made again: as long as Prefect would wait
PAUSE = 0.05  # seconds at most between two attempts; drawn, so that those who wait do not move in step


def wait_in_event_loop() -> None:
    """From now on, every asynchronous SQLite engine of this process waits for locks in its event loop."""
    event.listen(Pool, "checkout", _give_up_soon)
    event.listen(Engine, "do_execute", _execute)
    event.listen(Engine, "do_execute_no_params", _execute_without)
    event.listen(Engine, "do_executemany", _execute_many)


def _give_up_soon(connection: Any, record: Any, _: Any) -> None:
    """Once a connection, and after Prefect has told it to wait for long."""
    cursor = connection.cursor()
    if isinstance(cursor, AsyncAdapt_aiosqlite_cursor) and not record.info.get("gives_up_soon"):
        cursor.execute(f"PRAGMA busy_timeout = {INSIDE}")
        record.info["gives_up_soon"] = True
    cursor.close()


def _execute(cursor: Any, statement: str, parameters: Any, _: Any) -> bool:
    return _made(cursor, lambda: cursor.execute(statement, parameters))


def _execute_without(cursor: Any, statement: str, _: Any) -> bool:
    return _made(cursor, lambda: cursor.execute(statement))


def _execute_many(cursor: Any, statement: str, parameters: Any, _: Any) -> bool:
    # Outside a transaction each row is committed by itself: those before a refusal would be written again.
    whole = isinstance(cursor, AsyncAdapt_aiosqlite_cursor) and cursor._connection.in_transaction
    return whole and _made(cursor, lambda: cursor.executemany(statement, parameters))


def _made(cursor: Any, attempt: Callable[[], Any]) -> bool:
    """Whether the statement was made here; other databases' are made by SQLAlchemy as always.

    A statement that is refused for a lock has done nothing. Refusals that waiting cannot change (the rows that were
    read are no longer the latest: SQLITE_BUSY_SNAPSHOT) are raised at once; `flows.serving.patience` is for those.
    """
    if not isinstance(cursor, AsyncAdapt_aiosqlite_cursor):
        return False
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            attempt()
            return True
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        await_only(asyncio.sleep(random.uniform(0, PAUSE)))
