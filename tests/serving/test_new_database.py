"""New databases of Prefect's server: copies of one that was migrated before, and what happens where that cannot be."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL as URL
from prefect.settings import PREFECT_SERVER_DATABASE_MIGRATE_ON_START as MIGRATE
from prefect.settings import temporary_settings

from flows.serving import new_database
from flows.serving.new_database import prepare_database

REVISION = "0123456789ab"


def revision(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        found: str = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    return found


def migrated(path: Path, revisions: tuple[str, ...] = (REVISION,)) -> Path:
    """What `_make` leaves, as far as it is looked at, with enough rows for several pages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.executemany("INSERT INTO alembic_version VALUES (?)", [(one,) for one in revisions])
        connection.execute("CREATE TABLE flow (name TEXT)")
        connection.executemany("INSERT INTO flow VALUES (?)", [("x" * 1_000,)] * 100)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that is copied, in a cache of the test's own; the test says whether there is one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "crawl2chat" / f"prefect-{new_database._version()}.db"


def test_a_new_home_begins_where_prefects_migrations_end(tmp_path: Path) -> None:
    import prefect.server.database
    from alembic.script import ScriptDirectory

    migrations = Path(prefect.server.database.__file__).parent / "_migrations"
    versions = ScriptDirectory(str(migrations), version_locations=[str(migrations / "versions" / "sqlite")])
    database = tmp_path / "home" / "prefect.db"
    with temporary_settings({URL: f"sqlite+aiosqlite:///{database}"}):
        prepare_database()
    assert revision(database) == versions.get_current_head()
    assert sorted(path.name for path in database.parent.iterdir()) == ["prefect.db"]
    assert database.stat().st_mode & 0o777 == 0o600


def test_a_database_that_is_there_is_left_alone(tmp_path: Path, cache: Path) -> None:
    migrated(cache)
    database = migrated(tmp_path / "prefect.db", ("older",))
    with temporary_settings({URL: f"sqlite+aiosqlite:///{database}"}):
        prepare_database()
    assert revision(database) == "older"


def test_a_log_without_its_database_is_left_to_prefect(tmp_path: Path, cache: Path) -> None:
    migrated(cache)
    (tmp_path / "prefect.db-wal").write_bytes(b"")
    with temporary_settings({URL: f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}"}):
        prepare_database()
    assert not (tmp_path / "prefect.db").exists()


def test_a_second_server_on_the_same_folder_does_not_replace_the_first_ones(tmp_path: Path, cache: Path) -> None:
    database = migrated(tmp_path / "home" / "prefect.db", ("first",))
    with pytest.raises(FileExistsError):
        new_database._put(migrated(cache), database)
    assert revision(database) == "first" and os.listdir(database.parent) == ["prefect.db"]


@pytest.mark.parametrize("damage", ["truncated", "empty", "zeroed", "no revision", "no database"])
def test_a_damaged_copy_is_made_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    migrated(cache, () if damage == "no revision" else (REVISION,))
    content = cache.read_bytes()
    if damage == "truncated":
        cache.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        cache.write_bytes(b"")
    elif damage == "zeroed":
        cache.write_bytes(content[:8_192] + bytes(len(content) - 8_192))
    elif damage == "no database":
        cache.write_bytes(b"not a database" * 100)

    def make(path: Path) -> None:
        path.unlink()
        migrated(path, ("anew",))

    monkeypatch.setattr(new_database, "_make", make)
    with temporary_settings({URL: f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}"}):
        prepare_database()
    assert revision(tmp_path / "prefect.db") == "anew"


def test_where_nothing_can_be_kept_prefect_migrates_as_always(tmp_path: Path, cache: Path) -> None:
    cache.parent.parent.mkdir()
    cache.parent.write_text("a file where the folder belongs")
    with temporary_settings({URL: f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}"}):
        prepare_database()
    assert not (tmp_path / "prefect.db").exists()


@pytest.mark.parametrize("url", ["postgresql+asyncpg://someone@localhost/prefect", "sqlite+aiosqlite:///:memory:"])
def test_other_databases_are_none_of_its_business(cache: Path, url: str) -> None:
    migrated(cache)
    with temporary_settings({URL: url}):
        assert new_database._file() is None


def test_an_owner_who_migrates_by_hand_is_heeded(tmp_path: Path, cache: Path) -> None:
    migrated(cache)
    with temporary_settings({URL: f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}", MIGRATE: False}):
        prepare_database()
    assert not (tmp_path / "prefect.db").exists()
