"""The entry point: every command, and the exit codes of what went wrong."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

import typer
import typer.main

from artifacts.errors import RunError, UserError, Waiting
from artifacts.redaction import redact_text
from flows.cli.app import app, errors

# Command to the module that adds it. Importing all of them takes longer than many a command.
MODULES = {
    **dict.fromkeys(("run", "stage", "plan"), "pipelines"),
    **dict.fromkeys(("ls", "show", "report", "chat"), "browse"),
    **dict.fromkeys(("why", "trace"), "pages"),
    **{name: name for name in ("up", "verify", "takedown", "diff", "lineage", "publish", "export", "gc")},
    **dict.fromkeys(("size", "label"), "later"),
}
# Those that start work, which may take long and runs other people's code too; the others answer a question and end.
WORK = ("run", "stage", "up")
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
        said = _escape(redact_text(error.format_message()))
        errors.print(f"[bold red]error:[/] {said} (see `{_escape(where)} --help`)")
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
        errors.print(f"[bold red]failed:[/] {_escape(redact_text(f'{where}{error.strerror or error}'))}")
        sys.exit(1)
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in REMOTE:
            raise
        errors.print(f"[bold red]failed:[/] the remote store or source: {_plain(error)}")
        sys.exit(1)


# Errors of these packages do not derive from OSError, and are about a server, a network or credentials.
REMOTE = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "adlfs", "azure", "paramiko")


def _plain(error: Exception) -> str:
    return _escape(redact_text(str(error)) or type(error).__name__)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """SIGTERM ends as an interrupt does, so that drafts and child processes are cleared away."""
    raise KeyboardInterrupt


def _traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What Python prints of a fault of ours, without secrets."""
    import traceback

    sys.stderr.write(redact_text("".join(traceback.format_exception(kind, error, trace))))


def _add_commands(arguments: Sequence[str]) -> None:
    """Import the module of the command that is asked for; without one, or for one that is not there, all of them."""
    name = next((word for word in arguments if not word.startswith("-")), "")
    if name in MODULES and name not in WORK:
        # Half a tenth of a second each: pydantic looks for plugins in every installed package, and the collector goes
        # again and again through what an import leaves for good.
        os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
        gc.set_threshold(100_000)
    for module in [MODULES[name]] if name in MODULES else dict.fromkeys(MODULES.values()):
        importlib.import_module(f"flows.cli.{module}")
    if name in MODULES and name not in WORK and "duckdb" not in sys.modules:
        # Nor does the last collection, when the process ends (0.05 s). DuckDB's bindings would tell at the end of
        # whatever of theirs was not collected.
        gc.freeze()


def main(arguments: list[str] | None = None) -> None:
    """The entry point of the `crawl2chat` program."""
    sys.excepthook = _traceback
    signal.signal(signal.SIGTERM, _terminate)
    with _as_exit_code():
        _add_commands(sys.argv[1:] if arguments is None else arguments)
        # `app()` would put its own hook in the place of the one above, and make a lone command the whole program.
        code = typer.main.get_group(app)(args=arguments, standalone_mode=False)
        if code == 130:  # typer turns Ctrl-C into this code
            raise KeyboardInterrupt
        if isinstance(code, int) and code:
            sys.exit(code)
