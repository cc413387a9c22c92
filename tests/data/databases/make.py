"""Make one of the databases here, with the revision of agentcmd that runs this: see README.md."""

from __future__ import annotations

import asyncio
import gzip
import shutil
import sqlite3
import stat
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

from daemon import home
from daemon.app import Daemon, build_registry
from daemon.client import Client
from daemon.settings import load

ROOT = Path("/tmp/agentcmd-databases")
"""It is in what is kept, so it is nobody's."""
STATE, FOLDER = ROOT / "state", ROOT / "project"

AGENT = """#!/bin/sh
read -r message
echo '{"type":"system","subtype":"init","session_id":"fake","model":"fake"}'
echo '{"type":"assistant","uuid":"u1","message":{"id":"m1","content":[{"type":"text","text":"Done."}]}}'
echo '{"type":"result","subtype":"success","is_error":false,"result":"Done.","duration_ms":1}'
"""  # noqa: E501  # lines of a protocol

FLOW = """steps:
  - {id: hello, run: 'echo hello'}
"""

WAITS = """steps:
  - {id: before, run: 'echo before'}
  - {id: ask, approve: 'Go on?'}
  - {id: after, run: 'echo after'}
"""

COMMITS = """steps:
  - {id: stage, git: {operation: stage, paths: [a.txt]}}
  - {id: commit, git: {operation: commit, message: first}}
"""

COMMAND = "echo one; echo two >&2; printf three"


async def until(client: Client, channel: str, *types: str) -> None:
    """Follow a channel to an event of one of these types."""
    async with asyncio.timeout(60), aclosing(client.subscribe(channel, since=0)) as events:
        async for message in events:
            if message.type in types:
                return


async def ended(client: Client, **asked: Any) -> None:
    """Run a session to its end."""
    created = await client.call("session.create", asked)
    ends = ("session.completed", "session.error", "session.cancelled")
    await until(client, f"session:{created['sessionId']}", *ends)


async def fill(client: Client, commands: set[str]) -> None:
    """Do what this revision can."""
    project = (await client.call("project.add", {"path": str(FOLDER), "name": "small"}))[
        "projectId"
    ]
    await ended(client, agent="command", argv=["sh", "-c", COMMAND], projectId=project, name="kept")
    await ended(client, agent="command", argv=["sh", "-c", "exit 3"])
    if "session.interrupt" in commands:
        await ended(client, agent="claude", prompt="Do it", projectId=project)
    if "git.init" in commands:
        await client.call("git.init", {"projectId": project})
    if "workflow.start" not in commands:
        return
    await client.call("project.trust", {"projectId": project, "trusted": True})
    workflows = FOLDER / ".agent/workflows"
    workflows.mkdir(parents=True)
    (FOLDER / "a.txt").write_text("a\n")
    for name, text in (("flow", FLOW), ("waits", WAITS), ("commits", COMMITS)):
        (workflows / f"{name}.yaml").write_text(text)
    for name, last in (("flow", "completed"), ("commits", "completed"), ("waits", "step.waiting")):
        started = await client.call("workflow.start", {"projectId": project, "workflow": name})
        types = (f"workflow.run.{last}", f"workflow.{last}", "workflow.run.failed")
        await until(client, f"workflow:run:{started['runId']}", *types)


async def live() -> None:
    """Run a daemon, and end it as it should be ended."""
    agent = ROOT / "claude"
    agent.write_text(AGENT)
    agent.chmod(agent.stat().st_mode | stat.S_IXUSR)
    environ = {
        "XDG_CONFIG_HOME": str(ROOT / "none"),
        "AGENTCMD_SERVER__STATE_DIR": str(STATE),
        "AGENTCMD_SERVER__PORT": "0",
        "AGENTCMD_AGENTS__CLAUDE__PATH": str(agent),
    }
    async with Daemon(settings(environ)) as daemon:
        client = Client(lambda: home.discover(STATE), token=lambda: daemon.tokens.mint("tester"))
        async with client:
            await fill(client, set(build_registry().commands))


def settings(environ: dict[str, str]) -> Any:
    """Load settings; the first revisions know no agents."""
    try:
        return load(environ=environ)
    except Exception:  # noqa: BLE001  # its class is elsewhere in each revision
        return load(environ={k: v for k, v in environ.items() if "__CLAUDE__" not in k})


def fold(path: Path) -> bytes:
    """Give the database as one file, with nothing beside it."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return path.read_bytes()


def main() -> None:
    """Make the database that is named."""
    target = Path(sys.argv[1])
    shutil.rmtree(ROOT, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    asyncio.run(live())
    target.write_bytes(gzip.compress(fold(STATE / "agentcmd.db"), 9, mtime=0))
    shutil.rmtree(ROOT)


if __name__ == "__main__":
    main()
