"""One process of a training group: `python -m tasks.training.worker module:function job.json`.

It sets the machine up (threads, device, deterministic algorithms, process group), calls the entry function, and speaks
JSON lines with the launcher on what was its standard output; whatever libraries print goes to the log.
It ends itself as soon as the launcher is gone, however that died.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import select
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Report = Callable[[int, "int | None", str], None]
Entry = Callable[[dict[str, Any], Report], dict[str, Any]]

PARENT_FIFO = "CRAWL2CHAT_PARENT_FIFO"
RENDEZVOUS = "CRAWL2CHAT_RENDEZVOUS"
DEVICE = "CRAWL2CHAT_DEVICE"
THREADS = "CRAWL2CHAT_THREADS"

_prepared = False


def current_device() -> Any:
    """The torch device of this process."""
    import torch

    wanted = os.environ.get(DEVICE, "auto")
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def prepare() -> None:
    """Make this process a member of a training group (of one, if nothing else was said). Later calls only set
    the number of threads.

    Deterministic algorithms throughout. On a CPU the number of threads decides the order of sums, so it is fixed.
    """
    global _prepared
    if _prepared:
        import torch

        torch.set_num_threads(int(os.environ.get(THREADS, "2")))
        return
    # cuBLAS is deterministic only with a fixed workspace, which must be set before CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1")):
        os.environ.setdefault(name, value)
    import torch
    import torch.distributed

    device = current_device()
    torch.set_num_threads(int(os.environ.get(THREADS, "2")))
    # Some CUDA kernels have no deterministic twin; the promise of equal bits is one about CPUs.
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.type == "cuda":
        torch.cuda.set_device(device)
    os.environ["DS_ACCELERATOR"] = device.type
    if not torch.distributed.is_initialized():
        _join_group(device.type)
    _import_deepspeed()
    _prepared = True


def _join_group(device: str) -> None:
    import torch.distributed

    if "lo" in {name for _, name in socket.if_nameindex()}:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the host's own name may not resolve
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if "MASTER_ADDR" in os.environ and RENDEZVOUS not in os.environ:
        method = "env://"  # torchrun's
    else:
        # A file cannot be taken by somebody else between choosing and opening, as a port can.
        path = os.environ.get(RENDEZVOUS) or str(Path(tempfile.mkdtemp(prefix="crawl2chat-")) / "rendezvous")
        method = f"file://{path}"
    backend = "nccl" if device == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, init_method=method, rank=rank, world_size=size)
    # DeepSpeed looks for these even where the group stands, and for MPI where it does not find them.
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29500")


def _import_deepspeed() -> None:
    # Only errors: DeepSpeed's and its accelerator's notices come on every start.
    os.environ.setdefault("DS_LOG_LEVEL", "error")
    import deepspeed

    # Its shared-memory all-reduce is compiled at first use, for which a machine needs a C++ compiler and 30 seconds.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_init_required=False, auto_mpi_discovery=False, verbose=False)


def resolve(entry: str) -> Entry:
    """The function named by `module:function`."""
    module, _, name = entry.partition(":")
    function: Entry = getattr(importlib.import_module(module), name)
    return function


def watch_parent(fifo: str, parent: int | None) -> None:
    """End this process (and its group) when the launcher is gone: end-of-file on the pipe that only it holds open."""

    def watch() -> None:
        # Opened without waiting for a writer: if there is none any more, the first read says so.
        descriptor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        poller = select.poll()
        poller.register(descriptor, select.POLLIN | select.POLLHUP)
        while True:
            events = poller.poll(1_000)
            # A process that the launcher forked may still hold the pipe; who our parent is cannot be inherited.
            if events or (parent is not None and os.getppid() != parent):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(os.getpgid(0), signal.SIGKILL)
                os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def main(arguments: list[str]) -> int:
    """Run one entry function; the exit status is 0 if it returned."""
    entry, job_file = arguments
    fifo = os.environ.get(PARENT_FIFO)
    if fifo:
        parent = os.environ.get("CRAWL2CHAT_PARENT_PID")
        try:
            watch_parent(fifo, int(parent) if parent else None)
        except OSError:
            return 1
    protocol = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # from here on a library's print is a line of the log
    rank = int(os.environ.get("RANK", "0"))

    def say(**fields: Any) -> None:
        protocol.write(json.dumps(fields) + "\n")

    def report(done: int, total: int | None, what: str) -> None:
        if rank == 0:
            say(progress=[done, total, what])

    try:
        job = json.loads(Path(job_file).read_text())
        random.seed(0)
        result = resolve(entry)(job, report)
        if rank == 0:
            partial = Path(f"{job_file}.result.partial")
            partial.write_text(json.dumps(result))
            os.replace(partial, f"{job_file}.result")
    except BaseException as error:
        traceback.print_exc()
        line = traceback.format_exception_only(error)[-1].strip()
        with contextlib.suppress(OSError):
            say(error=str(error) or line, kind=type(error).__name__, rank=rank)
        return 1
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of gloo and DeepSpeed may hang an orderly end; everything that matters is on disk.
    os._exit(status)
