"""What needs no server: addresses, databases, passwords, locks, ports."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from artifacts.errors import RunError, UserError
from flows.config import load_pipeline
from flows.serving.lock import Lock, Note
from flows.serving.service import by_name, find_running
from flows.serving.settings import DATABASE, redacted, settings_of
from tests.serving.service import environment_of, free_port

SECRET = "postgresql://operator:hun:ter%402@db.example/history"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    for name in (DATABASE, "PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def test_without_options_it_is_on_localhost_with_sqlite_at_home(home: Path) -> None:
    settings = settings_of(None, None, None)
    assert (settings.ui, settings.api) == ("http://127.0.0.1:4200", "http://127.0.0.1:4200/api")
    assert settings.database == f"sqlite+aiosqlite:///{home}/prefect.db"
    server = settings.server_environment()
    assert server["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    assert server["PREFECT_SERVER_UI_API_URL"] == "http://127.0.0.1:4200/api"
    assert server["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4200,http://localhost:4200"
    assert (server["PREFECT_SERVER_ANALYTICS_ENABLED"], server["DO_NOT_TRACK"]) == ("false", "1")


def test_other_hosts_and_ports() -> None:
    assert settings_of("::1", 5000, None).ui == "http://[::1]:5000"
    everywhere = settings_of("0.0.0.0", 5000, None)
    assert everywhere.api == "http://127.0.0.1:5000/api"
    assert everywhere.server_environment()["PREFECT_SERVER_UI_API_URL"] == f"http://{socket.gethostname()}:5000/api"
    with pytest.raises(UserError, match="--port 70000: a port is a number from 1 to 65535"):
        settings_of(None, 70_000, None)


def test_the_password_is_for_the_server_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(None, None, SECRET)
    assert settings.database == SECRET.replace("postgresql://", "postgresql+asyncpg://")
    assert settings.database_name == "postgresql+asyncpg://operator:***@db.example/history"
    assert settings.said("password authentication failed (hun:ter%402)") == "password authentication failed (***)"
    assert settings.server_environment()[DATABASE] == settings.database
    monkeypatch.setenv(DATABASE, SECRET)
    from_environment = settings_of(None, None, None)
    assert from_environment.database == settings.database
    assert "hun:ter" not in json.dumps(from_environment.worker_environment())
    assert redacted("postgresql+asyncpg://db.example/x?user=me&password=hunter2") == (
        "postgresql+asyncpg://db.example/x?user=me&password=***"
    )
    with pytest.raises(UserError, match=r"--database \(mysql\): write it as postgresql\+asyncpg://") as caught:
        settings_of(None, None, "mysql://operator:hunter2@db.example/history")
    assert "hunter2" not in str(caught.value)


def test_a_lock_is_free_when_its_holder_is_dead(home: Path) -> None:
    script = (
        "from pathlib import Path; import os, signal; from flows.serving.lock import Lock, Note\n"
        f"lock = Lock(Path({str(home)!r})); assert lock.mine\n"
        "lock.write(Note(os.getpid(), 'http://127.0.0.1:9', 'http://127.0.0.1:9/api', 's', ['c'], 't', True))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    lock = Lock(home)
    assert lock.mine
    assert lock.note is not None and lock.note.ui == "http://127.0.0.1:9"  # left by a service that did not end in order
    assert find_running(settings_of(None, None, None), lock, False) is None
    lock.release()
    after = Lock(home)
    assert after.mine and after.note is None
    after.release()


def test_a_home_that_cannot_be_one_is_named(home: Path) -> None:
    home.write_text("a file\n")
    with pytest.raises(UserError, match=f"PREFECT_HOME={home}: nothing can be kept there: File exists"):
        Lock(home)


def test_a_service_that_does_not_answer_is_named(home: Path) -> None:
    lock = Lock(home)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lock.write(Note(gone.pid, "http://127.0.0.1:9", "http://127.0.0.1:9/api", "s", ["c"], "t", True))
    second = Lock(home)
    assert not second.mine
    with pytest.raises(RunError, match=rf"holds it \(process {gone.pid}\) and its server does not answer"):
        find_running(settings_of(None, None, None), second, False)
    lock.release()


def run_up(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.cli", "up", *arguments]
    return subprocess.run(command, env=environment_of(home), capture_output=True, text=True, timeout=120)


def test_a_taken_port_is_told_before_anything_starts(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_up(home, "--port", str(port))
    assert done.returncode == 2
    assert f"error: --port {port}: another program listens there." in done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / "logs").exists()


def test_wrong_hosts_and_configs_are_told(home: Path, tmp_path: Path) -> None:
    done = run_up(home, "--host", "192.0.2.1", "--port", str(free_port()))
    assert done.returncode == 2 and "error: --host 192.0.2.1: " in done.stderr
    config = tmp_path / "a.yaml"
    config.write_text("name: same\ndedup: {}\n")
    (tmp_path / "b.yaml").write_text("name: same\ndedup: {}\n")
    done = run_up(home, str(config), str(tmp_path / "b.yaml"), "--port", str(free_port()))
    assert done.returncode == 2 and "are both called 'same'" in done.stderr
    config.write_text("automations: {train_on_new_moon: true}\ndedup: {}\n")
    done = run_up(home, str(config), "--port", str(free_port()))
    assert done.returncode == 2 and "automations.train_on_new_moon: no such field" in done.stderr
    assert os.listdir(home) in ([], ["up.lock"])


def test_a_store_that_no_run_could_write_is_told_before_anything_starts(home: Path) -> None:
    done = run_up(home, "--store", "/proc/no-store", "--port", str(free_port()))
    assert done.returncode == 2 and "error: --store /proc/no-store: cannot be written: " in done.stderr
    assert not (home / "logs").exists()


def test_a_pipeline_called_like_another_ones_stage_is_refused(tmp_path: Path, home: Path) -> None:
    for name, stage in (("demo", "dedup"), ("demo-dedup", "quality"), ("demo-quality", "dedup")):
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\ningest: {{paths: [a.warc.gz]}}\n{stage}: {{}}\n")
    arguments = ["demo.yaml", "demo-dedup.yaml", "--port", str(free_port()), "--store", "store"]
    command = [sys.executable, "-m", "flows.cli", "up", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment_of(home), timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert " ".join(done.stderr.split()) == (
        "error: demo-dedup.yaml is called 'demo-dedup', as the deployment of demo.yaml's stage dedup is: "
        "give one of the two configs another `name:`"
    )
    fine = [load_pipeline(str(tmp_path / f"{name}.yaml")) for name in ("demo", "demo-quality")]
    assert list(by_name(fine)) == ["demo", "demo-quality"]  # demo has no stage quality
