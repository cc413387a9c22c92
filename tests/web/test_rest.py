"""HTTP: resources, errors, history, and Server-Sent Events."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from support import settings_for

ENDS = ("session.completed", "session.error", "session.cancelled")


async def ask(running, method, path, *, body=None, headers=None, **token):
    body = io.BytesIO(body.encode()) if body else None
    if headers is None:
        headers = running.headers(**token)
    async with running.http.request(
        method, running.url + path, data=body, headers=headers
    ) as response:
        text = await response.text()
        return response, json.loads(text) if text.startswith("{") else text


async def finished(running, argv=("echo", "hi")):
    """Run a session to its end; gives its id."""
    async with running.client() as client:
        created = await client.call("session.create", {"agent": "command", "argv": list(argv)})
        async for message in client.subscribe(f"session:{created['sessionId']}", since=0):
            if message.type in ENDS:
                break
        return created["sessionId"]


async def test_health_and_metrics_are_open(running):
    response, health = await ask(running, "GET", "/health", headers={})
    assert (response.status, health["status"]) == (200, "ok")
    assert {"version", "uptime", "pid", "tasks", "connections"} <= health.keys()
    response, text = await ask(running, "GET", "/metrics", headers={})
    assert response.status == 200
    assert "# TYPE agentcmd_connections gauge\nagentcmd_connections 0\n" in text


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nothing", None, 404, "not_found"),
        ("GET", "/api/nothings", None, 404, "not_found"),
        ("GET", "/api/sessions/none", None, 404, "not_found"),
        ("GET", "/api/sessions/b%20d", None, 404, "not_found"),
        ("GET", "/api/sessions/none/cancel", None, 404, "not_found"),
        ("DELETE", "/api/sessions", None, 405, "bad_request"),
        ("POST", "/api/sessions", "{", 400, "bad_request"),
        ("POST", "/api/sessions", "[]", 400, "bad_request"),
        ("POST", "/api/sessions", "{}", 400, "bad_request"),
        ("POST", "/api/sessions/x/fly", "{}", 404, "unknown_command"),
        ("POST", "/api/projects/scratch/remove", "", 409, "conflict"),
        ("POST", "/api/sessions", "x" * 1_100_000, 413, "too_large"),
        ("GET", "/api/sessions?limit=0", None, 400, "bad_request"),
        ("GET", "/api/sessions?typo=1", None, 400, "bad_request"),
        ("GET", "/api/channels/bad name/history", None, 400, "invalid_channel"),
        ("GET", "/api/channels/session:none/history", None, 404, "not_found"),
        ("GET", "/api/channels/project:scratch/history?since=x", None, 400, "bad_request"),
        ("GET", "/api/events", None, 400, "bad_request"),
        ("GET", "/api/events?channel=session:none", None, 404, "not_found"),
        ("GET", "/api/events?channel=project:scratch&since=-1", None, 400, "bad_request"),
    ],
)
async def test_every_refusal_is_json_with_its_code_and_status(
    running, method, path, body, status, code
):
    response, answer = await ask(running, method, path, body=body)
    assert (response.status, answer["error"]["code"]) == (status, code)
    assert answer["error"]["message"]


async def test_without_a_token_it_is_401_and_outside_the_scope_403(running):
    response, answer = await ask(running, "GET", "/api/sessions", headers={})
    assert (response.status, answer["error"]["code"]) == (401, "unauthorized")
    assert response.headers["WWW-Authenticate"] == "Bearer"
    response, answer = await ask(
        running, "GET", "/api/channels/project:scratch/history", scope="read:session:*"
    )
    assert (response.status, answer["error"]["code"]) == (403, "forbidden")
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        response, answer = await ask(running, "GET", "/health", headers=headers)
        assert (response.status, answer["error"]["code"]) == (403, "forbidden")


async def test_a_session_is_created_listed_read_and_stopped_over_http(running):
    body = json.dumps({"agent": "command", "argv": ["sleep", "99"], "name": "nap"})
    response, created = await ask(running, "POST", "/api/sessions", body=body)
    assert response.status == 201
    path = response.headers["Location"]
    assert path == f"/api/sessions/{created['sessionId']}"
    _, one = await ask(running, "GET", path)
    assert one["session"]["name"] == "nap"
    _, tasks = await ask(running, "GET", "/api/tasks")
    assert [task["id"] for task in tasks["tasks"]] == [created["sessionId"]]
    response, state = await ask(running, "POST", f"{path}/kill")
    assert response.status == 200
    assert state["sessionId"] == created["sessionId"]


async def test_lists_come_in_pages_newest_first(running):
    made = [await finished(running) for _ in range(5)]
    seen, cursor = [], ""
    while True:
        path = "/api/sessions?limit=2" + (f"&cursor={cursor}" if cursor else "")
        _, page = await ask(running, "GET", path)
        seen += [session["id"] for session in page["sessions"]]
        cursor = page.get("nextCursor")
        if not cursor:
            break
    assert seen == made[::-1]
    _, none = await ask(running, "GET", "/api/sessions?state=working")
    assert none["sessions"] == []


async def test_history_comes_in_pages_of_wire_messages(running):
    session = await finished(running)
    path = f"/api/channels/session:{session}/history"
    _, whole = await ask(running, "GET", path)
    assert [e["offset"] for e in whole["events"]] == list(range(1, whole["offset"] + 1))
    _, part = await ask(running, "GET", f"{path}?since=1&limit=2")
    assert part["events"] == whole["events"][1:3]
    assert part["next"] == 3
    assert part["epoch"] == whole["epoch"]


async def test_an_event_over_the_limit_is_cut_and_kept_whole(start_daemon):
    running = await start_daemon(JOURNAL__EVENT_BYTES="20000")
    session = await finished(running)
    data = {"text": "é" * 50_000, "n": 1}
    running.daemon._bus.broadcast(f"session:{session}", {"type": "test.large", "data": data})
    await running.daemon._journal.flushed()
    _, history = await ask(running, "GET", f"/api/channels/session:{session}/history")
    cut = history["events"][-1]
    assert cut["data"]["truncated"] is True
    assert cut["data"]["n"] == 1
    assert data["text"].startswith(cut["data"]["text"])
    _, whole = await ask(running, "GET", cut["data"]["href"])
    assert whole["data"] == data
    assert whole["offset"] == cut["offset"]


# Server-Sent Events


async def events(running, path, *, last=None, count=None, until=None):
    """Read a stream; gives `(id, message)` pairs."""
    headers = running.headers() | ({"Last-Event-ID": last} if last else {})
    found, id_ = [], None
    async with running.http.get(running.url + path, headers=headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        async for raw in response.content:
            line = raw.decode().rstrip("\n")
            if line.startswith("id: "):
                id_ = line[4:]
            elif line.startswith("data: "):
                found.append((id_, json.loads(line[6:])))
                if len(found) == count or (until and found[-1][1]["type"] in until):
                    break
    return found


async def test_forced_reconnects_by_last_event_id_see_each_event_once(running):
    session = await finished(
        running, ["sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.02; done"]
    )
    path = f"/api/events?channel=session:{session}&channel=project:scratch&since=0"
    _, one = await ask(running, "GET", f"/api/channels/session:{session}/history")
    _, two = await ask(running, "GET", "/api/channels/project:scratch/history")
    seen, last, total = [], None, one["offset"] + two["offset"]
    while len(seen) < total:
        count = min(3, total - len(seen))
        pairs = await asyncio.wait_for(events(running, path, last=last, count=count), 5)
        seen += [message for _, message in pairs]
        last = pairs[-1][0]
    by_channel = {}
    for message in seen:
        by_channel.setdefault(message["channel"], []).append(message)
    assert by_channel[f"session:{session}"] == one["events"]
    assert by_channel["project:scratch"] == two["events"]


async def test_a_stream_of_a_wildcard_is_live(running):
    reading = asyncio.ensure_future(events(running, "/api/events?channel=session:*", until=ENDS))
    async with asyncio.timeout(5):
        while not running.daemon._streams.open:
            await asyncio.sleep(0.01)
    session = await finished(running)
    pairs = await asyncio.wait_for(reading, 5)
    assert pairs[0][1]["type"] == "session.created"
    assert {m["channel"] for _, m in pairs} == {f"session:{session}"}
    assert {id_ for id_, _ in pairs} == {None}


async def test_a_stream_that_missed_something_says_so(running):
    await finished(running)
    last = "project:scratch=0badc0de:1"
    pairs = await events(running, "/api/events?channel=project:scratch", last=last, count=1)
    assert pairs[0][1]["type"] == "global.subscription_success"
    assert pairs[0][1]["data"]["recovered"] is False


async def test_a_drain_ends_streams(tmp_path):
    import aiohttp
    from support import Running

    from daemon.app import Daemon

    async with aiohttp.ClientSession() as http:
        async with Daemon(settings_for(tmp_path / "own")) as daemon:
            running = Running(daemon, http)
            reading = asyncio.ensure_future(
                events(running, "/api/events?channel=project:scratch&since=0")
            )
            async with asyncio.timeout(5):
                while not daemon._streams.open:
                    await asyncio.sleep(0.01)
        pairs = await asyncio.wait_for(reading, 5)
    assert pairs[0][1]["type"] == "project.created"
