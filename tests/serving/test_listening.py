"""Listening sockets that a server is lent."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from flows.serving.listening import listen
from tests.serving.service import free_port

ANSWER = (
    "import socket, sys; given, _ = socket.socket(fileno=int(sys.argv[1])).accept(); "
    "given.sendall(given.recv(5).upper()); given.close()"
)


def test_a_connection_waits_for_the_next_server() -> None:
    port = free_port()
    (listening,) = listen("127.0.0.1", port)
    with listening, socket.create_connection(("127.0.0.1", port), 5) as waiting:
        waiting.sendall(b"hello")
        command = [sys.executable, "-c", ANSWER, str(listening.fileno())]
        subprocess.run(command, pass_fds=[listening.fileno()], check=True, timeout=60)
        assert waiting.recv(5) == b"HELLO"


def test_nothing_where_another_listens() -> None:
    port = free_port()
    with ExitStack() as stack:
        for found in listen("localhost", port):
            stack.enter_context(found)
        assert listen("127.0.0.1", port) == []
        assert listen("localhost", port) == []
    assert [found.close() for found in listen("127.0.0.1", port)] == [None]


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_host_of_another_machine(host: str) -> None:
    with pytest.raises(OSError):
        listen(host, free_port())


def test_no_host_is_every_address() -> None:
    port = free_port()
    with ExitStack() as stack:
        found = [stack.enter_context(listening) for listening in listen("", port)]
        assert "0.0.0.0" in {listening.getsockname()[0] for listening in found}
        socket.create_connection(("127.0.0.1", port), 5).close()
