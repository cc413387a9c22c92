"""An agent that asks for more permissions than anybody answers."""

from __future__ import annotations

import json

import pytest
from loop_watch import allowed, least_held

ASKED = 3000

AGENT = f"""#!/usr/bin/env python3
import json, sys
sys.stdin.readline()
lines = [json.dumps({{"type": "control_request", "request_id": f"r{{n}}", "request": {{
    "subtype": "can_use_tool", "tool_name": "Bash", "input": {{"command": "x" * 300}}}}}})
    for n in range({ASKED})]
sys.stdout.write("\\n".join(lines) + "\\n")
sys.stdout.flush()
answers = [json.loads(sys.stdin.readline())["response"] for _ in range({ASKED} - 64)]
denied = sum(each["response"]["behavior"] == "deny" for each in answers)
said = answers[0]["response"]["message"]
print(json.dumps({{"type": "result", "subtype": "success", "result": f"{{denied}} {{said}}"}}))
"""


@pytest.fixture
async def opened(start_daemon, tmp_path):
    """A daemon as it is used, not in debug, whose claude asks and asks."""
    program = tmp_path / "claude"
    program.write_text(AGENT)
    program.chmod(0o755)
    running = await start_daemon(debug=False, AGENTS__CLAUDE__PATH=str(program))
    async with running.client() as client:
        yield client


async def test_questions_beyond_the_bound_are_denied_and_cost_nobody_time_or_memory(opened):
    types, notices = [], []

    async def asked():
        types.clear()
        notices.clear()
        created = await opened.call("session.create", {"agent": "claude", "prompt": "go"})
        async for message in opened.subscribe(f"session:{created['sessionId']}", since=0):
            types.append(message.type)
            if message.type == "session.stream_output" and message.data["type"] == "system":
                notices.append(message.data["content"])
            if message.type in ("session.completed", "session.error"):
                return message
        raise AssertionError("it has no end")

    message, held = await least_held(asked)
    assert message.type == "session.completed", json.dumps(message.data)
    denied, said = message.data["result"].split(" ", 1)
    assert int(denied) == ASKED - 64
    assert "open_questions" in said
    assert types.count("session.permission_requested") == 64
    assert types.count("session.permission_resolved") == 64
    assert len(notices) == 1
    assert "64 at once" in notices[0]
    assert held.seconds < allowed()
    assert held.bytes < 100 << 20
