"""A database that cannot be used is told in one line, before anything is started. (A real one: `test_postgres.py`.)"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from artifacts.errors import RunError, UserError
from flows.serving import database
from flows.serving.database import require_reachable
from flows.serving.settings import settings_of
from tests.serving.service import environment_of, free_port

ADDRESS = "Start Postgres there, or give its right address (--database, or PREFECT_SERVER_DATABASE_CONNECTION_URL)"


def refusal(url: str) -> str:
    with pytest.raises(RunError) as caught:
        require_reachable(settings_of(None, None, url))
    return str(caught.value)


def test_nobody_listens_there() -> None:
    for host in ("127.0.0.1", "localhost"):
        place = f"{host}:{free_port()}/history"
        assert refusal(f"postgresql://operator:hunter2@{place}") == (
            f"the database postgresql+asyncpg://operator:***@{place} cannot be used: Connection refused. {ADDRESS}"
        )


def test_there_is_no_such_host() -> None:
    said = refusal("postgresql://operator:hunter2@no.such.host.invalid/history")
    assert "@no.such.host.invalid/history cannot be used: " in said and said.endswith(ADDRESS)
    assert "hunter2" not in said and "[Errno" not in said


def test_it_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        said = refusal(f"postgresql://operator:hunter2@127.0.0.1:{silent.getsockname()[1]}/history")
    assert said.endswith(f"/history cannot be used: no answer in 0.5 seconds. {ADDRESS}")


def test_what_is_no_url_is_not_repeated() -> None:
    with pytest.raises(UserError) as caught:
        require_reachable(settings_of(None, None, "postgresql://operator:hunter2@127.0.0.1:hunter2/history"))
    assert "--database" in str(caught.value) and "hunter2" not in str(caught.value)


def test_sqlite_is_not_asked(tmp_path: Path) -> None:
    require_reachable(settings_of(None, None, f"sqlite+aiosqlite:///{tmp_path}/prefect.db"))
    assert list(tmp_path.iterdir()) == []


def test_up_says_so_in_one_line_and_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text("ingest: {paths: [a.warc.gz]}\ndedup: {}\n")
    url = f"postgresql://operator:hunter2@127.0.0.1:{free_port()}/history"
    arguments = ["demo.yaml", "--port", str(free_port()), "--store", "store", "--database", url]
    command = [sys.executable, "-m", "flows.cli", "up", *arguments]
    environment = environment_of(tmp_path / "home")
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("failed: the database postgresql+asyncpg://") and line.endswith(ADDRESS)
    assert "Connection refused" in line and "hunter2" not in line
    assert not (tmp_path / "home" / "logs").exists()
