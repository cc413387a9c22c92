"""Fixtures of the tests of the doors."""

from __future__ import annotations

import asyncio
import functools
import logging

import pytest
from engineio_client import UPGRADE, WEBSOCKET, raw_request, said
from structlog.testing import capture_logs
from support import RawSocket


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch):
    """Who is silent, stalled or too late is found within a look, and nobody waits half a second.

    Nor does a daemon that ends, for the last poll of a client that does not poll by itself.
    """
    monkeypatch.setattr("daemon.web.gateway.SWEEP", 0.05)
    monkeypatch.setattr("daemon.web.socketio.SWEEP", 0.05)
    monkeypatch.setattr("daemon.web.engineio.POLL_TIMEOUT", 0.1)


@pytest.fixture
def impatient(monkeypatch):
    """Goodbyes that nobody answers are given up soon."""
    for module in ("connection", "engineio", "engineio_session"):
        monkeypatch.setattr(f"daemon.web.{module}.CLOSE_TIMEOUT", 0.3)


@pytest.fixture
async def raw_to():
    """Make raw sockets to a daemon that end with the test; with `request`, of plain bytes."""
    made = []

    async def connect(running, *, request=None, **options):
        if request is None:
            made.append(await RawSocket.connect(running, **options))
        else:
            made.append(await RawSocket.open(running, request, **options))
        return made[-1]

    yield connect
    for each in made:
        each.close()


@pytest.fixture
def raw(running, raw_to):
    """Make raw WebSockets to the daemon with default settings."""
    return functools.partial(raw_to, running)


@pytest.fixture
def websocket(raw_to):
    """Open WebSockets of Engine.IO."""

    async def opened(running, query=WEBSOCKET, *, token=False, **options):
        request = raw_request(running, query, more=UPGRADE)
        ws = await raw_to(running, request=request, **options)
        async with asyncio.timeout(30):
            assert b" 101 " in await ws.reader.readuntil(b"\r\n\r\n")
            if "sid" not in query:
                assert (await said(ws))[:1] == "0"
            if token:
                ws.send(f'40{{"token":"{running.token()}"}}')
                assert [(await said(ws))[:2] for _ in range(2)] == ["40", "42"]
        return ws

    return opened


@pytest.fixture
def quiet(caplog):
    """Whatever clients do is no fault of the daemon: no traceback, no line that wakes anyone."""
    with capture_logs() as lines:
        yield
    assert [line for line in lines if line["log_level"] not in ("debug", "info")] == []
    assert [each.getMessage() for each in caplog.records if each.levelno > logging.INFO] == []
