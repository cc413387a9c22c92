"""Sessions of the agent `command`, through a real daemon."""

from __future__ import annotations

import json
import sys

import pytest

from daemon.core.errors import Conflict


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
        ):
            listed = (await client.call("session.list", wanted))["sessions"]
            assert len(listed) == count, wanted
        await client.call("session.kill", {"sessionId": live["sessionId"]})
