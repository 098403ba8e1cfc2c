"""The entry point: every command, and the exit codes of what went wrong."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

import typer
from rich.markup import escape

from artifacts.errors import RunError, UserError, Waiting
from artifacts.redaction import redact_text
from flows.cli import (  # noqa: F401 (importing them adds their commands)
    browse,
    diff,
    export,
    gc,
    later,
    lineage,
    pages,
    pipelines,
    publish,
    takedown,
    up,
    verify,
)
from flows.cli.app import app, errors

UsageError: Any = typer.BadParameter.__base__  # typer carries a click of its own, and exports only some of its errors


@contextmanager
def _as_exit_code() -> Iterator[None]:
    """Turn what went wrong into one message and the exit code of the interface."""
    try:
        yield
    except UserError as error:
        errors.print(f"[bold red]error:[/] {_plain(error)}")
        sys.exit(2)
    except UsageError as error:
        if not error.format_message():  # no command at all: the help was printed
            sys.exit(2)
        where = error.ctx.command_path if error.ctx else "crawl2chat"
        said = escape(redact_text(error.format_message()))
        errors.print(f"[bold red]error:[/] {said} (see `{escape(where)} --help`)")
        sys.exit(2)
    except Waiting as error:
        errors.print(_plain(error))
        sys.exit(1)
    except RunError as error:
        errors.print(f"[bold red]failed:[/] {_plain(error)}")
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("interrupted; the same command goes on from here")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        errors.print(f"[bold red]failed:[/] {escape(redact_text(f'{where}{error.strerror or error}'))}")
        sys.exit(1)
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in REMOTE:
            raise
        errors.print(f"[bold red]failed:[/] the remote store or source: {_plain(error)}")
        sys.exit(1)


# Errors of these packages do not derive from OSError, and are about a server, a network or credentials.
REMOTE = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "adlfs", "azure", "paramiko")


def _plain(error: Exception) -> str:
    return escape(redact_text(str(error)) or type(error).__name__)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """SIGTERM ends as an interrupt does, so that drafts and child processes are cleared away."""
    raise KeyboardInterrupt


def _traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What Python prints of a fault of ours, without secrets."""
    sys.stderr.write(redact_text("".join(traceback.format_exception(kind, error, trace))))


def main(arguments: list[str] | None = None) -> None:
    """The entry point of the `crawl2chat` program."""
    sys.excepthook = _traceback
    signal.signal(signal.SIGTERM, _terminate)
    with _as_exit_code():
        code = app(args=arguments, standalone_mode=False)
        if code == 130:  # typer turns Ctrl-C into this code
            raise KeyboardInterrupt
        if isinstance(code, int) and code:
            sys.exit(code)
