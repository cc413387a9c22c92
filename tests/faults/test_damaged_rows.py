"""Rows that were damaged on disk: the daemon starts, passes them over, and tells the rest."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from flows import Flows

DAMAGE = (
    "INSERT INTO session SELECT 'bad', project, agent, 'working', x'7bff', NULL FROM session",
    (
        "INSERT INTO workflow_run SELECT 'bad', project, workflow, 'running', NULL, x'7b', source, "
        "verdict FROM workflow_run"
    ),
    "INSERT INTO workflow_step VALUES ('bad', 'a', 1, x'00')",
    "INSERT INTO workflow_step SELECT run, 'x', 'many', body FROM workflow_step",
    "INSERT INTO workflow_step SELECT id, 'y', 7, x'ff' FROM workflow_run",
    "INSERT INTO workflow_event SELECT id, 7, 'go', x'ff' FROM workflow_run",
    "INSERT INTO project (id, name, path, created) VALUES ('bad', 'bad', x'ff', 'x')",
    "INSERT INTO git_operation SELECT 'bad', 'bad', 'clone', x'ff', '', 0.5",
    "INSERT INTO channel VALUES (99, x'ff', 'e', 'many', 1)",
)


async def test_damaged_rows_hide_no_others_and_stop_no_start(daemon_process, tmp_path):
    daemon_process.start()
    async with daemon_process.client() as client:
        flows = await Flows.of(client, tmp_path / "own", wait="- {id: a, wait-for: go}")
        flow = await flows.start("wait")
        await flow.until("step.waiting")
        asked = {"agent": "command", "argv": ["true"], "projectId": flows.project}
        session = (await client.call("session.create", asked))["sessionId"]
    daemon_process.stop()
    with closing(sqlite3.connect(daemon_process.state_dir / "agentcmd.db")) as db, db:
        for statement in DAMAGE:
            db.execute(statement)
    daemon_process.start()
    async with daemon_process.client() as client:
        found = await client.call("session.list")
        assert [each["id"] for each in found["sessions"]] == [session]
        assert [each["id"] for each in (await client.call("workflow.runs"))["runs"]] == [flow.id]
        known = {each["id"] for each in (await client.call("project.list"))["projects"]}
        assert known == {"scratch", flows.project}
        flow.client = client
        await flow.call("send_event", event="go")
        assert (await flow.end())["type"] == "completed"
