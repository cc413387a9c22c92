"""HTTP: resources, errors, history, and Server-Sent Events."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from support import settings_for

from daemon.web.metrics import METRICS

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
    assert "# TYPE agentcmd_connections gauge\n" in text
    assert 'agentcmd_connections{door="websocket"} 0\n' in text


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


# What a hostile or clumsy client sends


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/sessions", "{"),
        ("POST", "/api/sessions", "x" * 1_100_000),
        ("POST", "/api/nothing", "{}"),
        ("POST", "/api/sessions/x/cancel", "["),
        ("GET", "/api/nothing", None),
        ("GET", "/api/sessions/none", None),
        ("GET", "/api/channels/bad name/history", None),
        ("GET", "/api/channels/session:none/history", None),
        ("GET", "/api/channels/session:none/events/1", None),
        ("GET", "/api/events?channel=session:none", None),
        ("GET", "/api/sessions?token=junk", None),
    ],
)
async def test_without_a_token_nothing_else_is_looked_at(running, method, path, body):
    response, answer = await ask(running, method, path, body=body, headers={})
    assert (response.status, answer["error"]["code"]) == (401, "unauthorized")


BODIES = {
    "no text": b'{"agent":"\xff"}',
    "half a character": b'{"agent":"\\ud800"}',
    "deep": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000,
    "deep inside": b'{"agent":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "text": b'"agent"',
    "two": b"{} {}",
    "NaN": b'{"timeout":NaN}',
    "a number beyond all": b'{"agent":"command","argv":["true"],"timeout":1e999}',
    "another type": b'{"agent":7}',
    "a NUL in the folder": b'{"agent":"command","argv":["true"],"cwd":"/tmp/\\u0000"}',
    "a folder with a long name": b'{"agent":"command","argv":["true"],"cwd":"/%b"}' % (b"x" * 9000),
    "a relative folder": b'{"agent":"command","argv":["true"],"cwd":"."}',
    "no folder": b'{"agent":"command","argv":["true"],"cwd":""}',
    "an unknown field": b'{"agent":"command","argv":["true"],"nonsense":1}',
}


@pytest.mark.parametrize("kind", BODIES)
async def test_a_body_that_does_not_fit_is_400_with_a_sentence(running, kind):
    url = running.url + "/api/sessions"
    headers = running.headers() | {"Content-Type": "text/plain"}
    async with running.http.post(url, data=io.BytesIO(BODIES[kind]), headers=headers) as response:
        answer = await response.json()
    assert (response.status, answer["error"]["code"]) == (400, "bad_request")
    assert 10 < len(answer["error"]["message"]) < 1000
    _, tasks = await ask(running, "GET", "/api/tasks")
    assert tasks["tasks"] == []


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("Content-Encoding: gzip\r\nContent-Length: 10", b"0123456789"),
        ("Content-Encoding: deflate\r\nContent-Length: 10", b"0123456789"),
        ("Transfer-Encoding: chunked", b"zz\r\nnonsense"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3", b"{}x"),
        ("Content-Length: -1", b"{}"),
        ("Content-Length: 1e3", b"{}"),
    ],
)
async def test_a_body_that_cannot_be_read_is_400(running, raw, head, body):
    request = (
        "POST /api/sessions HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {running.token()}\r\n{head}\r\n\r\n"
    ).encode() + body
    socket = await raw(request=request)
    assert (await socket.reader.readline()).split()[1] == b"400"


async def test_a_zip_bomb_is_413(running):
    import gzip

    bomb = gzip.compress(b" " * 30_000_000)
    headers = running.headers() | {"Content-Encoding": "gzip"}
    url = running.url + "/api/sessions"
    async with running.http.post(url, data=io.BytesIO(bomb), headers=headers) as response:
        assert response.status == 413
        assert (await response.json())["error"]["code"] == "too_large"


async def test_expected_failures_leave_no_traceback_in_the_log(start_daemon, raw_to, tmp_path):
    from daemon.log import FILE_NAME, logging_to

    with logging_to(tmp_path, level="debug", file_bytes=1 << 20, files=1, quiet=True):
        running = await start_daemon()
        head = (
            "POST /api/sessions HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {running.token()}\r\n"
        )
        for request in (
            head + "Content-Length: 100\r\n\r\n{}",
            head + "Transfer-Encoding: chunked\r\n\r\n5\r\n{}",
            "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\r\n",
            "nonsense\r\n\r\n",
        ):
            socket = await raw_to(running, request=request.encode())
            await asyncio.sleep(0.05)  # the daemon waits for the rest when the peer goes
            socket.close()
        for path in ("/api/nothing", "/api/sessions/none", "/api/events", "/api/tasks/x/y"):
            await ask(running, "GET", path)
        await ask(running, "GET", "/health", headers={"Origin": "http://["})
        await ask(running, "POST", "/api/projects", body='{"path":"/nowhere"}')
        await ask(running, "GET", "/api/sessions", headers={"Authorization": "Bearer x.y.z"})
    text = (tmp_path / "log" / FILE_NAME).read_text()
    assert "daemon.started" in text
    assert "Traceback" not in text
    assert '"level":"error"' not in text


async def test_a_failure_here_is_500_with_an_error_id_that_is_in_the_log(
    start_daemon, tmp_path, monkeypatch
):
    from daemon.log import FILE_NAME, logging_to

    with logging_to(tmp_path, level="info", file_bytes=1 << 20, files=1, quiet=True):
        running = await start_daemon()

        def broken(*_args, **_options):
            raise ZeroDivisionError("secret detail")

        monkeypatch.setattr(running.daemon._dispatcher, "call_with", broken)
        response, answer = await ask(running, "GET", "/api/projects")
    assert (response.status, answer["error"]["code"]) == (500, "internal")
    assert "secret detail" not in json.dumps(answer)
    lines = (tmp_path / "log" / FILE_NAME).read_text().splitlines()
    (logged,) = [line for line in map(json.loads, lines) if line["event"] == "internal"]
    assert logged["error_id"] == answer["error"]["details"]["errorId"]
    assert "ZeroDivisionError: secret detail" in logged["exception"]


# Resources


async def test_what_was_made_is_found_where_location_says(running, tmp_path):
    (tmp_path / "own").mkdir()
    session = json.dumps({"agent": "command", "argv": ["true"]})
    project = json.dumps({"path": str(tmp_path / "own")})
    for path, body in (
        ("/api/sessions", session),
        ("/api/sessions/create", session),
        ("/api/session", session),
        ("/api/projects", project),
        ("/api/projects/add", project),
    ):
        response, _ = await ask(running, "POST", path, body=body)
        assert response.status == 201, path
        response, one = await ask(running, "GET", response.headers["Location"])
        assert response.status == 200, path
        assert one


async def test_a_get_changes_nothing(running):
    session = await finished(running)
    for path in (
        f"/api/sessions/{session}/kill",
        "/api/projects/scratch/remove",
        "/api/systems/x/stop",
        "/api/sessions/create",
    ):
        response, answer = await ask(running, "GET", path)
        assert (response.status, answer["error"]["code"]) == (404, "not_found"), path
    assert not running.daemon.stop_requested.is_set()


async def test_the_id_in_the_path_is_the_one_that_counts(running):
    session = await finished(running)
    _, one = await ask(running, "GET", f"/api/sessions/{session}?sessionId=other")
    assert one["sessionId"] == session
    body = json.dumps({"sessionId": "other"})
    _, one = await ask(running, "POST", f"/api/sessions/{session}/cancel", body=body)
    assert one == {"sessionId": session, "state": "ended"}


async def test_a_command_over_http_is_the_command_of_the_websocket(running):
    ws = await running.ws()
    session = await finished(running)
    for type_, path, data in (
        ("session.get", f"/api/sessions/{session}", {"sessionId": session}),
        ("session.list", "/api/sessions?limit=1", {"limit": 1}),
        ("project.list", "/api/projects", {}),
        ("task.list", "/api/tasks", {}),
    ):
        _, over_http = await ask(running, "GET", path)
        assert over_http == (await ws.call(type_, data))["data"], type_
    for type_, path, data in (
        ("session.get", "/api/sessions/none", {"sessionId": "none"}),
        ("session.list", "/api/sessions?limit=501", {"limit": 501}),
        ("session.list", "/api/sessions?state=1&typo=2", {"state": "1", "typo": "2"}),
    ):
        _, over_http = await ask(running, "GET", path)
        assert over_http["error"]["code"] == (await ws.call(type_, data))["data"]["code"], type_


async def test_commands_are_posted_to_what_they_are_about(running):
    body = json.dumps({"agent": "command", "argv": ["cat"], "keepAlive": True})
    _, created = await ask(running, "POST", "/api/sessions", body=body)
    path = f"/api/sessions/{created['sessionId']}"
    response, said = await ask(
        running, "POST", f"{path}/send_message", body=json.dumps({"content": "hello"})
    )
    assert (response.status, set(said)) == (200, {"sessionId", "messageId"})
    await ask(running, "POST", f"{path}/input", body=json.dumps({"data": "more", "end": True}))
    async with running.client() as client:
        told = []
        async for message in client.subscribe(f"session:{created['sessionId']}", since=0):
            told.append(message.data.get("content", ""))
            if message.type in ENDS:
                break
    assert "".join(told) == "hello\nmore"
    response, answer = await ask(
        running, "POST", f"{path}/send_message", body=json.dumps({"content": "late"})
    )
    assert (response.status, answer["error"]["code"]) == (409, "conflict")


async def test_history_is_read_from_any_place_in_bounded_pages(running):
    from support import written

    await written(running, 3000, size=1000)
    path = "/api/channels/session:1/history"
    seen, since, pages = [], 0, 0
    while True:
        _, page = await ask(running, "GET", f"{path}?since={since}")
        assert page["channel"] == "session:1"
        assert (page["oldest"], page["offset"]) == (1, 3000)
        if not page["events"]:
            break
        seen += [event["offset"] for event in page["events"]]
        since, pages = page["next"], pages + 1
    assert seen == list(range(1, 3001))
    assert pages >= 3
    for query, offsets in (
        ("since=2999", [3000]),
        ("since=3000", []),
        ("since=999999999", []),
        ("since=10&limit=2", [11, 12]),
        ("limit=0", []),
    ):
        _, page = await ask(running, "GET", f"{path}?{query}")
        assert [event["offset"] for event in page["events"]] == offsets, query
    for query in ("since=-1", "since=x", "limit=-1", "limit=1.5", "since=" + "9" * 19):
        response, answer = await ask(running, "GET", f"{path}?{query}")
        assert (response.status, answer["error"]["code"]) == (400, "bad_request"), query


@pytest.mark.parametrize("offset", ["0", "4", "-1", "x", "9" * 40, "%20"])
async def test_a_single_event_that_is_not_kept_is_404(running, offset):
    from support import written

    await written(running, 3)
    response, _ = await ask(running, "GET", f"/api/channels/session:1/events/{offset}")
    assert response.status == 404
    _, event = await ask(running, "GET", "/api/channels/session:1/events/3")
    assert (event["offset"], event["channel"]) == (3, "session:1")


async def test_cursors_survive_what_is_made_meanwhile(running):
    first = [await finished(running, ["true"]) for _ in range(3)]
    _, page = await ask(running, "GET", "/api/sessions?limit=2")
    await finished(running, ["true"])
    _, rest = await ask(running, "GET", f"/api/sessions?limit=2&cursor={page['nextCursor']}")
    assert [s["id"] for s in (*page["sessions"], *rest["sessions"])] == first[::-1]
    assert "nextCursor" not in rest


# Health and metrics


@pytest.mark.usefixtures("impatient")
async def test_health_is_503_while_the_daemon_drains(tmp_path):
    import aiohttp
    from support import Running

    from daemon.app import Daemon

    async with aiohttp.ClientSession() as http:
        async with Daemon(settings_for(tmp_path / "own")) as daemon:
            running = Running(daemon, http)
            ws = await running.ws()
            body = json.dumps(
                {"agent": "command", "argv": ["sh", "-c", "trap '' TERM; echo on; sleep 60"]}
            )
            _, created = await ask(running, "POST", "/api/sessions", body=body)
            await ws.send("subscribe", {"since": 0}, channel=f"session:{created['sessionId']}")
            await ws.until("session.stream_output")

            async def look():
                # New connections are refused by now: this goes over the one that is kept alive.
                await ws.until("global.draining")
                health = await ask(running, "GET", "/health", headers={})
                refused = await ask(running, "POST", "/api/sessions", body=body)
                daemon.hurry()
                return health, refused

            looking = asyncio.ensure_future(look())
        (response, health), (refusal, refused) = await looking
    assert (response.status, health["status"]) == (503, "draining")
    assert (refusal.status, refused["error"]["code"]) == (503, "unavailable")


async def test_metrics_count_what_happens(running):
    from support import written

    ws = await running.ws()
    await written(running, 5)
    await ws.call("subscribe", channel="session:1")
    await written(running, 5)
    _, text = await ask(running, "GET", "/metrics", headers={})
    values = dict(line.split() for line in text.splitlines() if not line.startswith("#"))
    assert values['agentcmd_connections{door="websocket"}'] == "1"
    assert values['agentcmd_subscriptions{door="websocket"}'] == "1"
    assert float(values["agentcmd_commit_seconds_count"]) >= 2
    assert (
        values['agentcmd_commit_seconds_bucket{le="+Inf"}']
        == values["agentcmd_commit_seconds_count"]
    )
    assert float(values["agentcmd_events_total"]) >= 10
    assert float(values["agentcmd_delivered_total"]) == 5
    for line in text.splitlines():
        assert line.startswith(("# HELP agentcmd_", "# TYPE agentcmd_", "agentcmd_")), line


async def test_every_declared_metric_is_told(running):
    async with running.client() as client:
        data = {"agent": "command", "argv": ["cat"], "keepAlive": True}
        created = await client.call("session.create", data)
        _, text = await ask(running, "GET", "/metrics", headers={})
        await client.call("session.kill", {"sessionId": created["sessionId"]})
    for metric in METRICS:
        name = f"agentcmd_{metric.name}"
        assert f"# HELP {name} {metric.help}\n# TYPE {name} {metric.kind}\n{name}" in text
    assert 'agentcmd_tasks{kind="session",state="' in text


async def test_metrics_from_elsewhere_need_an_admin(running, monkeypatch):
    monkeypatch.setattr("daemon.web.rest._from_here", lambda _: False)
    for headers, status in (
        ({}, 401),
        (running.headers(scope="read:* write:*"), 403),
        (running.headers(scope="admin:*"), 200),
        (running.headers(scope="admin:global"), 200),
    ):
        response, _ = await ask(running, "GET", "/metrics", headers=headers)
        assert response.status == status


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
        pairs = await asyncio.wait_for(events(running, path, last=last, count=count), 30)
        seen += [message for _, message in pairs]
        last = pairs[-1][0]
    by_channel = {}
    for message in seen:
        by_channel.setdefault(message["channel"], []).append(message)
    assert by_channel[f"session:{session}"] == one["events"]
    assert by_channel["project:scratch"] == two["events"]


async def test_a_stream_of_a_wildcard_is_live(running):
    reading = asyncio.ensure_future(events(running, "/api/events?channel=session:*", until=ENDS))
    async with asyncio.timeout(30):
        while not running.daemon._doors.streams.open:
            await asyncio.sleep(0.01)
    session = await finished(running)
    pairs = await asyncio.wait_for(reading, 30)
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
            async with asyncio.timeout(30):
                while not daemon._doors.streams.open:
                    await asyncio.sleep(0.01)
        pairs = await asyncio.wait_for(reading, 30)
    assert pairs[0][1]["type"] == "project.created"
