"""A full disk: every read answers with what is committed, and so does every command, in time."""

from __future__ import annotations

import asyncio
import resource
import sys

import pytest
from flows import Flows

from daemon.core.errors import Unavailable

FLOOD = "import os\nwhile True: os.write(1, b'0123456789' * 9 + b'\\n')"

READS = {
    "session": ("session.get", "session.messages", "session.transcript"),
    "all": ("session.list", "workflow.runs", "project.list", "task.list", "system.status"),
    "run": ("workflow.get",),
}


async def test_reads_answer_on_a_full_disk(daemon_process, tmp_path):
    daemon_process.start()
    async with daemon_process.client() as client:
        flows = await Flows.of(client, tmp_path / "own", one="- {id: a, run: 'true'}")
        flow = await flows.done("one")
        asked = {"agent": "command", "argv": [sys.executable, "-c", FLOOD]}
        session = (await client.call("session.create", asked))["sessionId"]
        resource.prlimit(daemon_process.pid, resource.RLIMIT_FSIZE, (1 << 20, 64 << 30))
        async with asyncio.timeout(60):
            while (await client.call("system.status"))["journal"] == "ok":
                await asyncio.sleep(0.02)
        # Each has its answer well before a person gives up, all of them at once.
        async with asyncio.timeout(20):
            told = await asyncio.gather(
                *(client.call(each, {"sessionId": session}) for each in READS["session"]),
                *(client.call(each, {"runId": flow.id}) for each in READS["run"]),
                *(client.call(each) for each in READS["all"]),
            )
        assert [each["id"] for each in told[4]["sessions"]] == [session]
        async with asyncio.timeout(20):
            with pytest.raises(Unavailable):
                await client.call("project.add", {"path": str(tmp_path)})
            with pytest.raises(Unavailable):
                await client.call("git.init", {"projectId": flows.project})
            await client.call("session.kill", {"sessionId": session})
        resource.prlimit(daemon_process.pid, resource.RLIMIT_FSIZE, (64 << 30, 64 << 30))
        async with asyncio.timeout(60):
            while (await client.call("system.status"))["journal"] != "ok":
                await asyncio.sleep(0.05)
        found = await client.call("session.list")
        assert [each["id"] for each in found["sessions"]] == [session]
