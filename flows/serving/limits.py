"""What may happen at once: one stage on the accelerator, one writer a stage. Prefect's global concurrency limits.

`crawl2chat up` creates the limits; without them, as in an embedded server, nothing is limited. A holder that is killed
gives its slots back after a minute and some seconds at most: Prefect takes no lease shorter than a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.concurrency.sync import concurrency

from flows.server import embedded
from tasks.stage import Stage

GPU = "gpu"
LEASE_SECONDS = 60.0


def writer(stage: str) -> str:
    """The name of the limit of a stage's writers."""
    return f"write-{stage}"


@contextmanager
def slots(stage: Stage) -> Iterator[None]:
    """Hold a stage's slots, all of them or none; waits for them as long as it takes."""
    if embedded():
        yield
        return
    names = [writer(stage.name), *([GPU] if stage.gpu else [])]
    with concurrency(names, strict=False, lease_duration=LEASE_SECONDS):
        yield
