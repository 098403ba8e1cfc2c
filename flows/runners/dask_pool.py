"""Shards on Dask: worker processes of a local scheduler for the run, or a cluster that is there already."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import dask
import distributed

from artifacts.errors import RunError, UserError
from flows.runners.calls import RETRIES, work
from flows.runners.sharing import Answer, Question, answer

CONNECT_SECONDS = 20
# Neither scheduler nor workers serve pages.
QUIET: dict[str, Any] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}


class DaskPool:
    """See `flows.runners.calls.Pool`.

    Args:
        workers: one shard each at a time; None: a worker a core of the machine or cluster.
        address: of a running scheduler (`dask scheduler`); None starts one here, on localhost alone and with TLS keys
            of this run, so that no other user of the machine can hand it work.

    Raises:
        UserError: no scheduler answers at the address.
    """

    def __init__(self, workers: int | None, address: str | None) -> None:
        self.closed = False
        self._folder: str | None = None
        self._cluster: Any = None
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        with dask.config.set({**QUIET, "distributed.scheduler.allowed-failures": RETRIES}):
            if address is None:
                self._start(workers or os.cpu_count() or 1)
            else:
                self._connect(address)
        threads = self._client.nthreads()
        self.workers = workers or max(1, sum(threads.values()))

    def _start(self, workers: int) -> None:
        self._folder = tempfile.mkdtemp(prefix="c2c-dask-")
        self._cluster = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address=None,
            security=True,
            silence_logs=logging.CRITICAL,
            local_directory=self._folder,
        )
        self._client = distributed.Client(self._cluster, set_as_default=False)

    def _connect(self, address: str) -> None:
        try:
            self._client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
            self._client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError, ValueError) as error:
            raise UserError(
                f"runner_address {address}: no Dask scheduler with workers answers there ({error})"
            ) from error

    def submit(self, packed: bytes) -> Any:
        return self._client.submit(work, packed, pure=False)

    def result(self, handle: Any) -> bytes:
        try:
            found: bytes = handle.result()
        except (distributed.KilledWorker, distributed.CancelledError) as error:
            raise RunError(
                f"Dask could not finish a shard, in {RETRIES + 1} attempts where its worker was killed "
                f"({type(error).__name__}). The same command goes on from here; fewer workers need less memory "
                "(--set workers=1)"
            ) from error
        return found

    def cancel(self, handles: Sequence[Any]) -> None:
        """Shards that wait are taken back. Those in work are ended with the local workers; a cluster finishes them."""
        with suppress(Exception):  # of a cluster that is gone
            self._client.cancel(list(handles), force=True)
        if self._cluster is not None:
            self.close()

    def ask(self, question: Question) -> list[Answer]:
        """One answer of every worker of the cluster."""
        try:
            return list(self._client.run(answer, question).values())
        except Exception as error:
            raise UserError(
                f"a worker of the Dask cluster cannot run crawl2chat ({error}): every machine needs the same checkout, "
                "installed with the extra [dask]"
            ) from error

    def close(self) -> None:
        self.closed = True
        with suppress(Exception):
            self._client.close()
        if self._cluster is not None:
            with suppress(Exception):
                self._cluster.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
