"""The sockets that the service's server listens on: `up` holds them, and lends them to each server that it starts.

While no server serves them, between the end of one and the start of the next, connections wait in their queue and are
not refused. Prefect's client asks again after every error but one: a refusal, where it has not been connected before
(3.8.8). Each stage's wait for its turn is such a new client, so a run failed if it began a stage in those seconds.
"""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack

BACKLOG = 512  # connections that wait; the system may allow fewer


def listen(host: str, port: int) -> list[socket.socket]:
    """A listening socket for each address of the host (`localhost` has two, as a rule; the empty host means all).

    Empty where something else listens there, or where the port is not for this user.

    Raises:
        OSError: the host is none of this machine's.
    """
    found, unusable = [], OSError(errno.EADDRNOTAVAIL, "it has no address of this machine")
    addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as opened:
        for family, kind, protocol, _, address in addresses:
            try:
                listening = opened.enter_context(socket.socket(family, kind, protocol))
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listening.bind(address)
                listening.listen(BACKLOG)
            except OSError as error:
                if error.errno in (errno.EADDRINUSE, errno.EACCES):
                    return []
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                unusable = error  # `localhost` may be ::1 too where IPv6 is switched off
            else:
                found.append(listening)
        if not found:
            raise unusable
        opened.pop_all()
    return found
