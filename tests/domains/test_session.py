"""Sessions of the agent `command`, through a real daemon."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from daemon.core.errors import BadRequest, Conflict, NotFound, Unavailable

ENDS = ("session.completed", "session.error", "session.cancelled")


async def follow(running, argv, **data):
    """Create a session and give all events of its channel, to its end."""
    async with running.client() as client:
        created = await client.call("session.create", {"agent": "command", "argv": argv, **data})
        events = []
        async for message in client.subscribe(f"session:{created['sessionId']}", since=0):
            events.append(message)
            if message.type in ("session.completed", "session.error", "session.cancelled"):
                break
        return events


def text(events, kind="stdout"):
    return "".join(
        e.data["content"]
        for e in events
        if e.type == "session.stream_output" and e.data["type"] == kind
    )


async def test_the_streams_stay_apart_and_the_exit_code_is_told(running):
    events = await follow(running, ["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert [e.offset for e in events] == list(range(1, len(events) + 1))
    assert text(events) == "out\n"
    assert text(events, "stderr") == "err\n"
    assert events[-1].type == "session.completed"
    assert events[-1].data["exitCode"] == 7


async def test_odd_bytes_arrive_as_text_with_nothing_lost(running):
    program = (
        "import os, time\n"
        "os.write(1, b'x' * 5_000_000 + b'\\n')\n"
        "os.write(1, b'\\xe2'); time.sleep(0.1); os.write(1, b'\\x82\\xac\\n')\n"
        "os.write(1, b'a\\xff\\x00b\\n')\n"
        "os.write(1, b'no newline')\n"
    )
    events = await follow(running, [sys.executable, "-c", program])
    assert text(events) == "x" * 5_000_000 + "\n€\na\ufffd\x00b\nno newline"


async def test_a_signal_nobody_here_sent_is_an_error(running):
    events = await follow(running, ["sh", "-c", "kill -9 $$"])
    assert events[-1].type == "session.error"
    assert (events[-1].data["code"], events[-1].data["signal"]) == ("signaled", 9)


async def test_a_program_that_is_missing_ends_with_a_sentence(running):
    events = await follow(running, ["no-such-program-here"])
    assert events[-1].type == "session.error"
    assert events[-1].data["code"] == "spawn_failed"
    assert "no-such-program-here" in events[-1].data["message"]


async def test_a_prompt_is_the_input_of_a_command(running):
    events = await follow(running, ["cat"], prompt="hello")
    assert text(events) == "hello"


async def test_wire_messages_have_the_fields_of_the_contract(running):
    events = await follow(running, ["echo", "hi"])
    message = json.loads(next(e.raw for e in events if e.type == "session.stream_output"))
    assert list(message) == ["channel", "type", "data", "offset", "ts"]
    assert set(message["data"]) == {"sessionId", "content", "type"}


# What is said to a session


async def test_a_kept_session_reads_messages_and_input_until_its_end(running):
    async with running.client() as client:
        created = await client.call(
            "session.create",
            {"agent": "command", "argv": ["cat"], "keepAlive": True, "prompt": "first\n"},
        )
        session = created["sessionId"]
        output = ""
        async for message in client.subscribe(f"session:{session}", since=0):
            if message.type == "session.started":
                said = await client.call(
                    "session.send_message", {"sessionId": session, "content": "second"}
                )
                assert said["messageId"]
                data = {"sessionId": session, "data": "dGhpcmQK", "encoding": "base64"}
                await client.call("session.input", data)
                await client.call(
                    "session.input", {"sessionId": session, "data": "fourth\n", "end": True}
                )
                with pytest.raises(Conflict):
                    await client.call("session.input", {"sessionId": session, "data": "more"})
            if message.type == "session.stream_output":
                output += message.data["content"]
            if message.type == "session.completed":
                break
        assert output == "first\nsecond\nthird\nfourth\n"
        with pytest.raises(Conflict):
            await client.call("session.send_message", {"sessionId": session, "content": "x"})


async def test_a_session_that_is_not_kept_reads_no_more_than_its_prompt(running):
    async with running.client() as client:
        created = await client.call("session.create", {"agent": "command", "argv": ["sleep", "60"]})
        session = created["sessionId"]
        async for message in client.subscribe(f"session:{session}", since=0):
            if message.type == "session.started":
                break
        with pytest.raises(Conflict, match="keepAlive"):
            await client.call("session.input", {"sessionId": session, "data": "x"})
        assert (await client.call("session.kill", {"sessionId": session}))["sessionId"] == session


async def test_a_time_limit_ends_it_with_its_code(running):
    events = await follow(running, ["sleep", "60"], timeout=0.3)
    assert events[-1].data["code"] == "timeout"


async def test_the_environment_is_an_allow_list_and_never_told(running, monkeypatch):
    for name in ("AGENTCMD_TOKEN", "GIT_DIR", "MY_SECRET", "GIT_AUTHOR_NAME", "http_proxy"):
        monkeypatch.setenv(name, "from-the-daemon")
    events = await follow(running, ["env"], env={"OWN": "s3cret-value"})
    names = {line.partition("=")[0] for line in text(events).splitlines()}
    assert {"PATH", "OWN", "GIT_AUTHOR_NAME", "http_proxy"} <= names
    assert not names & {"AGENTCMD_TOKEN", "GIT_DIR", "MY_SECRET"}
    told = [e.raw for e in events if e.type != "session.stream_output"]
    assert not any("s3cret-value" in raw for raw in told)


async def test_more_sessions_than_slots_wait_their_turn(start_daemon):
    running = await start_daemon(TASK__MAX_RUNNING="1")
    async with running.client() as client:
        first = await client.call("session.create", {"agent": "command", "argv": ["sleep", "60"]})
        second = await client.call("session.create", {"agent": "command", "argv": ["true"]})
        async for message in client.subscribe(f"session:{second['sessionId']}", since=0):
            if message.type == "session.updated":
                assert message.data["position"] == 1
                await client.call("session.cancel", {"sessionId": first["sessionId"]})
            if message.type == "session.completed":
                break


async def test_life_cycle_is_told_on_the_project_too_and_output_is_not(running):
    events = await follow(running, ["echo", "hi"])
    async with running.client() as client:
        told = [m async for m in client.history("project:scratch")]
    kinds = [m.type for m in told if m.data.get("sessionId") == events[0].data["sessionId"]]
    assert kinds == ["session.created", "session.started", "session.completed"]


async def test_a_list_is_filtered_and_holds_ended_sessions_too(running):
    await follow(running, ["true"])
    async with running.client() as client:
        live = await client.call("session.create", {"agent": "command", "argv": ["sleep", "60"]})
        for wanted, count in (
            ({}, 2),
            ({"state": "ended"}, 1),
            ({"projectId": "scratch"}, 2),
            ({"projectId": "none"}, 0),
            ({"agent": "command", "limit": 1}, 1),
            ({"user": "nobody"}, 0),
        ):
            listed = (await client.call("session.list", wanted))["sessions"]
            assert len(listed) == count, wanted
        await client.call("session.kill", {"sessionId": live["sessionId"]})


async def test_an_agent_has_a_limit_of_its_own_and_places_in_its_queue(start_daemon):
    running = await start_daemon(AGENTS__COMMAND__MAX_RUNNING="1")
    async with running.client() as client:

        async def create():
            wanted = {"agent": "command", "argv": ["sleep", "60"]}
            return (await client.call("session.create", wanted))["sessionId"]

        async def until(messages, type_, **fields):
            async with asyncio.timeout(30):
                async for message in messages:
                    if message.type == type_ and fields.items() <= message.data.items():
                        return

        first, second, third = [await create() for _ in range(3)]
        queues = [client.subscribe(f"session:{each}", since=0) for each in (second, third)]
        await until(queues[0], "session.updated", position=1)
        await until(queues[1], "session.updated", position=2)
        await client.call("session.kill", {"sessionId": first})
        await until(queues[0], "session.started")
        await until(queues[1], "session.updated", position=1)
        await client.call("session.cancel", {"sessionId": third})
        await until(queues[1], "session.cancelled")
        await client.call("session.kill", {"sessionId": second})


# What is asked for wrongly


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ({}, "argv"),
        ({"argv": []}, "argv"),
        ({"argv": [""]}, "argument|name"),
        ({"argv": ["a\0b"]}, "NUL"),
        ({"argv": ["true", "\0"]}, "NUL"),
        ({"argv": "true"}, "array"),
        ({"argv": [7]}, "str"),
        ({"argv": ["true"], "env": {"": "x"}}, "name"),
        ({"argv": ["true"], "env": {"A=B": "x"}}, "'='"),
        ({"argv": ["true"], "env": {"A": "\0"}}, "NUL"),
        ({"argv": ["true"], "env": {"A": 7}}, "str"),
        ({"argv": ["true"], "env": ["A=B"]}, "object"),
        ({"argv": ["true"], "timeout": -1}, "timeout"),
        ({"argv": ["true"], "timeout": "5"}, "timeout"),
        ({"argv": ["true"], "name": "x" * 201}, "name"),
        ({"argv": ["true"], "cwd": "relative"}, "projectId"),
        ({"argv": ["true"], "cwd": ""}, "projectId"),
        ({"argv": ["true"], "cwd": "/tmp/\0"}, "null byte"),
        ({"argv": ["true"], "cwd": "/etc/passwd"}, "not a folder"),
        ({"argv": ["true"], "cwd": "/no/such/folder"}, "No such file"),
        ({"argv": ["true"], "cwd": "/" + "x" * 5000}, "too long"),
        ({"argv": ["true"], "resumed": "x"}, "resumed.*there is.*argv"),
        ({"argv": ["true"], "resume": "x"}, "takes no resume"),
        ({"argv": ["true"], "permissionMode": "plan"}, "takes no permissionMode"),
        ({"argv": ["true"], "budgetUsd": 0}, "budgetUsd"),
        ({"argv": ["true"], "images": [{"mediaType": "image/png", "data": "eA=="}]}, "no images"),
        ({"agent": "claude", "prompt": "hi", "argv": ["ls"]}, "takes no argv"),
        ({"agent": "claude"}, "prompt, or keepAlive"),
        ({"agent": "claude", "prompt": "hi", "permissionMode": "all"}, "acceptEdits"),
        ({"agent": "claude", "prompt": "hi", "fork": True}, "resume"),
        ({"agent": "claude", "prompt": "a", "images": [{"mediaType": "a", "data": ""}]}, "png"),
        (
            {"agent": "claude", "prompt": "a", "images": [{"mediaType": "image/png", "data": "!"}]},
            "base64",
        ),
        ({"agent": "nobody", "prompt": "hi"}, "claude, command"),
        ({"agent": ""}, "command"),
        ({"agent": None}, "agent"),
    ],
)
async def test_what_cannot_be_run_is_refused_and_nothing_is_created(running, data, match):
    async with running.client() as client:
        with pytest.raises(BadRequest, match=match):
            await client.call("session.create", {"agent": "command", **data})
        assert (await client.call("session.list"))["sessions"] == []
        assert (await client.call("task.list"))["tasks"] == []


async def test_arguments_the_system_does_not_take_end_with_a_sentence(running):
    events = await follow(running, ["echo", "x" * 200_000])
    assert events[-1].data["code"] == "spawn_failed"
    assert "too long" in events[-1].data["message"]


@pytest.mark.parametrize("name", ["/", "/etc", "/etc/passwd", "./none", "nö such\nthing"])
async def test_a_program_that_cannot_be_run_ends_with_spawn_failed(running, name):
    events = await follow(running, [name])
    assert [e.type for e in events] == ["session.created", "session.error"]
    assert events[-1].data["code"] == "spawn_failed"
    assert len(events[-1].data["message"]) > 10


@pytest.mark.parametrize(
    "type_", ["session.get", "session.cancel", "session.kill", "session.send_message"]
)
@pytest.mark.parametrize("id_", ["none", "", "../x", "*", "a b", "x" * 5000, "\n"])
async def test_a_session_that_is_not_there_is_not_found(running, type_, id_):
    data = {"sessionId": id_} | ({"content": "x"} if type_.endswith("message") else {})
    async with running.client() as client:
        with pytest.raises(NotFound) as found:
            await client.call(type_, data)
        assert len(found.value.message) < 300


# The end, asked for twice and too late


@pytest.mark.parametrize("type_", ["session.cancel", "session.kill"])
async def test_cancel_and_kill_may_be_said_twice_and_after_the_end(running, type_):
    async with running.client() as client:
        created = await client.call("session.create", {"agent": "command", "argv": ["sleep", "60"]})
        session = {"sessionId": created["sessionId"]}
        events = []
        async for message in client.subscribe(f"session:{created['sessionId']}", since=0):
            events.append(message)
            if message.type == "session.started":
                for _ in range(3):
                    assert (await client.call(type_, session))["sessionId"] == session["sessionId"]
            if message.type in ENDS:
                break
        assert events[-1].type == "session.cancelled"
        for again in ("session.cancel", "session.kill"):
            assert (await client.call(again, session))["state"] == "ended"
        one = (await client.call("session.get", session))["session"]
        assert (one["state"], one["end"]["type"]) == ("ended", "cancelled")
        assert "pid" not in one
        told = [m async for m in client.history(f"session:{created['sessionId']}")]
        assert [m.type for m in told if m.type in ENDS] == ["session.cancelled"]


async def test_one_that_waits_in_the_queue_can_be_cancelled(start_daemon):
    running = await start_daemon(TASK__MAX_RUNNING="1")
    async with running.client() as client:
        first = await client.call("session.create", {"agent": "command", "argv": ["sleep", "60"]})
        second = await client.call("session.create", {"agent": "command", "argv": ["true"]})
        await client.call("session.cancel", {"sessionId": second["sessionId"]})
        kinds = []
        async for message in client.subscribe(f"session:{second['sessionId']}", since=0):
            kinds.append(message.type)
            if message.type in ENDS:
                break
        assert kinds[-1] == "session.cancelled"
        assert "session.started" not in kinds
        await client.call("session.kill", {"sessionId": first["sessionId"]})


async def test_what_is_said_before_it_runs_is_read_in_order_when_it_does(start_daemon):
    running = await start_daemon(TASK__MAX_RUNNING="1")
    async with running.client() as client:
        first = await client.call("session.create", {"agent": "command", "argv": ["sleep", "60"]})
        created = await client.call(
            "session.create",
            {"agent": "command", "argv": ["cat"], "keepAlive": True, "prompt": "one\n"},
        )
        session = created["sessionId"]
        assert (await client.call("session.get", {"sessionId": session}))["session"][
            "state"
        ] == "queued"
        await client.call("session.send_message", {"sessionId": session, "content": "two"})
        much = {"sessionId": session, "content": "x" * 1_000_000}
        await client.call("session.send_message", much)
        with pytest.raises(Unavailable):
            await client.call("session.send_message", much)
        await client.call("session.input", {"sessionId": session, "data": "\nthree", "end": True})
        with pytest.raises(Conflict):
            await client.call("session.send_message", {"sessionId": session, "content": "late"})
        await client.call("session.kill", {"sessionId": first["sessionId"]})
        output = ""
        async for message in client.subscribe(f"session:{session}", since=0):
            output += message.data.get("content", "")
            if message.type in ENDS:
                break
        assert message.data["exitCode"] == 0
        assert output == "one\ntwo\n" + "x" * 1_000_000 + "\n\nthree"


async def test_input_is_for_sessions_that_are_there_and_have_one(running):
    async with running.client() as client:
        with pytest.raises(NotFound):
            await client.call("session.input", {"sessionId": "none", "data": "x"})
        created = await client.call("session.create", {"agent": "command", "argv": ["true"]})
        session = created["sessionId"]
        async for message in client.subscribe(f"session:{session}", since=0):
            if message.type in ENDS:
                break
        with pytest.raises(Conflict, match="ended"):
            await client.call("session.input", {"sessionId": session, "data": "x"})
        for data in ({"data": "!", "encoding": "base64"}, {"encoding": "latin-1"}, {"data": 7}):
            kept = await client.call(
                "session.create", {"agent": "command", "argv": ["cat"], "keepAlive": True}
            )
            with pytest.raises(BadRequest):
                await client.call("session.input", {"sessionId": kept["sessionId"], **data})
            await client.call("session.kill", {"sessionId": kept["sessionId"]})


async def test_input_is_taken_byte_for_byte(running):
    import base64

    async with running.client() as client:
        program = "import sys; d = sys.stdin.buffer.read(); print(d.hex())"
        created = await client.call(
            "session.create",
            {"agent": "command", "argv": [sys.executable, "-c", program], "keepAlive": True},
        )
        data = base64.b64encode(bytes(range(256))).decode()
        session = {"sessionId": created["sessionId"]}
        await client.call(
            "session.input", {**session, "data": data, "encoding": "base64", "end": True}
        )
        output = ""
        async for message in client.subscribe(f"session:{created['sessionId']}", since=0):
            output += message.data.get("content", "")
            if message.type in ENDS:
                break
        assert output == bytes(range(256)).hex() + "\n"


# What a child gets


async def test_no_variable_of_the_daemon_itself_reaches_a_child(running, monkeypatch):
    theirs = {
        "AGENTCMD_LOG__LEVEL", "AGENTCMD_URL", "AGENTCMD_TOKEN", "CREDENTIALS_DIRECTORY",
        "NOTIFY_SOCKET", "SECRET", "GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "PYTHONPATH",
        "LD_PRELOAD_X", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY",
        "XDG", "LCX", "path", "STATE_DIRECTORY", "VIRTUAL_ENV", "CLAUDECODE",
    }  # fmt: skip
    ours = {
        "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TERM", "TMPDIR",
        "XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "GIT_SSH_COMMAND", "HTTPS_PROXY", "no_proxy",
    }  # fmt: skip
    for name in theirs | ours:
        monkeypatch.setenv(name, "C" if name == "LC_ALL" else "/of-the-daemon")
    events = await follow(running, [sys.executable, "-c", "import os; print(*os.environ)"])
    names = set(text(events).split())
    assert ours <= names
    assert not theirs & names


async def test_what_a_command_gives_goes_before_the_daemons_own(running, monkeypatch):
    monkeypatch.setenv("LANG", "from-the-daemon")
    monkeypatch.setenv("SECRET", "from-the-daemon")
    env = {"LANG": "given", "SECRET": "given too", "EMPTY": "", "ODD": "ü\n\t'\""}
    program = (
        "import os, json; "
        "print(json.dumps({k: os.environ.get(k) for k in ('LANG','SECRET','EMPTY','ODD')}))"
    )
    events = await follow(running, [sys.executable, "-X", "utf8", "-c", program], env=env)
    assert json.loads(text(events)) == env


async def test_variables_are_shown_nowhere(running):
    events = await follow(running, ["true"], env={"A": "s3cret-value"})
    session = events[0].data["sessionId"]
    ws = await running.ws()
    told = [
        await ws.call("session.get", {"sessionId": session}),
        await ws.call("session.list"),
        await ws.call("task.list"),
    ]
    async with running.client() as client:
        told += [m.raw async for m in client.history("project:scratch")]
    assert "s3cret-value" not in json.dumps(told)


# Lists


async def test_a_list_has_pages_that_hold_each_session_once(running):
    async with running.client() as client:
        made = [
            (await client.call("session.create", {"agent": "command", "argv": ["true"]}))[
                "sessionId"
            ]
            for _ in range(7)
        ]
        for limit in (1, 3, 7, 100):
            seen, cursor = [], None
            while True:
                data = {"limit": limit} | ({"cursor": cursor} if cursor else {})
                page = await client.call("session.list", data)
                assert len(page["sessions"]) <= limit
                seen += [session["id"] for session in page["sessions"]]
                cursor = page.get("nextCursor")
                if cursor is None:
                    break
            assert seen == made[::-1], limit
        for cursor in ("0", "junk'; --", "\0"):
            assert "sessions" in await client.call("session.list", {"cursor": cursor})
        for limit in (0, 501, -1, 1.5, "10"):
            with pytest.raises(BadRequest):
                await client.call("session.list", {"limit": limit})
