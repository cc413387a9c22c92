"""Clients without a token: few, not for long, and with little to hold."""

from __future__ import annotations

import asyncio
import json

import pytest
from engineio_client import POLLING, WEBSOCKET, Poller, said, sessions, until
from plain_sockets import end_of, silent

from daemon.web import unauthenticated
from daemon.web.unauthenticated import Unauthenticated

KIB = 1024
FEW = {"WEB__MAX_UNAUTHENTICATED": "4"}
EVIL = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}


@pytest.fixture
def hasty(monkeypatch):
    """Newcomers have no grace."""
    monkeypatch.setattr(unauthenticated, "GRACE", 0.0)


@pytest.fixture
def late(monkeypatch):
    """Looks are frequent."""
    monkeypatch.setattr("daemon.web.http_connection.SWEEP", 0.05)


def waiting(running):
    return len(running.daemon._runner.http.unauthenticated)


# The bound


@pytest.mark.usefixtures("hasty")
def test_the_oldest_makes_room_for_the_newest():
    dropped = []
    clients = Unauthenticated(2, dropped.append)
    for number in range(5):
        clients.add(number)
    assert (dropped, list(clients), clients.dropped) == ([0, 1, 2], [3, 4], 3)
    clients.discard(3)
    clients.add(5)
    assert (dropped, list(clients)) == ([0, 1, 2], [4, 5])


def test_those_who_just_came_are_spared_up_to_a_ceiling():
    dropped = []
    clients = Unauthenticated(2, dropped.append)
    for number in range(16):
        clients.add(number)
    assert dropped == []
    clients.add(16)
    assert dropped == [0]
    clients.make_room(float("inf"))
    assert (len(dropped), list(clients)) == (15, [15, 16])


@pytest.mark.usefixtures("hasty", "quiet")
async def test_silent_sockets_are_dropped_for_newer_ones_and_clients_stay(start_daemon):
    running = await start_daemon(**FEW, WEB__MAX_CONNECTIONS="2")
    mine = await running.ws()
    readers, writers = await silent(running, 40)
    for reader in readers[:36]:
        assert await end_of(reader) == b""
    assert waiting(running) <= 4
    assert (await mine.call("ping"))["type"] == "global.pong"
    assert (await (await running.ws()).call("ping"))["type"] == "global.pong"
    for writer in writers:
        writer.close()


@pytest.mark.usefixtures("hasty")
async def test_websockets_without_a_token_take_no_place_of_those_with_one(start_daemon, raw_to):
    running = await start_daemon(**FEW, WEB__MAX_CONNECTIONS="2")
    strangers = [await raw_to(running, token=b"") for _ in range(12)]
    assert await strangers[0].next() == {"type": "close", "code": 4409}
    for _ in range(2):
        assert (await (await running.ws()).call("ping"))["type"] == "global.pong"
    assert running.daemon.health().connections == 2


@pytest.mark.usefixtures("hasty")
async def test_sessions_without_a_token_take_no_place_of_those_with_one(start_daemon):
    running = await start_daemon(**FEW, WEB__MAX_CONNECTIONS="1")
    pollers = [await Poller(running).begin(token=False) for _ in range(12)]
    await until(lambda: len(sessions(running)) <= 4)
    assert await pollers[0].poll() == [400]
    await Poller(running).begin()
    last = Poller(running)
    assert (await last.answer("GET"))[0] == 429
    assert running.daemon.health().connections == 1


async def test_who_shows_a_token_is_counted_no_longer(running, websocket):
    await running.ws()
    await websocket(running, token=True)
    async with running.http.get(f"{running.url}/api/sessions", headers=running.headers()) as answer:
        assert answer.status == 200
    assert waiting(running) == 0
    ws = await websocket(running, WEBSOCKET)
    assert waiting(running) == 1
    ws.send(f'40{{"token":"{running.token()}"}}')
    assert (await said(ws))[:2] == "40"
    assert waiting(running) == 0


# Time


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"", b""),
        (b"GET /heal", b"HTTP/1.1 408 "),
        (b"POST /api/sessions HTTP/1.1\r\nHost: localhost\r\nContent-", b"HTTP/1.1 408 "),
    ],
    ids=["nothing", "half a line", "half a head"],
)
@pytest.mark.usefixtures("late", "quiet")
async def test_what_is_no_whole_request_in_time_is_ended(start_daemon, sent, told):
    running = await start_daemon(AUTH__TIMEOUT="0.2")
    (reader,), (writer,) = await silent(running, 1)
    writer.write(sent)
    answer = await end_of(reader)
    assert answer[: len(told)] == told
    assert bool(answer) == bool(told)
    if told:
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_request"
    writer.close()


@pytest.mark.usefixtures("late", "quiet")
async def test_an_answered_connection_without_a_token_is_not_kept(start_daemon):
    running = await start_daemon(AUTH__TIMEOUT="0.2")
    (reader,), (writer,) = await silent(running, 1)
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await end_of(reader)).startswith(b"HTTP/1.1 200 ")
    writer.close()


@pytest.mark.usefixtures("late")
async def test_a_connection_with_a_token_is_kept(start_daemon):
    running = await start_daemon(AUTH__TIMEOUT="0.1")
    (reader,), (writer,) = await silent(running, 1)
    request = (
        f"GET /api/sessions HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {running.token()}\r\n\r\n"
    ).encode()
    for _ in range(2):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        await asyncio.sleep(0.4)  # looks pass in which it would have been ended
    writer.close()


@pytest.mark.usefixtures("late")
async def test_the_limits_hold_on_a_unix_socket(start_daemon, tmp_path):
    path = tmp_path / "own.sock"
    running = await start_daemon(SERVER__UDS=str(path), AUTH__TIMEOUT="0.2")
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET /api/ses")
    assert (await end_of(reader)).startswith(b"HTTP/1.1 408 ")
    assert waiting(running) == 0
    writer.close()


# Bytes


async def test_a_message_without_a_token_is_small(running, raw_to):
    for size, fin in ((16 * KIB + 1, True), (1 << 20, True), (9 * KIB, False)):
        stranger = await raw_to(running, token=b"")
        stranger.send("x" * size, fin=fin)
        if not fin:
            stranger.send("x" * size, opcode=0, fin=False)
        assert await stranger.next() == {"type": "close", "code": 1009}


async def test_with_a_token_a_message_is_large_on_every_way_in(running, raw_to, websocket):
    large = {"type": "ping", "id": 1, "data": "x" * 500_000}
    first = await raw_to(running, token=b"")
    first.send(json.dumps({"type": "auth", "data": {"token": running.token()}}))
    first.send(json.dumps(large))
    assert [(await first.next())["type"] for _ in range(3)][2] == "global.pong"
    second = await raw_to(running)
    second.send(json.dumps(large))
    assert [(await second.next())["type"] for _ in range(2)][1] == "global.pong"
    third = await websocket(running, token=True)
    third.send(f'421["command",{json.dumps(large)}]')
    assert (await said(third))[:3] == "431"
    poller = await Poller(running).begin()
    assert await poller.post(f'421["command",{json.dumps(large)}]') == 200


async def test_messages_of_socketio_without_a_token_are_small(running, websocket):
    ws = await websocket(running)
    ws.send("4" + "x" * 17 * KIB)
    assert await said(ws) == 1009
    poller = await Poller(running).begin(token=False)
    status, text = await poller.answer("POST", data="4" + "x" * 17 * KIB)
    assert (status, json.loads(text)["error"]["code"]) == (413, "too_large")


async def test_a_poll_with_a_body_is_refused(running):
    poller = await Poller(running).begin(token=False)
    status, text = await poller.answer("GET", data=b"x" * 100)
    assert (status, json.loads(text)["error"]["code"]) == (400, "bad_request")


@pytest.mark.usefixtures("quiet")
async def test_what_all_without_a_token_send_is_bounded_together(start_daemon):
    running = await start_daemon(WEB__MAX_UNAUTHENTICATED="16")
    head = b"GET /health?" + b"x" * 200 * KIB
    readers, writers = await silent(running, 16)
    for writer in writers:
        writer.write(head)
    await until(lambda: running.daemon._runner.http.unauthenticated.dropped)
    server = running.daemon._runner.http
    assert sum(each.received for each in server.unauthenticated) <= 2 * 16 * 16 * KIB
    assert len(readers) == 16
    async with running.http.get(f"{running.url}/health?{'x' * 200 * KIB}") as answer:
        assert answer.status == 200  # it is the largest that goes, not the newest
    for writer in writers:
        writer.transport.abort()


# Pages of other sites


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    "path", ["/socket.io/?EIO=4&transport=polling", "/ws", "/api/sessions", "/metrics", "/nothing"]
)
async def test_what_a_page_of_another_site_sends_without_an_origin_is_refused(running, path, site):
    headers = EVIL | {"Sec-Fetch-Site": site} | running.headers()
    async with running.http.get(running.url + path, headers=headers) as answer:
        assert answer.status == 403
        assert (await answer.json())["error"]["code"] == "forbidden"
    assert not sessions(running)


async def test_pages_may_be_opened_from_other_sites(running):
    for path in ("/docs", "/health", "/openapi.json"):
        async with running.http.get(running.url + path, headers=EVIL) as answer:
            assert answer.status == 200, path


@pytest.mark.parametrize("site", ["same-origin", "none"])
async def test_what_our_own_pages_send_is_answered(running, site):
    url = f"{running.url}/socket.io/?{POLLING}"
    async with running.http.get(url, headers={"Sec-Fetch-Site": site}) as answer:
        assert answer.status == 200


async def test_an_allowed_origin_may_ask_from_another_site(start_daemon):
    running = await start_daemon(SERVER__ORIGINS="https://tools.example")
    url = f"{running.url}/socket.io/?{POLLING}"
    for origin, status in (("https://tools.example", 200), ("https://evil.example", 403)):
        async with running.http.get(url, headers=EVIL | {"Origin": origin}) as answer:
            assert answer.status == status


async def test_a_link_with_a_ticket_works_on_a_page_of_another_site(running):
    for path, status in (("/api/sessions", 200), ("/ws", 403)):
        async with running.http.post(
            f"{running.url}/api/tickets", json={"path": path}, headers=running.headers()
        ) as answer:
            ticket = (await answer.json())["ticket"]
        async with running.http.get(f"{running.url}{path}?ticket={ticket}", headers=EVIL) as answer:
            assert answer.status == status
    async with running.http.get(f"{running.url}/api/sessions?ticket=no", headers=EVIL) as answer:
        assert answer.status == 401


async def test_a_flood_of_handshakes_of_another_site_makes_no_session(running):
    async def ask():
        url = f"{running.url}/socket.io/?{POLLING}"
        async with running.http.get(url, headers=EVIL) as answer:
            return answer.status

    assert set(await asyncio.gather(*(ask() for _ in range(200)))) == {403}
    assert not sessions(running)
    await Poller(running).begin()
