"""Starts a training group, listens to it, and never leaves it behind.

The group is a session of its own. It ends with its launcher: in order on return, error, cancel and SIGTERM, and by a
pipe that breaks when the launcher is killed outright (`worker.watch_parent`).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from artifacts.errors import RunError, UserError
from tasks.stage import StageConfig, StageContext, outside_recipe
from tasks.training import worker

GRACE = 5.0  # seconds between SIGTERM and SIGKILL
CHECKOUT = Path(__file__).resolve().parents[2]


class LauncherConfig(StageConfig):
    """How training processes are started. Nothing here is part of a recipe; threads are fixed for equal bits."""

    starter: Literal["spawn", "torchrun", "none"] = outside_recipe(
        "spawn",
        title="Starter",
        description="spawn: a process a rank on this machine; torchrun: the same by torch.distributed.run; "
        "none: one rank in the calling process (notebooks, debuggers), which then has no protection from it",
    )
    processes: int = outside_recipe(1, ge=1, title="Processes", description="Ranks on this machine, one a GPU")
    threads: int = outside_recipe(
        2, ge=1, title="Threads", description="CPU threads a rank; equal bits need equal threads"
    )
    device: Literal["auto", "cpu", "cuda"] = outside_recipe("auto", title="Device", description="auto: GPUs if any")
    deepspeed: str = outside_recipe(
        "configs/deepspeed/zero0.json", title="DeepSpeed config", description="JSON file; sets the ZeRO stage"
    )
    timeout: float = outside_recipe(0.0, ge=0.0, title="Time-out", description="Seconds; 0 for none")


def launch(ctx: StageContext, entry: str, job: dict[str, Any], launcher: LauncherConfig) -> dict[str, Any]:
    """Run `entry` ("package.module:function") with `job` on a group of workers; returns what rank 0 returned.

    The function has the signature `main(job, report) -> dict` and runs on every rank; job and result are JSON values.
    It finds `job["deepspeed"]` (path of the DeepSpeed config) and `job["work"]` (the folder for checkpoints) added.

    Raises:
        UserError: a worker raised one.
        RunError: a worker failed or was killed; names its last error and its log.
    """
    job = {**job, "deepspeed": launcher.deepspeed, "work": str(ctx.work)}
    environment = _environment(launcher)
    if launcher.starter == "none":
        if launcher.processes != 1:
            raise UserError("launcher.starter 'none' runs one process: set launcher.processes to 1")
        os.environ.update(environment)
        result: dict[str, Any] = json.loads(json.dumps(worker.resolve(entry)(job, ctx.progress)))
        return result
    ctx.work.mkdir(parents=True, exist_ok=True)
    job_file = ctx.work / "job.json"
    job_file.write_text(json.dumps(job, indent=1))
    result_file = Path(f"{job_file}.result")
    result_file.unlink(missing_ok=True)
    with _Group(ctx, entry, job_file, launcher, environment) as group:
        group.listen(launcher.timeout)
    found: dict[str, Any] = json.loads(result_file.read_text())
    return found


def _environment(launcher: LauncherConfig) -> dict[str, str]:
    threads = str(launcher.threads)
    return {
        worker.DEVICE: launcher.device,
        worker.THREADS: threads,
        "OMP_NUM_THREADS": threads,
        # Waiting threads sleep and do not spin: with anything else running on the cores, sampling was 7 times faster.
        "OMP_WAIT_POLICY": "passive",
        "MKL_NUM_THREADS": threads,
        # A team of another size sums in another order: no library may choose fewer threads on its own.
        "OMP_DYNAMIC": "false",
        "MKL_DYNAMIC": "false",
        # glibc gives every large buffer back to the system and faults it in again a step later: a fifth of a small
        # model's training time. It keeps up to a gigabyte instead.
        "MALLOC_MMAP_THRESHOLD_": "33554432",
        "MALLOC_TRIM_THRESHOLD_": str(2**30),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "PYTHONHASHSEED": "0",
    }


class _Group:
    """The processes of one launch, as a context: none of them outlives it."""

    def __init__(
        self, ctx: StageContext, entry: str, job_file: Path, launcher: LauncherConfig, environment: dict[str, str]
    ) -> None:
        self._ctx = ctx
        self._entry = entry
        self._job_file = job_file
        self._launcher = launcher
        self._environment = environment
        self._members: list[tuple[subprocess.Popen[bytes], Path]] = []
        self._logs: list[IO[bytes]] = []
        self._errors: list[dict[str, Any]] = []
        self._fifo = -1

    def __enter__(self) -> _Group:
        # Not in the work folder: not every file system has pipes.
        self._folder = Path(tempfile.mkdtemp(prefix="crawl2chat-"))
        fifo = self._folder / "parent"
        os.mkfifo(fifo)
        # Read and write: opening needs no partner, and both ends vanish with this process.
        self._fifo = os.open(fifo, os.O_RDWR | os.O_CLOEXEC)
        shared = {
            **os.environ,
            **self._environment,
            worker.PARENT_FIFO: str(fifo),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")])),
        }
        try:
            for rank, command, own in self._commands():
                log = self._ctx.work / f"worker-{rank}.log"
                stream = log.open("wb")
                self._logs.append(stream)
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=stream,
                    env={**shared, **own},
                    start_new_session=True,
                )
                self._members.append((process, log))
        except BaseException:
            self.close()
            raise
        return self

    def _commands(self) -> Iterator[tuple[int, list[str], dict[str, str]]]:
        target = ["-m", "tasks.training.worker", self._entry, str(self._job_file)]
        count = self._launcher.processes
        if self._launcher.starter == "torchrun":
            options = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
            yield 0, [sys.executable, *options, *target], {}
            return
        for rank in range(count):
            yield (
                rank,
                [sys.executable, *target],
                {
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "WORLD_SIZE": str(count),
                    worker.RENDEZVOUS: str(self._folder / "rendezvous"),
                    "CRAWL2CHAT_PARENT_PID": str(os.getpid()),
                },
            )

    def listen(self, timeout: float) -> None:
        """Forward progress until all members have ended well. Raises as `launch`."""
        deadline = time.monotonic() + timeout if timeout else None
        with selectors.DefaultSelector() as selector:
            buffers: dict[int, bytes] = {}
            for process, _ in self._members:
                assert process.stdout is not None
                selector.register(process.stdout, selectors.EVENT_READ)
                buffers[process.stdout.fileno()] = b""
            while selector.get_map():
                if deadline is not None and time.monotonic() > deadline:
                    raise RunError(f"{self._ctx.stage.name}: not done after {timeout:g} seconds (launcher.timeout)")
                for key, _ in selector.select(timeout=1.0):
                    chunk = os.read(key.fd, 65_536)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    *lines, buffers[key.fd] = (buffers[key.fd] + chunk).split(b"\n")
                    for line in lines:
                        self._hear(line)
                self._raise_if_failed()
        for process, _ in self._members:
            process.wait()
        self._raise_if_failed()

    def _hear(self, line: bytes) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            return  # not the protocol: torchrun's own words
        if isinstance(said, dict) and "progress" in said:
            self._ctx.progress(*said["progress"])
        elif isinstance(said, dict) and "error" in said:
            self._errors.append(said)

    def _raise_if_failed(self) -> None:
        for process, log in self._members:
            status = process.poll()
            if not status:
                continue
            stage = self._ctx.stage.name
            if self._errors:
                first = self._errors[0]
                if first["kind"] == "UserError":
                    raise UserError(first["error"])
                raise RunError(f"{stage}: {first['kind']}: {first['error']} (log: {log})")
            if status < 0:
                name = signal.Signals(-status).name
                hint = "; is the machine out of memory?" if name == "SIGKILL" else ""
                raise RunError(f"{stage}: a training process was ended by {name}{hint} (log: {log})")
            raise RunError(f"{stage}: {_last_line(log)} (log: {log})")

    def close(self) -> None:
        """End every member: SIGTERM to its group, and SIGKILL to what is left."""
        alive = [process for process, _ in self._members if process.poll() is None]
        for process in alive:
            _signal_group(process, signal.SIGTERM)
        end = time.monotonic() + GRACE
        while any(process.poll() is None for process in alive) and time.monotonic() < end:
            time.sleep(0.05)
        for process, _ in self._members:
            _signal_group(process, signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        for stream in self._logs:
            stream.close()
        if self._fifo >= 0:
            os.close(self._fifo)
            self._fifo = -1
        shutil.rmtree(self._folder, ignore_errors=True)

    def __exit__(self, *_: object) -> None:
        self.close()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "a training process ended without a word"
