"""The server process of the service: Prefect's API, its UI and its background services, in one process."""

from __future__ import annotations

import sys

from flows.serving.children import end_with_parent

# Long enough for the runs of an ending service to report their last state.
LINGER = 8.0


def main(host: str, port: int) -> None:
    """Serve until SIGTERM, or until `up` is gone."""
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
    uvicorn.run(
        patient(quiet(create_app(final=True), PREFECT_UI_API_URL.value() or "")),
        host=host,
        port=port,
        log_level="warning",
        timeout_keep_alive=5,
        # Open pages of the UI hold their connections for ever.
        timeout_graceful_shutdown=3,
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
