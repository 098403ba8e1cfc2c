"""A receiver of OpenLineage events, and the client's own classes as their schema."""

from __future__ import annotations

import enum
import inspect
import json
import threading
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attr
from openlineage.client import event_v2, facet_v2
from openlineage.client.serde import Serde

from artifacts.exchange import openlineage

# --- a receiver


@dataclass
class Receiver:
    """What was sent to a local HTTP server: (path, headers, event)."""

    url: str
    got: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for _, _, event in self.got]


@contextmanager
def receiver(status: int = 200) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.got.append((self.path, dict(self.headers), json.loads(body)))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Receiver(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


# --- the client's classes as a schema: an event is read back into them, and must come out the same


def facet_classes() -> dict[str, type]:
    """Schema URL to class, of every facet of the client and of our own two."""
    own = [openlineage.ArtifactRunFacet, openlineage.ProgressRunFacet]
    found: dict[str, type] = {}
    for name in facet_v2.__all__:
        module = getattr(facet_v2, name)
        for _, kind in inspect.getmembers(module, inspect.isclass) if inspect.ismodule(module) else ():
            if issubclass(kind, facet_v2.BaseFacet) and kind.__module__ == module.__name__:
                found[kind._get_schema()] = kind
    assert len(found) > 30
    return found | {kind.__name__: kind for kind in own}


FACETS = facet_classes()
OWN = {"crawl2chat_artifact": "ArtifactRunFacet", "crawl2chat_progress": "ProgressRunFacet"}


def revived(kind: Any, value: Any) -> Any:
    """A JSON value as an instance of a type of the client's. Unknown fields and wrong types are errors."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        kinds = [one for one in inner if one is not type(None)]
        return None if value is None else revived(kinds[0], value)
    if origin is list:
        assert isinstance(value, list)
        return [revived(inner[0], one) for one in value]
    if origin is dict:
        assert isinstance(value, dict)
        if inspect.isclass(inner[1]) and issubclass(inner[1], facet_v2.BaseFacet):
            return {name: facet(name, inner[1], one) for name, one in value.items()}
        return {name: revived(inner[1], one) for name, one in value.items()}
    if inspect.isclass(kind) and issubclass(kind, enum.Enum):
        return kind(value)
    if not attr.has(kind):
        if kind is not Any:
            assert isinstance(value, (int, float) if kind is float else kind), (kind, value)
        return value
    attr.resolve_types(kind)
    fields = {one.name: one for one in attr.fields(kind)}
    assert set(value) <= set(fields), (kind, set(value) - set(fields))
    given = {fields[name].alias: revived(fields[name].type, one) for name, one in value.items() if fields[name].init}
    made = kind(**given)
    assert all(getattr(made, name) == one for name, one in value.items() if not fields[name].init)
    return made


def facet(name: str, base: type, value: dict[str, Any]) -> Any:
    kind = FACETS[OWN.get(name) or value["_schemaURL"]]
    assert issubclass(kind, base), (name, kind, base)
    assert value["_producer"].startswith("pkg:generic/crawl2chat@") or name == "tags"
    return revived(kind, value)


def check(event: dict[str, Any]) -> None:
    """Raise if an event is not one of the client's, field for field."""
    assert Serde.to_dict(revived(event_v2.RunEvent, event)) == event


def of(events: list[dict[str, Any]], job: str) -> list[dict[str, Any]]:
    return [event for event in events if event["job"]["name"] == job]


def states(events: list[dict[str, Any]]) -> list[str]:
    return [event["eventType"] for event in events]
