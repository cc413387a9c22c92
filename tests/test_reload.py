"""New settings for a daemon that runs."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal

import pytest
from structlog.testing import capture_logs
from support import settings_for

from daemon.log import FILE_NAME
from daemon.reload import Reloaded, changes, reload


def settings(tmp_path, **environ):
    return settings_for(tmp_path, **environ)


def test_changes_are_named_by_section_and_key(tmp_path):
    old = settings(tmp_path, AGENTS__A__PATH="/a")
    new = settings(tmp_path, AGENTS__B__PATH="/b", LOG__LEVEL="debug", WEB__HEARTBEAT="9")
    found = changes(old, new)
    assert {"log.level", "web.heartbeat", "agents.a.path", "agents.b.path"} <= set(found)
    assert changes(old, old) == []


def test_each_change_is_taken_once_or_named(tmp_path):
    old = settings(tmp_path)
    new = settings(tmp_path, GUARD__FREE_BYTES="1", GUARD__INTERVAL="2", WEB__HEARTBEAT="9")
    asked = []
    told = reload(old, new, {"guard.": asked.append, "log.level": asked.append})
    assert told == Reloaded(("guard.free_bytes", "guard.interval"), ("web.heartbeat",))
    assert asked == [new]


async def test_a_daemon_takes_what_it_can_while_it_runs(start_daemon, tmp_path):
    running = await start_daemon(TASK__MAX_RUNNING="1")
    before = logging.getLogger().level
    ws = await running.ws()
    for _ in range(2):
        await ws.call("session.create", {"agent": "command", "argv": ["sleep", "100"]})
    assert running.daemon.health().queued == 1
    new = settings_for(
        tmp_path / "state",
        TASK__MAX_RUNNING="2",
        SERVER__ORIGINS="https://tools.example",
        SERVER__HOSTS="tools.local",
        AGENTS__CLAUDE__PATH="/opt/claude",
        GUARD__FREE_BYTES="1",
        WEB__HEARTBEAT="9",
        LOG__LEVEL="warning",
    )
    try:
        told = running.daemon.reload(new)
        assert logging.getLogger().level == logging.WARNING
    finally:
        logging.getLogger().setLevel(before)
    assert told.left == ("web.heartbeat",)
    assert running.daemon.health().queued == 0
    headers = {"Origin": "https://tools.example", "Host": "tools.local"}
    async with running.http.get(f"{running.url}/health", headers=headers) as response:
        assert response.status == 200
    assert running.daemon.settings.web.heartbeat == 25.0, "what is not taken is not shown as taken"
    assert running.daemon.settings.agents["claude"].path == "/opt/claude"
    assert running.daemon.reload(new).taken == ()


async def test_a_reload_to_debug_logs_the_messages_of_clients(start_daemon, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    running = await start_daemon()
    before = logging.getLogger().level
    ws = await running.ws()
    try:
        with capture_logs() as quiet:
            await ws.call("ping")
        running.daemon.reload(settings_for(tmp_path / "state", LOG__LEVEL="debug"))
        with capture_logs() as told:
            await ws.call("ping")
    finally:
        logging.getLogger().setLevel(before)
    assert [line for line in quiet if line["event"] == "message"] == []
    assert [line["type"] for line in told if line["event"] == "message"] == ["ping"]


def lines(state_dir, event):
    text = (state_dir / "log" / FILE_NAME).read_text()
    return [line for line in map(json.loads, text.splitlines()) if line["event"] == event]


@pytest.mark.parametrize("good", [True, False])
async def test_sighup_reads_the_files_again(daemon_process, tmp_path, good):
    path = tmp_path / "config" / "agentcmd" / "agentcmd.toml"
    path.parent.mkdir(parents=True)
    path.write_text("[guard]\ninterval = 5\n")
    daemon_process.environ["XDG_CONFIG_HOME"] = str(tmp_path / "config")
    await asyncio.to_thread(daemon_process.start)
    path.write_text("[guard]\ninterval = 7\n[web]\nheartbeat = 9\n" if good else "[guard]\nx = 1\n")
    os.kill(daemon_process.pid, signal.SIGHUP)
    event = "daemon.reloaded" if good else "daemon.reload_refused"
    async with asyncio.timeout(30):
        while not (told := lines(daemon_process.state_dir, event)):
            await asyncio.sleep(0.02)
    if good:
        assert (told[0]["taken"], told[0]["needs_restart"]) == (
            ["guard.interval"],
            ["web.heartbeat"],
        )
    else:
        assert "unknown field" in told[0]["error"]
    async with daemon_process.client() as client:
        assert (await client.call("system.status"))["status"] == "ok"
