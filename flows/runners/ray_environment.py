"""What Ray must find in the environment before it is imported."""

from __future__ import annotations

import os
import secrets


def prepare(local: bool) -> None:
    """No calls home. For a Ray that is started here also: every port on localhost (Ray has that switch for desktops,
    where firewalls ask), and a token of this process, so that no other user of the machine can hand it work."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if not local:
        return
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray would have its workers wait for everything else
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
