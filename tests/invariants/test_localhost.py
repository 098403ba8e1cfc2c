"""What listens here listens on localhost, unless told otherwise."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from flows.serving.settings import settings_of
from tasks.crawl.process import serving

LOCAL = {"127.0.0.1", "::1"}


def listeners(port: int) -> set[str]:
    """The addresses on which any process listens on this port (Linux: /proc/net/tcp, addresses in host byte order)."""
    found = set()
    for name, family, width in (("tcp", socket.AF_INET, 4), ("tcp6", socket.AF_INET6, 16)):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            place, state = line.split()[1], line.split()[3]
            address, _, number = place.partition(":")
            if state == "0A" and int(number, 16) == port:
                words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, width * 2, 8)]
                found.add(socket.inet_ntop(family, b"".join(words)))
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc/net")
def test_the_documentation_server_listens_on_localhost() -> None:
    with serving("Thu, 01 Jan 2026 00:00:00 GMT", []) as port:
        assert listeners(port) == {"127.0.0.1"}
    with socket.socket() as everywhere:
        everywhere.bind(("", 0))
        everywhere.listen()
        assert listeners(everywhere.getsockname()[1]) == {"0.0.0.0"}


def test_the_service_is_told_localhost() -> None:
    settings = settings_of(None, None, None)
    assert settings.host in LOCAL and settings.server_environment()["PREFECT_SERVER_API_HOST"] in LOCAL
    assert settings_of("0.0.0.0", None, None).host == "0.0.0.0"
