"""The server process of the service: Prefect's API, its UI and its background services, in one process."""

from __future__ import annotations

import socket
import sys

from flows.serving.children import end_with_parent
from flows.serving.listening import BACKLOG

# Long enough for the runs of an ending service to report their last state.
LINGER = 8.0


def main(descriptors: list[int]) -> None:
    """Serve on these listening sockets (`flows.serving.listening`) until SIGTERM, or until `up` is gone."""
    end_with_parent(linger=LINGER, at_most=6.0)
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import PREFECT_UI_API_URL

    from flows.serving.new_database import prepare_database
    from flows.serving.patience import patient
    from flows.serving.quiet import quiet
    from flows.serving.sqlite_locks import wait_in_event_loop

    prepare_database()
    wait_in_event_loop()
    config = uvicorn.Config(
        patient(quiet(create_app(final=True), PREFECT_UI_API_URL.value() or "")),
        log_level="warning",
        backlog=BACKLOG,
        timeout_keep_alive=5,
        # Open pages of the UI hold their connections for ever.
        timeout_graceful_shutdown=3,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor) for descriptor in descriptors])


if __name__ == "__main__":
    main([int(descriptor) for descriptor in sys.argv[1:]])
