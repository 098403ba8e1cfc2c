"""Where the service keeps its state, and the environment of each of its processes."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from artifacts.errors import UserError
from flows.server import HEARTBEAT_SECONDS, QUIET

PORT = 4200
LOCAL = "127.0.0.1"
DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
EVERYWHERE = ("", "0.0.0.0", "::")

# What a run needs to outlive a restart of the server: the waits double from 2 seconds, 7 of them make 4 minutes.
RUN_ENVIRONMENT = {
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
    "PREFECT_CLIENT_MAX_RETRIES": "7",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
}


@dataclass(frozen=True)
class Settings:
    """One service.

    Attributes:
        home: folder of the database, logs and the lock.
        database: SQLAlchemy URL with an asynchronous driver; may hold a password, so it is never printed.
    """

    home: Path
    host: str
    port: int
    database: str

    @property
    def api(self) -> str:
        """The API's address for processes of this machine."""
        return f"{self.ui}/api"

    @property
    def ui(self) -> str:
        """The address that a browser opens."""
        host = LOCAL if self.host in EVERYWHERE else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    def server_environment(self) -> dict[str, str]:
        """The server's environment. It alone knows the database."""
        origins = [self.ui, f"http://localhost:{self.port}"]
        own = self.ui
        if self.host in EVERYWHERE:  # browsers of other machines call the API by this machine's name
            own = f"http://{socket.gethostname()}:{self.port}"
            origins.append(own)
        patience = {
            # SQLite waits a minute for a lock by itself; asked to give up sooner, the server answers 503.
            "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
            "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
        }
        return {
            **(patience if self.database.startswith("sqlite") else {}),
            **_without(os.environ, "PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE"),
            **QUIET,
            "PREFECT_HOME": str(self.home),
            DATABASE: self.database,
            "PREFECT_SERVER_API_HOST": self.host,
            "PREFECT_SERVER_API_PORT": str(self.port),
            "PREFECT_SERVER_UI_ENABLED": "true",
            "PREFECT_SERVER_UI_API_URL": f"{own}/api",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            # Any page of the web may otherwise call a server on localhost from its reader's browser.
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins),
            # Kept in memory, the leases of a killed server would hold their slots for ever.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
            "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "60",
            "PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS": "5",
        }

    def worker_environment(self) -> dict[str, str]:
        """The worker's environment, and through it that of the runs."""
        return {
            **_without(os.environ, DATABASE, "PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_PROFILE"),
            **QUIET,
            **RUN_ENVIRONMENT,
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": self.api,
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }

    def said(self, text: str) -> str:
        """Text without the database's password."""
        password = _password(self.database)
        return text.replace(password, "***") if password else text

    @property
    def database_name(self) -> str:
        """The database as it may be printed."""
        return redacted(self.database)


def settings_of(host: str | None, port: int | None, database: str | None) -> Settings:
    """The settings of a service, from options and environment.

    Raises:
        UserError: naming the option that is wrong.
    """
    home = Path(os.environ.get("PREFECT_HOME") or "~/.crawl2chat").expanduser().absolute()
    given = database or os.environ.get(DATABASE) or os.environ.get("PREFECT_API_DATABASE_CONNECTION_URL")
    if port is not None and not 1 <= port <= 65_535:
        raise UserError(f"--port {port}: a port is a number from 1 to 65535")
    return Settings(home, host or LOCAL, port or PORT, _database(given, home))


def _database(given: str | None, home: Path) -> str:
    if not given:
        return f"sqlite+aiosqlite:///{home / 'prefect.db'}"
    url = re.sub(r"^postgres(ql)?://", "postgresql+asyncpg://", given)
    if not url.startswith(("postgresql+asyncpg://", "sqlite+aiosqlite:///")):
        kind = given.partition(":")[0] if "://" in given else "no URL"
        raise UserError(f"--database ({kind}): write it as postgresql+asyncpg://… or sqlite+aiosqlite:///FILE")
    return url


_USERINFO = re.compile(r"(?<=://)([^/@:]*):([^@]*)@")


def redacted(url: str) -> str:
    """A URL with its password replaced: `postgresql+asyncpg://user:***@host/name`."""
    return re.sub(r"(?i)(password=)[^&]*", r"\1***", _USERINFO.sub(r"\1:***@", url))


def _password(url: str) -> str:
    found = _USERINFO.search(url)
    return found[2] if found else ""


def _without(environment: os._Environ[str], *names: str) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in names}
