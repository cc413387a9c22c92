"""Sessions of the agent `command`, through a real daemon."""

from __future__ import annotations

import json
import sys


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
