"""Shards on Ray: a local one for the run, or a cluster that is there already.

Ray reads its environment when it is imported: call `flows.runners.ray_environment.prepare` before this is.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from artifacts.errors import RunError, UserError
from flows.runners.calls import RETRIES, work
from flows.runners.sharing import Answer, Question, answer

# Results wait here until they are read, at most `AHEAD` and one a worker; Ray puts on disk what does not fit.
OBJECT_STORE_BYTES = 256 * 2**20
ANSWER_SECONDS = 120.0
STARTS = 3
CHECKOUT = Path(__file__).resolve().parent.parent.parent


class RayPool:
    """See `flows.runners.calls.Pool`.

    Args:
        workers: one shard each at a time; None: a worker a core of the machine or cluster.
        address: of a running cluster (`ray start --head`); None starts Ray here, on localhost alone.

    Raises:
        UserError: no cluster answers at the address.
    """

    def __init__(self, workers: int | None, address: str | None) -> None:
        self.closed = False
        self._folder: str | None = None
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        with _own_signals():
            if address is None:
                self._start(workers or os.cpu_count() or 1)
            else:
                _connect(address)
        self.workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        # A worker that dies takes the shard it works on with it: the shard is given to another. An exception is not
        # Ray's business: it is a result (flows.runners.calls).
        self._work = ray.remote(num_cpus=1, max_retries=RETRIES, retry_exceptions=False)(work)

    def _start(self, workers: int) -> None:
        # Ray gives its parts 30 seconds to find one another, which a machine that has much else to do may miss.
        for attempt in range(STARTS):
            # The paths of Ray's sockets begin with this folder's, and have 107 bytes at most.
            self._folder = tempfile.mkdtemp(prefix="c2c-ray-", dir="/tmp" if os.path.isdir("/tmp") else None)
            try:
                ray.init(
                    address="local",  # whatever RAY_ADDRESS says
                    num_cpus=workers,
                    num_gpus=0,
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    log_to_driver=False,
                    configure_logging=False,
                    _temp_dir=self._folder,
                )
                return
            except Exception as error:  # Ray raises nothing narrower
                self._shut_down()
                if attempt + 1 == STARTS:
                    raise RunError(f"Ray does not start on this machine: {_first_line(error)}") from error

    def submit(self, packed: bytes) -> Any:
        return self._work.remote(packed)

    def result(self, handle: Any) -> bytes:
        try:
            found: bytes = ray.get(handle)
        except ray.exceptions.RayError as error:
            raise RunError(
                f"Ray could not finish a shard, in {RETRIES + 1} attempts where its worker was killed "
                f"({type(error).__name__}: {_first_line(error)}). The same command goes on from here; fewer workers "
                "need less memory (--set workers=1)"
            ) from error
        return found

    def cancel(self, handles: Sequence[Any]) -> None:
        for handle in handles:
            with suppress(ray.exceptions.RayError, ValueError):
                ray.cancel(handle, force=True)

    def ask(self, question: Question) -> list[Answer]:
        """One answer of every machine of the cluster."""
        asked = ray.remote(num_cpus=0, max_retries=0)(answer)
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        pinned = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
        try:
            return list(
                ray.get([asked.options(scheduling_strategy=s).remote(question) for s in pinned], timeout=ANSWER_SECONDS)
            )
        except ray.exceptions.RayError as error:
            raise UserError(
                f"a machine of the Ray cluster cannot run crawl2chat ({_first_line(error)}): every machine needs the "
                f"same checkout ({CHECKOUT}), installed with the extra [ray]"
            ) from error

    def close(self) -> None:
        self.closed = True
        self._shut_down()

    def _shut_down(self) -> None:
        with suppress(Exception):  # of a cluster that is gone
            ray.shutdown()
        if self._folder:
            _kill(self._folder)
            shutil.rmtree(self._folder, ignore_errors=True)


def _connect(address: str) -> None:
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            configure_logging=False,
            runtime_env={"env_vars": {"PYTHONPATH": str(CHECKOUT), "RAY_USAGE_STATS_ENABLED": "0"}},
        )
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise UserError(f"runner_address {address}: no Ray cluster answers there ({_first_line(error)})") from error


def _kill(folder: str) -> None:
    """Ray leaves the processes of a start that failed to their fate; they have its folder on their command line."""
    for path in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        with suppress(OSError, ValueError):
            for child in [int(number) for number in path.read_text().split()]:
                if folder.encode() in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(child, signal.SIGKILL)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself; the run has its own way to end, and to say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
