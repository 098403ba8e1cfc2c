"""The process that serves the standard library's documentation on 127.0.0.1. Started by path, never imported.

It runs without site-packages and in a fixed environment, so the pages hold nothing of the machine but its Python. The
first line on standard output is the port. It ends when standard input does: with the process that started it.

Arguments: one JSON object, `date` (the HTTP Date header, RFC 9110) and `skip` (module names; `name*` is a prefix, a `+`
before it makes an exception).
"""

from __future__ import annotations

import json
import os
import re
import sys
import sysconfig
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

# Where an object lies in memory, as reprs and (escaped again) signatures say it.
ADDRESS = re.compile(r"(?: |&nbsp;)(?:at(?: |&nbsp;)0x[0-9a-fA-F]+|handle(?: |&nbsp;)[0-9a-f]{6,})")
KEPT_ENVIRONMENT = ("HOME", "LANG", "PATH", "PYTHONHASHSEED", "TZ")


def is_skipped(module: str, skip: list[str]) -> bool:
    """Whether a module must not be imported: listed, under a listed prefix, or the main program of a package."""

    def matches(rule: str) -> bool:
        return module.startswith(rule[:-1]) if rule.endswith("*") else module == rule

    if module.rsplit(".", 1)[-1] == "__main__":
        return True
    allowed = any(matches(rule[1:]) for rule in skip if rule.startswith("+"))
    return not allowed and any(matches(rule) for rule in skip)


def robots(skip: list[str]) -> str:
    """robots.txt (RFC 9309): no searching, and none of the modules whose import does something."""
    lines = ["User-agent: *", "Disallow: /search", "Disallow: /get"]
    # Exceptions first: some readers take the first rule that fits, not the longest.
    for rule in sorted(skip, key=lambda rule: (not rule.startswith("+"), skip.index(rule))):
        name = rule.lstrip("+")
        verb = "Allow" if rule.startswith("+") else "Disallow"
        lines.append(f"{verb}: /{name[:-1] if name.endswith('*') else f'{name}.html'}")
    return "\n".join([*lines, ""])


def machine_paths() -> list[tuple[str, str]]:
    """Folders of this installation and what the pages show instead, longest first."""
    found = {sys.executable: "/usr/bin/python3", os.path.realpath(sys.executable): "/usr/bin/python3"}
    for name, shown in (("stdlib", "/usr/lib/python3"), ("platstdlib", "/usr/lib/python3")):
        found[sysconfig.get_path(name)] = found[os.path.realpath(sysconfig.get_path(name))] = shown
    for prefix in (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix):
        for folder in (prefix, os.path.realpath(prefix)):
            # Its parents too: pydoc cuts long reprs in the middle.
            while folder.count("/") > 1:
                found.setdefault(folder, "/usr")
                folder = os.path.dirname(folder)
    found[os.path.dirname(os.path.abspath(__file__))] = "/usr/bin"
    return sorted((pair for pair in found.items() if len(pair[0]) > 1), key=lambda pair: (-len(pair[0]), pair))


def prepare_pydoc() -> Any:
    """pydoc, saying nothing about this machine and importing each module once."""
    import platform
    import pydoc

    locate = pydoc.locate
    # Its server imports a module anew for each page, which gives classes that no longer know each other.
    pydoc.locate = lambda path, forceload=False: locate(path, False)
    platform.platform = lambda *args, **keywords: "any platform"
    # The link to a module's source file is a path of this machine.
    pydoc.HTMLDoc.filelink = lambda self, url, path: os.path.basename(path)  # type: ignore[method-assign]
    return pydoc


def make_handler(date: str, skip: list[str]) -> type[BaseHTTPRequestHandler]:
    pydoc = prepare_pydoc()
    paths = machine_paths()

    def page(path: str) -> tuple[int, str, str]:
        if path == "/robots.txt":
            return 200, "text/plain", robots(skip)
        if path.endswith(".css"):
            return 200, "text/css", pydoc._url_handler(path, "text/css")
        name = path[1:].removesuffix(".html")
        if path.startswith(("/search", "/get")) or is_skipped(name.partition("=")[2] or name, skip):
            return 403, "text/html", "<!DOCTYPE html><title>Forbidden</title><p>Not to be crawled.</p>"
        text = ADDRESS.sub("", pydoc._url_handler(path, "text/html"))
        for folder, shown in paths:
            text = text.replace(folder, shown)
        # pydoc answers 200 to everything; a module that cannot be imported is not there.
        return (404 if "<title>Pydoc: Error - " in text else 200), "text/html", text

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one piece: sent apart, each page waits 40 ms for a delayed acknowledgement.
        wbufsize = -1
        disable_nagle_algorithm = True
        server_version = "pydoc"
        sys_version = f"Python/{sys.version_info[0]}.{sys.version_info[1]}"

        def do_GET(self) -> None:
            try:
                status, kind, text = page(self.path)
            except Exception as error:
                status, kind, text = 500, "text/plain", f"{type(error).__name__}\n"
            body = text.encode("utf-8", "replace")
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=UTF-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return date or super().date_time_string(timestamp)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def silence() -> None:
    """Modules that print when imported print into nothing."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def end_with_parent() -> None:
    """Exit when standard input ends."""
    while os.read(0, 4096):
        pass
    os._exit(0)


def main() -> None:
    given = json.loads(sys.argv[1])
    sys.argv = sys.orig_argv = ["pydoc"]
    for name in [name for name in os.environ if name not in KEPT_ENVIRONMENT]:
        del os.environ[name]
    server = HTTPServer(("127.0.0.1", 0), make_handler(given["date"], given["skip"]))
    threading.Thread(target=end_with_parent, daemon=True).start()
    os.write(1, f"{server.server_address[1]}\n".encode())
    silence()
    server.serve_forever()


if __name__ == "__main__":
    main()
