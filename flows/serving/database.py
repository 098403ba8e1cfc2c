"""Asking the Postgres database before the server does: its own way of saying no is a traceback after half a minute."""

from __future__ import annotations

import asyncio
import os
import re

from artifacts.errors import RunError, UserError
from flows.serving.settings import DATABASE, Settings

PATIENCE = 10.0
# SQLSTATE to what to do. What else Postgres may object to is left to the server, whose settings may change the answer.
_REMEDIES = {
    "28P01": f"Give the right user and password (--database, or {DATABASE})",
    "28000": f"Give a user who may log in (--database, or {DATABASE})",
    "3D000": "Create it (createdb), or name another one",
}


def require_reachable(settings: Settings) -> None:
    """Try to connect once.

    Raises:
        RunError: it cannot be reached, or refuses this user; one line, without the password.
        UserError: what was given is no URL.
    """
    if not settings.database.startswith("postgresql"):
        return
    from sqlalchemy.exc import ArgumentError

    try:
        asyncio.run(asyncio.wait_for(_connect(settings.database), PATIENCE))
    except TimeoutError:
        problem = f"no answer in {PATIENCE:g} seconds", ""
    except OSError as error:
        problem = _strerror(error), ""
    except (ValueError, ArgumentError) as error:
        hint = "Special characters of a password are percent-encoded"
        raise UserError(f"--database (or {DATABASE}): not a URL of a database. {hint}") from error
    except Exception as error:  # of asyncpg or SQLAlchemy, whichever speaks first
        state = getattr(error, "sqlstate", None) or getattr(getattr(error, "orig", None), "sqlstate", None)
        if state not in _REMEDIES:
            return
        problem = str(error).partition("\n")[0], _REMEDIES[state]
    else:
        return
    said, remedy = problem
    remedy = remedy or f"Start Postgres there, or give its right address (--database, or {DATABASE})"
    raise RunError(settings.said(f"the database {settings.database_name} cannot be used: {said}. {remedy}"))


async def _connect(url: str) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect():
        pass
    await engine.dispose()


def _strerror(error: OSError) -> str:
    """`Connection refused` and the like; of several addresses that were tried, what the first one said."""
    number = re.search(r"\[Errno (\d+)\]", str(error))
    if error.errno is None and number is None:
        return str(error)
    if error.errno is not None and error.errno < 0:  # a host's name
        return error.strerror or str(error)
    return os.strerror(error.errno or int(number[1] if number else 0))
