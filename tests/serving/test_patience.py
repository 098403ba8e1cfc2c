"""A request that met a locked database is made again by the server: a browser does not ask twice."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from flows.serving import patience
from flows.serving.quiet import Message, Receive, Send
from tests.serving.service import Up


class Busy:
    """An application that answers 503 so many times and raises behind it, as Prefect's does, then 201 with the body."""

    def __init__(self, times: int) -> None:
        self.left, self.asked = times, 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.asked += 1
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        busy = self.left > 0
        self.left -= 1
        await send({"type": "http.response.start", "status": 503 if busy else 201, "headers": []})
        await send({"type": "http.response.body", "body": b"" if busy else body})
        if busy:
            raise RuntimeError("database is locked")


def answer(app: Busy, method: str, body: bytes = b"") -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(patience.patient(app), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.request(method, "/deployments/1/create_flow_run", content=body)

    return asyncio.run(asked())


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.0)


def test_a_change_is_made_again_with_its_whole_body() -> None:
    app = Busy(3)
    body = bytes(range(256)) * 1_000
    found = answer(app, "POST", body)
    assert (found.status_code, found.content, app.asked) == (201, body, 4)


def test_a_database_that_stays_locked_is_said_in_the_end() -> None:
    app = Busy(10_000)
    assert answer(app, "PATCH", b"x").status_code == 503
    assert app.asked == patience.ATTEMPTS


def test_patience_ends_after_a_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.0)
    app = Busy(10_000)
    assert answer(app, "POST", b"x").status_code == 503
    assert app.asked == 1


def test_reading_and_large_requests_are_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Busy(1)
    assert answer(app, "GET").status_code == 503 and app.asked == 1
    monkeypatch.setattr(patience, "LARGEST_BODY", 10)
    app = Busy(1)
    assert answer(app, "POST", b"eleven byte").status_code == 503 and app.asked == 1


@pytest.mark.slow
def test_runs_created_at_the_same_moment_are_all_created(tmp_path: Path, small: Path) -> None:
    up = Up(tmp_path, [str(small / "pipeline.yaml")], "--no-worker")
    try:
        place = f"deployments/{up.wait().deployments()['small-ingest']['id']}/create_flow_run"
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: up.client.post(place, json={}, timeout=120), range(32)))
        assert [found.status_code for found in answers] == [201] * 32
        assert len({found.json()["id"] for found in answers}) == 32
    finally:
        up.kill_all()
