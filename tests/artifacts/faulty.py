"""A web server on this machine that fails as it is told, request by request, and remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    Attributes:
        status: answered instead of the file, with `headers`.
        stop: bytes of the body after which the line is closed.
        state: a wrong Content-Length (none: -1).
        body, etag: the file is another one from this request on.
        ignore_range: the whole is sent, whatever was asked for.
        ignore_if_range: a part is sent although the tag is another.
        shift: the part sent begins this many bytes off.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    stop: int | None = None
    state: int | None = None
    body: bytes | None = None
    etag: str | None = None
    ignore_range: bool = False
    ignore_if_range: bool = False
    shift: int = 0


@dataclass
class Server:
    """The files by path, the tag of all of them, the faults of the coming requests, and the requests so far."""

    files: dict[str, bytes]
    etag: str = '"one"'
    modified: str = ""
    faults: list[Fault] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("range") for _, headers in self.asked]

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@contextmanager
def serving(files: dict[str, bytes], **keywords: Any) -> Iterator[Server]:
    """A server until the end of the block."""
    state = Server(files, **keywords)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            state.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            _answer(self, state, state.faults.pop(0) if state.faults else Fault())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def _answer(handler: BaseHTTPRequestHandler, state: Server, fault: Fault) -> None:
    if fault.body is not None:
        state.files[handler.path] = fault.body
    if fault.etag is not None:
        state.etag = fault.etag
    body = state.files.get(handler.path)
    handler.close_connection = True
    if fault.status or body is None:
        handler.send_response(fault.status or 404)
        for name, value in {"Content-Length": "0", **fault.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        return
    start = 0
    wanted = handler.headers.get("Range")
    current = handler.headers.get("If-Range") in (state.etag or state.modified, None) or fault.ignore_if_range
    if wanted and current and not fault.ignore_range:
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(body)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206)
        start += fault.shift
        handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
    else:
        handler.send_response(200)
    for name, value in (("ETag", state.etag), ("Last-Modified", state.modified)):
        if value:
            handler.send_header(name, value)
    sent = body[start:]
    length = len(sent) if fault.state is None else fault.state
    if length >= 0:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.wfile.write(sent if fault.stop is None else sent[: fault.stop])
