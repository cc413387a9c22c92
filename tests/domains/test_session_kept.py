"""What lives keeps its history, however long it has been quiet."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from flows import Flows
from support import until

AT_ONCE = {"JOURNAL__KEEP_DAYS": "0.0000001", "JOURNAL__PRUNE_INTERVAL": "0.05"}


async def test_a_quiet_session_run_and_project_keep_their_channels(start_daemon, tmp_path):
    running = await start_daemon(**AT_ONCE)
    ws = await running.ws()
    async with running.client() as client:
        flows = await Flows.of(client, tmp_path / "own", wait="- {id: a, wait-for: go}")
        flow = await flows.start("wait")
        await flow.until("step.waiting")
        asked = {"agent": "command", "argv": ["sleep", "1000"], "projectId": flows.project}
        live = (await client.call("session.create", asked))["sessionId"]
        asked = {"agent": "command", "argv": ["true"], "projectId": flows.project}
        ended = (await client.call("session.create", asked))["sessionId"]
        journal = running.daemon._journal
        await until(lambda: f"session:{ended}" not in {log.name for log in journal})
        for channel in (
            f"session:{live}",
            f"workflow:run:{flow.id}",
            f"project:{flows.project}",
            f"git:project:{flows.project}",
        ):
            answer = await ws.call("subscribe", {"since": 0}, channel=channel)
            assert answer["type"].endswith("subscription_success"), answer
            if "git" not in channel:
                assert answer["data"]["oldest"] == 1
        refused = await ws.call("subscribe", channel=f"session:{ended}")
        assert refused["data"]["code"] == "not_found"
        await ws.call("unsubscribe", channel=f"session:{live}")
        await client.call("session.kill", {"sessionId": live})
        await until(lambda: f"session:{live}" not in {log.name for log in journal})
        await flow.call("send_event", event="go")


async def test_what_has_a_row_can_be_followed_though_its_channel_was_lost(daemon_process, tmp_path):
    daemon_process.start()
    async with daemon_process.client() as client:
        flows = await Flows.of(client, tmp_path / "own", one="- {id: a, run: 'true'}")
        flow = await flows.done("one")
        asked = {"agent": "command", "argv": ["true"], "projectId": flows.project}
        session = (await client.call("session.create", asked))["sessionId"]
        async for message in client.subscribe(f"session:{session}", since=0):
            if message.type == "session.completed":
                break
    daemon_process.stop()
    with closing(sqlite3.connect(daemon_process.state_dir / "agentcmd.db")) as db, db:
        db.execute("DELETE FROM event")
        db.execute("DELETE FROM channel")
    daemon_process.environ["AGENTCMD_JOURNAL__PRUNE_INTERVAL"] = "0.05"
    daemon_process.start()
    async with daemon_process.client() as client:
        for channel in (
            f"session:{session}",
            f"workflow:run:{flow.id}",
            f"project:{flows.project}",
        ):
            answer = await client.call("subscribe", channel=channel)
            assert answer["channel"] == channel
        found = await client.call("session.get", {"sessionId": session})
        assert found["sessionId"] == session
