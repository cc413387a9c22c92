"""Socket.IO: the seed's clients, played by the real socket.io-client in Node."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
from node_client import NodeClients
from support import emit_lines, written

from daemon.log import FILE_NAME
from daemon.web.auth import Tokens, load_secret

WEBSOCKET = {"transports": ["websocket"]}
POLLING = {"transports": ["polling"]}
TRANSPORTS = pytest.mark.parametrize(
    "transport", [WEBSOCKET, POLLING, {}], ids=["websocket", "polling", "upgrade"]
)


@pytest.fixture
async def node():
    async with NodeClients.running() as clients:
        yield clients


async def connect(node, running, name="a", **options):
    node.open(name, running.url, running.token(), **options)
    return await node.connected(name)


def contents(events):
    return [event["data"]["content"] for event in events]


# The seed


@TRANSPORTS
async def test_a_client_of_the_seed_subscribes_and_gets_every_event_as_message(
    running, node, transport
):
    await written(running, 2)
    await connect(node, running, **transport)
    node.emit("a", "subscribe", "session:1")
    await subscribed(running, 1)
    await written(running, 20)
    events = await node.events("a", "session:1", 22)
    assert [event["offset"] for event in events] == list(range(3, 23)), "it is live, as in the seed"
    assert contents(events) == [f"{number}\n" for number in range(20)]
    assert set(events[0]) == {"channel", "type", "data", "offset", "ts"}


async def subscribed(running, count):
    async with asyncio.timeout(30):
        while sum(len(p.channels) for p in running.daemon._doors.socketio.peers) < count:
            await asyncio.sleep(0.01)


@TRANSPORTS
async def test_since_replays_after_the_acknowledgement_and_goes_on_live(running, node, transport):
    await written(running, 500, size=2000)
    await connect(node, running, **transport)
    node.emit("a", "subscribe", {"channel": "session:1", "since": 0})
    emit_lines(running, 100)
    events = await node.events("a", "session:1", 600)
    assert [event["offset"] for event in events] == list(range(1, 601))
    answer = await node.ask("a", "subscribe", {"channel": "session:1", "since": 600})
    assert answer["type"] == "global.subscription_success"
    assert answer["channel"] == "session:1"
    told = answer["data"]
    assert (told["recovered"], told["oldest"], told["offset"]) == (True, 1, 600)
    answer = await node.ask(
        "a", "subscribe", {"channel": "session:1", "since": 5, "epoch": "another"}
    )
    assert answer["data"]["recovered"] is False


async def test_the_acknowledgement_comes_before_the_first_event(running, node):
    await written(running, 3)
    await connect(node, running, **WEBSOCKET)
    for number in range(20):
        name = "session:1"
        await node.ask("a", "unsubscribe", name)
        await node.ask("a", "subscribe", {"channel": name, "since": 0})
        assert node.passed_over("a", "message") == [], number
        await node.events("a", name, 3)


async def test_unsubscribing_ends_the_events(running, node):
    await written(running, 1)
    await connect(node, running, **WEBSOCKET)
    await node.ask("a", "subscribe", "session:1")
    answer = await node.ask("a", "unsubscribe", "session:1")
    assert answer == {
        "channel": "session:1",
        "type": "global.unsubscribed",
        "data": {"channel": "session:1"},
    }
    await written(running, 5)
    await node.ask("a", "command", {"type": "ping"})
    assert node.passed_over("a", "message") == []


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("session:none", "not_found"),
        ("no channel", "invalid_channel"),
        ({"channel": "session:1", "since": -1}, "bad_request"),
        ({"channel": "session:1", "since": "x"}, "bad_request"),
        ({}, "bad_request"),
        (7, "bad_request"),
        (None, "bad_request"),
    ],
)
async def test_a_subscription_that_is_refused_is_acknowledged_or_else_told(
    running, node, asked, code
):
    await written(running, 1)
    await connect(node, running, **WEBSOCKET)
    answer = await node.ask("a", "subscribe", asked)
    assert answer["data"]["code"] == code
    node.emit("a", "subscribe", asked)  # without an acknowledgement
    assert await node.message("a", "global.subscription_error", "global.error") == answer


# Who may come in


@TRANSPORTS
@pytest.mark.parametrize("token", [None, "nonsense"])
async def test_a_bad_token_is_the_connect_error_that_the_seed_expects(
    running, node, transport, token
):
    node.open("a", running.url, token, **transport)
    refused = await node.on("a", "connect_error")
    assert refused["message"] == "Authentication error"
    assert refused["data"]["code"] == "unauthorized"
    assert refused["data"]["message"]
    assert not running.daemon._doors.socketio.peers


async def test_scopes_hold_as_on_the_websocket(running, node):
    await written(running, 1)
    node.open("a", running.url, running.token(scope="read:session:2"), **WEBSOCKET)
    await node.connected("a")
    answer = await node.ask("a", "subscribe", "session:1")
    assert answer["data"]["code"] == "forbidden"
    answer = await node.ask("a", "command", {"type": "session.get", "data": {"sessionId": "1"}})
    assert (answer["type"], answer["data"]["code"]) == ("global.error", "forbidden")


async def test_a_token_ends_the_connection_unless_it_is_renewed(running, node):
    for name in ("renewed", "left"):
        node.open(name, running.url, running.token(ttl=1.5), **WEBSOCKET)
        await node.connected(name)
        await node.message(name, "global.token_expiring")
    fresh = {"type": "auth", "data": {"token": running.token()}}
    answer = await node.ask("renewed", "command", fresh)
    assert answer["type"] == "global.authenticated"
    error = await node.message("left", "global.error")
    assert error["data"]["code"] == "unauthorized"
    ended = await node.on("left", "disconnect")
    assert ended["reason"] == "io server disconnect"
    assert ended["active"] is False, "it must not come back with the same token"
    assert (await node.ask("renewed", "command", {"type": "ping"}))["type"] == "global.pong"


@pytest.mark.parametrize("transport", [WEBSOCKET, POLLING], ids=["websocket", "polling"])
async def test_origin_and_host_are_checked(start_daemon, node, transport):
    running = await start_daemon(SERVER__ORIGINS="https://tools.example")
    for name, origin, lets_in in (
        ("ours", running.url, True),
        ("allowed", "https://tools.example", True),
        ("strange", "https://evil.example", False),
    ):
        headers = {"extraHeaders": {"Origin": origin}}
        node.open(name, running.url, running.token(), **transport, **headers)
        if lets_in:
            await node.connected(name)
        else:
            await node.on(name, "connect_error")
    url = f"{running.url}/socket.io/?EIO=4&transport={transport['transports'][0]}"
    async with running.http.get(url, headers={"Host": "evil.example"}) as response:
        assert response.status == 403


async def test_an_allowed_web_page_may_read_the_polling_answers(start_daemon):
    running = await start_daemon(SERVER__ORIGINS="https://tools.example")
    url = f"{running.url}/socket.io/?EIO=4&transport=polling"
    headers = {"Origin": "https://tools.example"}
    async with running.http.get(url, headers=headers) as response:
        assert response.status == 200
        assert response.headers["Access-Control-Allow-Origin"] == "https://tools.example"


async def test_one_who_does_not_introduce_himself_is_turned_away(start_daemon):
    running = await start_daemon(AUTH__TIMEOUT="0.3")
    url = f"{running.url}/socket.io/?EIO=4&transport=websocket"
    async with running.http.ws_connect(url) as ws:
        assert (await ws.receive_str())[0] == "0"
        while not ws.closed:
            await ws.receive(30)
    async with running.http.get(url.replace("websocket", "polling")) as response:
        assert response.status == 200
    async with asyncio.timeout(30):
        while len(running.daemon._doors.socketio):
            await asyncio.sleep(0.05)


async def test_connections_of_all_doors_are_counted_together(start_daemon, node):
    running = await start_daemon(WEB__MAX_CONNECTIONS="2")
    await running.ws()
    await connect(node, running, **WEBSOCKET)
    node.open("b", running.url, running.token(), **WEBSOCKET)
    await node.on("b", "connect_error")
    url = f"{running.url}/socket.io/?EIO=4&transport=polling"
    async with running.http.get(url) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (429, "rate_limited")


async def test_the_door_can_be_shut(start_daemon):
    running = await start_daemon(WEB__SOCKETIO="false")
    async with running.http.get(f"{running.url}/socket.io/?EIO=4&transport=polling") as response:
        assert response.status == 404


# Commands


@TRANSPORTS
async def test_a_command_is_acknowledged_with_the_answer_of_the_websocket(running, node, transport):
    await connect(node, running, **transport)
    argv = [sys.executable, "-c", "print('hello')"]
    created = await node.ask(
        "a",
        "command",
        {"type": "session.create", "data": {"agent": "command", "argv": argv}},
    )
    assert created["type"] == "session.create.ok"
    channel = f"session:{created['data']['sessionId']}"
    node.emit("a", "subscribe", {"channel": channel, "since": 0})
    seen = []
    while not seen or seen[-1]["type"] != "session.completed":
        message = await node.message("a")
        if message["channel"] == channel:
            seen.append(message)
    assert [message["offset"] for message in seen] == list(range(1, len(seen) + 1))
    assert "hello\n" in [message["data"].get("content") for message in seen]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"type": "no.such"}, "unknown_command"),
        ({"type": "session.get"}, "bad_request"),
        ({"type": "session.get", "data": {"sessionId": "none"}}, "not_found"),
        ({"type": "session.get", "channel": "x y", "data": {}}, "invalid_channel"),
        ({"type": "session.get", "data": {"sessionId": "\ud800"}}, "bad_request"),
        ({"type": 7}, "bad_message"),
        ("session.list", "bad_message"),
        ({"type": "ping", "data": {"file": b"\x00\x01"}}, "bad_request"),
    ],
)
async def test_a_bad_command_is_acknowledged_with_its_error(running, node, asked, code):
    await connect(node, running, **WEBSOCKET)
    answer = await node.ask("a", "command", asked)
    assert (answer["type"], answer["data"]["code"]) == ("global.error", code)
    node.emit("a", "command", asked)
    assert await node.message("a", "global.error") == answer


async def test_an_event_that_is_not_known_says_what_is(running, node):
    await connect(node, running, **WEBSOCKET)
    answer = await node.ask("a", "join", "room")
    assert answer["data"]["code"] == "unknown_command"
    assert "subscribe, unsubscribe, command" in answer["data"]["message"]


async def test_one_who_floods_is_slowed_and_then_closed(start_daemon, node):
    running = await start_daemon(WEB__MESSAGES_PER_SECOND="20")
    await connect(node, running, **WEBSOCKET)
    for _ in range(400):
        node.emit("a", "command", {"type": "ping"})
    error = await node.message("a", "global.error")
    assert error["data"]["code"] == "rate_limited"
    assert (await node.on("a", "disconnect"))["reason"].startswith("transport")


# The protocol below


async def test_binary_attachments_arrive_whole_and_are_refused_in_a_sentence(running, node):
    await connect(node, running, **WEBSOCKET)
    answer = await node.ask("a", "subscribe", {"channel": b"session:1", "since": b"\xff" * 70_000})
    assert answer["data"]["code"] == "bad_request"
    assert "binary" in answer["data"]["message"]
    assert (await node.ask("a", "command", {"type": "ping", "data": 7}))["data"] == 7


@pytest.mark.parametrize("text", ["nonsense", "2", "2[", "59999-[]", "7", '2["x"'])
async def test_the_third_packet_that_is_none_ends_the_connection(running, node, text):
    await connect(node, running, **WEBSOCKET)
    for _ in range(3):
        node.raw("a", text)
    ended = await node.on("a", "disconnect")
    assert ended["reason"] in ("io server disconnect", "transport close")


async def test_other_namespaces_are_refused_and_harm_nothing(running, node):
    await connect(node, running, **WEBSOCKET)
    node.open("admin", f"{running.url}/admin", running.token(), **WEBSOCKET)
    refused = await node.on("admin", "connect_error")
    assert refused["message"] == "Invalid namespace"
    assert (await node.ask("a", "command", {"type": "ping"}))["type"] == "global.pong"


async def test_polling_goes_over_to_the_websocket_without_losing_anything(running, node):
    await written(running, 1)
    node.open("a", running.url, running.token())
    assert (await node.on("a", "open"))["transport"] == "polling"
    node.emit("a", "subscribe", {"channel": "session:1", "since": 0})
    for _ in range(40):
        await written(running, 10)
        await asyncio.sleep(0)
    assert (await node.on("a", "upgrade"))["transport"] == "websocket"
    await written(running, 10)
    events = await node.events("a", "session:1", 411)
    assert [event["offset"] for event in events] == list(range(1, 412))


async def test_pings_keep_an_idle_client(start_daemon, node):
    running = await start_daemon(WEB__HEARTBEAT="0.5", WEB__PEER_TIMEOUT="3")
    await connect(node, running, **WEBSOCKET)
    for _ in range(2):
        await node.on("a", "ping")
    assert (await node.ask("a", "command", {"type": "ping"}))["type"] == "global.pong"


async def test_many_messages_of_one_poll_are_all_heard(running, node):
    await connect(node, running, **POLLING)
    for _ in range(60):
        node.emit("a", "subscribe", "session:none")
    for _ in range(60):
        await node.message("a", "global.subscription_error")


async def test_jsonp_is_not_served(running):
    url = f"{running.url}/socket.io/?EIO=4&transport=polling&j=0"
    async with running.http.get(url) as response:
        assert response.status == 400


async def test_frames_are_never_compressed_also_where_the_client_offers_it(running):
    url = f"{running.url}/socket.io/?EIO=4&transport=websocket"
    async with running.http.ws_connect(url, compress=15) as ws:
        assert not ws.compress
        assert (await ws.receive_str()).startswith("0{")


# Slow, lost, restarted


async def test_one_who_stops_reading_is_cut_and_holds_up_nobody(start_daemon, node, raw_to):
    running = await start_daemon(WEB__STALL_TIMEOUT="1")
    await written(running, 1)
    request = (
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\n"
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    stalled = await raw_to(running, request=request, receive_bytes=8192)
    await stalled.reader.readuntil(b"\r\n\r\n")
    stalled.send(f'40{{"token":"{running.token()}"}}')
    stalled.send('42["subscribe","session:1"]')
    await connect(node, running, **WEBSOCKET)
    await node.ask("a", "subscribe", "session:1")
    await subscribed(running, 2)
    last = 1
    async with asyncio.timeout(60):  # it stalls for one second; a busy machine writes slowly
        while running.daemon._doors.socketio.slow_closes == 0:
            await written(running, 50, size=20_000)
            last += 50
            await node.events("a", "session:1", last)
    async with asyncio.timeout(30):
        while len(running.daemon._doors.socketio.peers) > 1:
            await asyncio.sleep(0.05)


async def test_one_who_polls_no_more_is_cut(start_daemon):
    running = await start_daemon(WEB__STALL_TIMEOUT="0.4")
    await written(running, 1)
    base = f"{running.url}/socket.io/?EIO=4&transport=polling"
    async with running.http.get(base) as response:
        sid = (await response.text()).split('"sid":"')[1].split('"')[0]
    url = f"{base}&sid={sid}"
    async with running.http.post(url, data=f'40{{"token":"{running.token()}"}}') as response:
        assert response.status == 200
    async with running.http.post(url, data='42["subscribe","session:1"]'):
        pass
    await written(running, 5)
    async with asyncio.timeout(30):
        while running.daemon._doors.socketio.peers:
            await asyncio.sleep(0.05)
    assert running.daemon._doors.socketio.slow_closes == 1


async def test_a_lost_connection_is_taken_up_by_since(running, node):
    await written(running, 3)
    await connect(node, running, **WEBSOCKET, reconnectionDelay=50)
    first = await node.ask("a", "subscribe", {"channel": "session:1", "since": 0})
    await node.events("a", "session:1", 3)
    node.drop("a")
    await node.on("a", "disconnect")
    await written(running, 4)
    await node.connected("a")
    epoch = first["data"]["epoch"]
    again = await node.ask("a", "subscribe", {"channel": "session:1", "since": 3, "epoch": epoch})
    assert again["data"]["recovered"] is True
    events = await node.events("a", "session:1", 7)
    assert [event["offset"] for event in events] == [4, 5, 6, 7]


@TRANSPORTS
async def test_a_restart_is_announced_and_clients_come_back_by_themselves(
    daemon_process, node, transport
):
    url = await asyncio.to_thread(daemon_process.start)
    node.open("a", url, token_of(daemon_process), **transport)
    await node.connected("a")
    if not transport:
        await node.on("a", "upgrade")
    assert await asyncio.to_thread(daemon_process.stop) == 0
    if transport is not POLLING:  # one who is between two polls finds nobody at the next
        told = await node.message("a", "global.draining")
        assert told["data"]["reconnectMs"] >= 0
    ended = await node.on("a", "disconnect")
    assert ended["reason"].startswith("transport")
    assert ended["active"] is True


def token_of(process):
    return Tokens(load_secret(process.state_dir, "", {})).mint("tester")


async def test_debug_tells_what_passes_and_never_a_payload_or_a_token(daemon_process, node):
    daemon_process.environ["AGENTCMD_LOG__LEVEL"] = "debug"
    url = await asyncio.to_thread(daemon_process.start)
    token = token_of(daemon_process)
    node.open("a", url, token)
    await node.connected("a")
    data = {"agent": "command", "argv": ["echo", "a-payload"], "env": {"KEY": "a-variable"}}
    created = await node.ask("a", "command", {"type": "session.create", "data": data})
    channel = f"session:{created['data']['sessionId']}"
    node.emit("a", "subscribe", {"channel": channel, "since": 0})
    await node.message("a", "session.completed")
    await asyncio.to_thread(daemon_process.stop)
    text = (daemon_process.state_dir / "log" / FILE_NAME).read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    (output,) = (line for line in lines if line.get("event_name") == "session.stream_output")
    assert (output["event"], output["channel"], output["offset"]) == ("event", channel, 3)
    assert output["size"] > len("a-payload")
    (asked,) = (line for line in lines if line.get("type") == "session.create")
    assert (asked["event"], asked["connection"]) == ("message", created_by(lines))
    for secret in ("a-payload", "a-variable", token):
        assert secret not in text


def created_by(lines):
    (opened,) = (line for line in lines if line["event"] == "connection.opened")
    return opened["connection"]
