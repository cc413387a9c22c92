"""Databases of former revisions, as they were left: see tests/data/databases/README.md."""

import asyncio
import gzip
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from flows import Flow
from support import DaemonProcess, follow, until

from daemon.app import DOMAINS
from daemon.core.store import JOURNAL_SCHEMA, OFFSET_BITS

KEPT = Path(__file__).parents[1] / "data/databases"
FILES = sorted(KEPT.glob("*.db.gz"))

PROJECT = b"/tmp/agentcmd-databases/project"
"""Where it was when they were made."""

SCHEMAS = {
    "journal": JOURNAL_SCHEMA,
    **{domain.__name__.rpartition(".")[2]: domain.SCHEMA for domain in DOMAINS},
}

WITH_RUNS = [file for file in FILES if file.name >= "6"]

FOREVER = {"JOURNAL__KEEP_DAYS": "0"}
"""These events are as old as they are, whenever the tests run."""


def unpack(kept, state_dir, project=None):
    """Put a database into a new state dir, with its project at another folder."""
    state_dir.mkdir(mode=0o700)
    path = state_dir / "agentcmd.db"
    path.write_bytes(gzip.decompress(kept.read_bytes()))
    if project:
        project.mkdir()
        with sqlite3.connect(path) as db:
            db.execute("UPDATE project SET path = ? WHERE name = 'small'", (str(project),))
            if "workflow" in dict(db.execute("SELECT owner, version FROM schema")):
                for rowid, body in db.execute("SELECT rowid, body FROM workflow_run").fetchall():
                    moved = body.replace(PROJECT, bytes(project))
                    db.execute("UPDATE workflow_run SET body = ? WHERE rowid = ?", (moved, rowid))
        db.close()
    return path


def asked(path, query):
    db = sqlite3.connect(path)
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


def versions(path):
    return dict(asked(path, "SELECT owner, version FROM schema"))


def events_in(path):
    """Read each channel's events as they stand in the file, by no code of ours."""
    found = {}
    query = f"""
        SELECT name, event.id & {(1 << OFFSET_BITS) - 1}, body FROM event
        JOIN channel ON channel.id = event.id >> {OFFSET_BITS} ORDER BY event.id
    """
    for name, offset, body in asked(path, query):
        event = json.loads(body[body.index(b"{") :])
        assert event["offset"] == offset
        found.setdefault(name, []).append(event)
    return found


def named(file):
    return file.name.removesuffix(".db.gz")


@pytest.fixture(params=FILES, ids=named)
def old(request, tmp_path):
    return unpack(request.param, tmp_path / "state", tmp_path / "project")


async def test_every_schema_version_that_is_not_the_last_is_kept_here(tmp_path):
    seen = {owner: set() for owner in SCHEMAS}
    for number, file in enumerate(FILES):
        for owner, version in versions(unpack(file, tmp_path / str(number))).items():
            seen[owner].add(version)
    for owner, scripts in SCHEMAS.items():
        assert set(range(1, len(scripts))) <= seen[owner], owner


async def test_an_old_database_has_its_history_and_takes_new_work(old, start_daemon):
    before = events_in(old)
    sessions = {id_ for (id_,) in asked(old, "SELECT id FROM session")}
    running = await start_daemon(**FOREVER)
    for channel, events in before.items():
        url = f"{running.url}/api/channels/{channel}/history?limit={len(events)}"
        async with running.http.get(url, headers=running.headers()) as answer:
            assert (await answer.json())["events"] == events, channel
    async with running.client() as client:
        listed = (await client.call("session.list"))["sessions"]
        assert {each["id"] for each in listed} == sessions
        assert {each["state"] for each in listed} == {"ended"}
        projects = (await client.call("project.list"))["projects"]
        small = next(each["id"] for each in projects if each["name"] == "small")
        asks = {"agent": "command", "argv": ["echo", "new"], "projectId": small}
        created = await client.call("session.create", asks)
        seen = await follow(client, f"session:{created['sessionId']}")
        assert [m.data["content"] for m in seen if m.type == "session.stream_output"] == ["new\n"]
        await client.call("git.init", {"projectId": small})
        channel = f"project:{small}"
        old_head = before[channel][-1]["offset"]
        async for message in client.subscribe(channel, since=old_head):
            assert message.offset == old_head + 1
            break
    known = {owner: len(scripts) for owner, scripts in SCHEMAS.items() if scripts}
    assert await until(lambda: versions(old) == known)
    assert not asked(old, "SELECT * FROM git_operation")


async def test_messages_of_an_old_conversation_are_there(start_daemon, tmp_path):
    unpack(KEPT / "3-82c478c.db.gz", tmp_path / "state")
    running = await start_daemon(**FOREVER)
    async with running.client() as client:
        listed = (await client.call("session.list", {"agent": "claude"}))["sessions"]
        kept = await client.call("session.messages", {"sessionId": listed[0]["id"]})
    assert [each["role"] for each in kept["messages"]] == ["user", "assistant"]
    assert "Done." in json.dumps(kept["messages"][1])


@pytest.mark.parametrize("kept", WITH_RUNS, ids=named)
async def test_runs_of_an_old_database_are_there_and_the_waiting_one_goes_on(
    kept, start_daemon, tmp_path
):
    unpack(kept, tmp_path / "state", tmp_path / "project")
    running = await start_daemon(**FOREVER)
    async with running.client() as client:
        runs = (await client.call("workflow.runs"))["runs"]
        states = {each["workflow"]: each["state"] for each in runs}
        assert (states["flow"], states["commits"]) == ("ended", "ended")
        by_name = {each["workflow"]: each["id"] for each in runs}
        assert (await Flow(client, by_name["flow"]).result("hello"))["stdout"] == "hello\n"
        waits = Flow(client, by_name["waits"])
        await waits.call("approve")
        assert (await waits.end())["type"] == "completed"
        steps = await waits.steps()
    assert list(steps) == ["before", "ask", "after"]
    assert [data["stepId"] for data in waits.told("step.started")].count("before") == 1


@pytest.mark.parametrize("kept", ["4-2aff738", "5-6cdda2b"])
async def test_an_operation_that_an_old_daemon_left_is_told_as_lost(kept, start_daemon, tmp_path):
    path = unpack(KEPT / f"{kept}.db.gz", tmp_path / "state")
    columns = [row[1] for row in asked(path, "PRAGMA table_info(git_operation)")]
    row = {"id": "g1", "operation": "clone", "project": "scratch", "root": "/", "started": 1.0}
    row = {name: row.get(name, "") for name in columns}
    marks = ", ".join("?" * len(row))
    with sqlite3.connect(path) as db:
        db.execute(f"INSERT INTO git_operation VALUES ({marks})", tuple(row.values()))
    db.close()
    running = await start_daemon(**FOREVER)
    async with running.client() as client, asyncio.timeout(30):
        async for message in client.subscribe("git:project:scratch", since=0):
            told = message.data
            break
    assert (told["operationId"], told["operation"], told["code"]) == ("g1", "clone", "lost")


@pytest.mark.parametrize("owner", sorted(owner for owner in SCHEMAS if SCHEMAS[owner]))
@pytest.mark.parametrize(
    "command", [["serve"], ["run", "--", "echo", "hello"]], ids=["serve", "run"]
)
def test_a_newer_database_is_refused_and_left_as_it_is(owner, command, tmp_path):
    path = unpack(FILES[-1], tmp_path / "state")
    newer = len(SCHEMAS[owner]) + 1
    with sqlite3.connect(path) as db:
        db.execute("INSERT OR REPLACE INTO schema VALUES (?, ?)", (owner, newer))
    db.close()
    before = path.read_bytes()
    refused = subprocess.run(
        [sys.executable, "-m", "daemon", *command],
        check=False,
        env=DaemonProcess(path.parent).environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (refused.returncode, refused.stdout) == (1, "")
    (sentence,) = refused.stderr.splitlines()
    assert f"newer agentcmd ({owner} schema {newer}," in sentence
    assert "upgrade agentcmd, or use another --state-dir" in sentence
    assert path.read_bytes() == before
    assert {each.name for each in path.parent.glob("agentcmd.db*")} == {"agentcmd.db"}


@pytest.mark.parametrize("kept", FILES, ids=named)
def test_doctor_lets_an_old_database_pass_and_finds_a_newer_one(kept, tmp_path):
    path = unpack(kept, tmp_path / "state")
    path.chmod(0o600)
    before = path.read_bytes()

    def doctor():
        return subprocess.run(
            [sys.executable, "-m", "daemon", "doctor"],
            check=False,
            env=DaemonProcess(path.parent).environ,
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert f"ok    the database {path} is sound" in doctor().stdout
    assert path.read_bytes() == before
    with sqlite3.connect(path) as db:
        db.execute("UPDATE schema SET version = 1000 WHERE owner = 'journal'")
    db.close()
    newer = doctor()
    assert newer.returncode == 1
    assert f"bad   {path} was written by a newer agentcmd (journal schema 1000," in newer.stdout
