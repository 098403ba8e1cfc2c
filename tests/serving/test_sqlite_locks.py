"""Waiting for SQLite's write lock: with Prefect's own engine, and a forgotten cursor for the garbage collector."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LOCKED = """
import asyncio, gc, sys, time
import sqlalchemy as sa
from prefect.server.database.configurations import AioSqliteConfiguration
from flows.serving.sqlite_locks import wait_in_event_loop
if sys.argv[2] == "ours":
    wait_in_event_loop()

async def main():
    engine = await AioSqliteConfiguration(f"sqlite+aiosqlite:///{sys.argv[1]}").engine()
    async with engine.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
        await connection.exec_driver_sql("INSERT INTO t VALUES (1), (2)")
    holder, waiter = await engine.connect(), await engine.connect()
    if sys.argv[2] != "ours":
        await waiter.exec_driver_sql("PRAGMA busy_timeout = 3000")  # of Prefect's 60000
    raw = (await waiter.get_raw_connection()).driver_connection
    cursor = await raw.execute("SELECT n FROM t")
    cycle = [cursor]
    cycle.append(cycle)
    await holder.exec_driver_sql("BEGIN IMMEDIATE")
    await holder.exec_driver_sql("INSERT INTO t VALUES (3)")
    waiting = asyncio.ensure_future(waiter.exec_driver_sql("INSERT INTO t VALUES (4)"))
    await asyncio.sleep(0.5)
    del cursor, cycle
    gc.collect()  # as happens at any time
    await holder.exec_driver_sql("COMMIT")
    try:
        await waiting
        await waiter.exec_driver_sql("COMMIT") if raw.in_transaction else None
        print("written", (await holder.exec_driver_sql("SELECT count(*) FROM t")).scalar())
    except sa.exc.OperationalError as error:
        print("refused", error.orig)
    await waiter.close(), await holder.close(), await engine.dispose()

gc.disable()
asyncio.run(main())
"""


def waited(folder: Path, how: str) -> str:
    command = [sys.executable, "-c", LOCKED, str(folder / "prefect.db"), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_collected_cursor_does_not_stop_the_one_who_would_unlock(tmp_path: Path) -> None:
    assert waited(tmp_path, "ours") == "written 4"


def test_without_it_the_server_stands_still_until_the_waiter_gives_up(tmp_path: Path) -> None:
    """What this module is for. If this fails, Python or Prefect have mended it, and the module may go."""
    assert waited(tmp_path, "theirs") == "refused database is locked"
