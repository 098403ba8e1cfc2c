"""The UI's pages may talk to their own server only.

Prefect's V2 UI asks a web analytics service for its settings on every page, with PREFECT_SERVER_ANALYTICS_ENABLED=false
too (seen in 3.8.8). No setting of the server stops that, but the browser does where a page's policy says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def quiet(app: Application, api_url: str) -> Application:
    """The application, whose pages connect to nothing but where they came from and the API that the UI calls."""
    header = (b"content-security-policy", f"connect-src {' '.join(_origins(api_url))}".encode("ascii"))

    async def served(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), header]
            await send(message)

        await app(scope, receive, with_policy if scope["type"] == "http" else send)

    return served


def _origins(api_url: str) -> list[str]:
    """`'self'`, the API's origin, and the same for its WebSockets."""
    split = urlsplit(api_url)
    if not split.hostname:
        return ["'self'"]
    origin = split.netloc.rpartition("@")[2]
    return ["'self'", f"{split.scheme}://{origin}", f"{'wss' if split.scheme == 'https' else 'ws'}://{origin}"]
