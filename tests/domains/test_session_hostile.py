"""Agents and history files that write what no honest one does: others keep their turns."""

from __future__ import annotations

import json
import uuid

import pytest
from loop_watch import allowed, least_held

MIB = 1 << 20

LINES = {
    "nothing": b"\n",
    "blanks": b" \n",
    "letters": b"x\n",
    "objects": b"{}\n",
    "other types": b'{"type":"result","usage":7}\n',
    "one brace": b"{\n",
    "unknown": b'{"type":"no_such_type"}\n',
    "half characters": b"\xff\xc3\n",
    "messages": b'{"type":"user","message":{"content":"x"}}\n',
    "deltas": b'{"type":"stream_event","event":'
    b'{"type":"content_block_delta","delta":{"text":"x"}}}\n',
    "numbers": b"1" * 5000 + b"\n",
    "escapes": b'{"type":"user","message":{"content":"' + b"\\u0041" * 500 + b'"}}\n',
}

WHOLE = {
    "one line": b"x" * MIB,
    "open brackets": b"[" * MIB,
    "open objects": b'{"a":' * (MIB // 5),
    "a type that comes last": b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b',"type":"user"}',
    "keys": b'{"type":"user",' + b",".join(b'"k%d":0' % n for n in range(80_000)) + b"}",
    "blocks": b'{"type":"user","message":{"content":['
    + b",".join([b'{"type":"text","text":"x"}'] * 30_000)
    + b"]}}",
    "backslashes": b'{"type":"user","message":{"content":"' + b"\\\\" * (MIB // 2) + b'"}}',
}


def written(name: str) -> bytes:
    if name in LINES:
        return LINES[name] * (MIB // len(LINES[name]))
    return WHOLE[name] + b"\n"


@pytest.fixture
async def opened(start_daemon, tmp_path):
    """A daemon as it is used, not in debug, whose claude writes a file and a result."""
    program = tmp_path / "claude"
    program.write_text(
        f"#!/bin/sh\nread -r message\ncat {tmp_path}/hostile\n"
        """echo '{"type":"result","subtype":"success","result":"done"}'\n"""
    )
    program.chmod(0o755)
    running = await start_daemon(debug=False, AGENTS__CLAUDE__PATH=str(program))
    async with running.client() as client:
        yield client


@pytest.mark.parametrize("name", [*LINES, *WHOLE])
async def test_lines_of_every_hostile_kind_leave_others_their_turns(opened, tmp_path, name):
    (tmp_path / "hostile").write_bytes(written(name))

    async def told():
        created = await opened.call("session.create", {"agent": "claude", "prompt": "go"})
        async for message in opened.subscribe(f"session:{created['sessionId']}", since=0):
            if message.type in ("session.completed", "session.error"):
                return message
        raise AssertionError("it has no end")

    message, held = await least_held(told)
    assert (message.type, message.data["result"]) == ("session.completed", "done")
    assert held.seconds < allowed()
    assert held.bytes < 100 * MIB


@pytest.mark.parametrize("name", [*LINES, *WHOLE])
async def test_histories_of_every_hostile_kind_leave_others_their_turns(
    opened, tmp_path, name, monkeypatch
):
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "config"))
    project = tmp_path / "project"
    project.mkdir()
    added = await opened.call("project.add", {"path": str(project)})
    path = "".join(c if c.isalnum() else "-" for c in str(project))
    folder = tmp_path / "config" / "projects" / path
    folder.mkdir(parents=True)
    said = json.dumps({"type": "user", "uuid": "u", "message": {"content": "the last"}}).encode()

    async def imported():
        (folder / f"{uuid.uuid4()}.jsonl").write_bytes(written(name) + said + b"\n")
        asked = {"agent": "claude", "projectId": added["projectId"]}
        (session,) = (await opened.call("session.import", asked))["sessions"]
        return session

    session, held = await least_held(imported)
    kept = await opened.call("session.messages", {"sessionId": session["id"], "limit": 500})
    assert kept["messages"]
    assert held.seconds < allowed()
    assert held.bytes < 100 * MIB
