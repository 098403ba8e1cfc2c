"""What Ray must find in the environment before it is imported."""

from __future__ import annotations

import os
import secrets

# How long the parts of a Ray that is started here wait for one another, on a machine that has much else to do.
PATIENCE = {
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_gcs_rpc_server_connect_timeout_s": "60",
    "RAY_health_check_failure_threshold": "60",
    "RAY_worker_register_timeout_seconds": "300",
}


def prepare(local: bool) -> None:
    """No calls home. For a Ray that is started here also: every port on localhost (Ray has that switch for desktops,
    where firewalls ask), and a token of this process, so that no other user of the machine can hand it work."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if not local:
        return
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    for name, value in {**PATIENCE, "RAY_worker_niceness": "0"}.items():  # Ray's workers would give way to everything
        os.environ.setdefault(name, value)
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
