"""A new SQLite database for Prefect's server: a copy of one that was made before, by the same version of Prefect.

Prefect makes an empty database in more than a hundred migrations. That takes 11 seconds here, and what comes out is the
same each time: tables without a row but the revision's. So it is made once a machine, kept in the user's cache folder,
and copied to where a server begins. A copy appears whole or not at all; a server that is killed in the middle of its
migrations would leave a part. The server still looks for migrations as it starts, and does them on its own where
nothing can be kept.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, suppress
from pathlib import Path

PRIVATE = 0o600
ROOT = Path(__file__).resolve().parent.parent.parent


def prepare_database() -> None:
    """Put a migrated database where this process's server will look for its own, if there is none.

    Called in the server's process, before it starts. Does nothing for Postgres, and nothing where the cache or the
    database's folder refuses: then the server migrates as always.
    """
    database = _file()
    if database is None or database.exists() or Path(f"{database}-wal").exists():
        return
    with suppress(OSError, sqlite3.Error, subprocess.CalledProcessError):
        migrated = _cache() / f"prefect-{_version()}.db"
        if not _whole(migrated):
            _make(migrated)
        _put(migrated, database)


def _file() -> Path | None:
    """The SQLite file of this process's settings; None for another database, or one whose owner migrates it himself."""
    from prefect.settings import get_current_settings
    from sqlalchemy.engine import make_url

    settings = get_current_settings().server.database
    if settings.connection_url is None or not settings.migrate_on_start:
        return None
    url = make_url(settings.connection_url.get_secret_value())
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith((":", "file:")):
        return None
    return Path(url.database)


def _version() -> str:
    import prefect

    return prefect.__version__


def _cache() -> Path:
    """The folder that the XDG base directory specification names for what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "crawl2chat"


def _whole(database: Path) -> bool:
    """Whether this is a database that its migrations have finished: one that was cut short would stop every server."""
    if not database.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            sound = connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
            return sound and bool(connection.execute("SELECT version_num FROM alembic_version").fetchone())
    except sqlite3.Error:
        return False


def _make(migrated: Path) -> None:
    """Let Prefect migrate a new database, and keep it as one file (it comes as a file and a write-ahead log).

    In a process of its own: Prefect holds on to the first database that a process has opened.
    """
    migrated.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=migrated.parent) as folder:
        begun, finished = Path(folder) / "begun.db", Path(folder) / "finished.db"
        environment = {**os.environ, "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{begun}"}
        command = [sys.executable, "-m", "flows.serving.new_database"]
        subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=True, cwd=ROOT)
        with closing(sqlite3.connect(begun)) as connection:
            connection.execute("VACUUM INTO ?", (str(finished),))
        finished.chmod(PRIVATE)
        if not _whole(finished):
            raise sqlite3.DatabaseError("the migrations have left no sound database")
        finished.replace(migrated)


def _put(migrated: Path, database: Path) -> None:
    """Copy without ever replacing: a second server may have begun with the same folder meanwhile."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=database.parent) as folder:
        copy = Path(folder) / database.name
        shutil.copyfile(migrated, copy)
        copy.chmod(PRIVATE)
        os.link(copy, database)  # fails where the file is there by now


def _migrate() -> None:
    """Migrate the database of this process's settings, as a starting server does."""
    from prefect.server.database import provide_database_interface

    asyncio.run(provide_database_interface().create_db())


if __name__ == "__main__":
    _migrate()
