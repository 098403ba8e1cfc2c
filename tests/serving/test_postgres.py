"""A service on a real Postgres: a throw-away cluster, a stage run, and the password nowhere."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.service import Up, free_port, poll

PASSWORD = "s3cr:t-of/Postgres"
ESCAPED = "s3cr%3At-of%2FPostgres"


def programs() -> Path | None:
    """The folder of Postgres's programs: on the path, or where Debian puts them."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).resolve().parent] if on_path else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in found if (folder / "pg_ctl").exists()), None)


pytestmark = [pytest.mark.slow, pytest.mark.skipif(programs() is None, reason="Postgres is not installed")]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URL of a database in a new cluster, which ends with the module."""
    bin_folder = programs()
    assert bin_folder is not None
    folder = Path(tempfile.mkdtemp(prefix="crawl2chat-postgres-"))
    secret = folder / "password"
    secret.write_text(PASSWORD)
    user: list[str] = []
    if os.getuid() == 0:  # Postgres refuses to run as root
        account = "postgres"
        user = ["setpriv", f"--reuid={account}", f"--regid={account}", "--clear-groups"]
        shutil.chown(folder, account, account)
        shutil.chown(secret, account, account)
    port = free_port()

    def run(*command: str) -> None:
        done = subprocess.run([*user, *command], capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr

    data = str(folder / "data")
    run(str(bin_folder / "initdb"), "-D", data, "-U", "operator", "-A", "scram-sha-256", f"--pwfile={secret}")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"
    run(str(bin_folder / "pg_ctl"), "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql://operator:{ESCAPED}@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*user, str(bin_folder / "pg_ctl"), "-D", data, "-m", "immediate", "stop"], cwd=folder)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_stage_runs_and_history_survives_a_restart(postgres: str, tmp_path: Path, small: Path) -> None:
    config = str(small / "pipeline.yaml")
    up = Up(tmp_path, [config], "--database", postgres)
    try:
        up.wait()
        run = up.start("small-ingest")
        assert up.until(run)[0] == "COMPLETED", up.state(run)
        assert up.signal(signal.SIGTERM) == 0
        assert not (up.home / "prefect.db").exists()
        again = Up(tmp_path, [config], environment={"PREFECT_SERVER_DATABASE_CONNECTION_URL": postgres})
        try:
            poll(lambda: again.said().count("Ctrl-C stops") == 2, 400, "up is ready again")
            assert again.state(run)[0] == "COMPLETED"
            assert "(0 written)" in again.said()
            assert again.signal(signal.SIGTERM) == 0
        finally:
            again.kill_all()
        for text in (up.said(), up.logs()):
            assert PASSWORD not in text and ESCAPED not in text
        assert "postgresql+asyncpg://operator:***@127.0.0.1:" in up.said()
        holders = [path for path in tmp_path.rglob("*") if path.is_file() and ESCAPED.encode() in path.read_bytes()]
        assert holders == []
    finally:
        up.kill_all()


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        (ESCAPED, "not-the-password", "password authentication failed"),
        ("/postgres", "/no_such", 'database "no_such" does not exist'),
    ],
)
def test_a_refusal_is_told_in_one_line_without_the_password(
    postgres: str, tmp_path: Path, small: Path, right: str, wrong: str, said: str
) -> None:
    up = Up(tmp_path, [str(small / "pipeline.yaml")], "--database", postgres.replace(right, wrong))
    try:
        assert up.process.wait(400) == 1
        (line,) = up.said().splitlines()
        assert line.startswith("failed: the database postgresql+asyncpg://") and said in line
        assert "not-the-password" not in line and ESCAPED not in line
        assert up.processes() == {}
    finally:
        up.kill_all()
