"""A run's process ends when the worker that started it is gone: nobody else would end it, or see that it has."""

from __future__ import annotations

import os
import signal
import threading
import time

WORKER_PID = "CRAWL2CHAT_WORKER_PID"
GRACE = 10.0  # seconds from SIGTERM, which clears away drafts and child processes, to SIGKILL


def end_with_worker() -> None:
    """Watch the worker from a thread. Does nothing in a process that no worker has started."""
    if "PREFECT__FLOW_RUN_ID" not in os.environ:
        return
    worker = int(os.environ.get(WORKER_PID) or os.getppid())
    threading.Thread(target=_watch, args=(worker,), daemon=True, name="end-with-worker").start()


def _watch(worker: int) -> None:
    while os.getppid() == worker:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)
    # What SIGTERM starts may wait for a server that is gone too.
    time.sleep(GRACE)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)
