"""A client that is gone is told from one that has only closed its side."""

from __future__ import annotations

import asyncio
import socket

import pytest

from daemon.web.departure import INTERIM, Departure


class Side(asyncio.Protocol):
    """Our side of a connection, which stays open when the other one is closed."""

    def __init__(self, departure):
        self.departure, self.transport = departure, None

    def connection_made(self, transport):
        self.transport = transport

    def eof_received(self):
        self.departure.half_close(self.transport)
        return True

    def connection_lost(self, _):
        self.departure.leave()


@pytest.fixture(params=[socket.AF_UNIX, socket.AF_INET], ids=["unix", "tcp"])
async def connected(request):
    """Return a departure and the socket of its client."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        if request.param == socket.AF_UNIX:
            near, far = socket.socketpair()
        else:
            far = socket.create_connection(server.getsockname())
            near = server.accept()[0]
    far.setblocking(False)
    departure = Departure()
    transport, _ = await loop.create_connection(lambda: Side(departure), sock=near)
    yield departure, far
    far.close()
    transport.abort()
    await asyncio.sleep(0)


async def test_one_that_is_gone_ends_what_it_asked_for_then_and_later(connected):
    departure, far = connected
    gone = asyncio.Event()
    with departure.ending(gone.set, probes=True):
        far.close()
        async with asyncio.timeout(20):
            await gone.wait()
    gone.clear()
    with departure.ending(gone.set, probes=True):
        assert gone.is_set()


async def test_one_that_has_closed_its_side_stays_and_is_asked_ever_less_often(connected):
    departure, far = connected
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    with departure.ending(gone.set, probes=True):
        far.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(20):
            assert await loop.sock_recv(far, 100) == INTERIM
            assert await loop.sock_recv(far, 100) == INTERIM
        assert not gone.is_set()


async def test_one_that_knows_no_interim_answers_is_not_asked(connected):
    departure, far = connected
    loop = asyncio.get_running_loop()
    with departure.ending(pytest.fail, probes=False):
        far.shutdown(socket.SHUT_WR)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.8):
                await loop.sock_recv(far, 100)
