"""Nothing new is started while disk or descriptors run short."""

from __future__ import annotations

import resource

import pytest

from daemon.core.errors import Unavailable
from daemon.core.guard import Guard, GuardSettings, raise_descriptor_limit


def guard(folder, **settings):
    return Guard(GuardSettings(**settings), folder)


def test_all_is_well_on_a_machine_with_room(tmp_path):
    made = guard(tmp_path, free_bytes=1)
    assert made.look() is None
    made.require()


def test_a_disk_with_too_little_room_is_a_reason(tmp_path):
    made = guard(tmp_path, free_bytes=1 << 60)
    assert "disk of the state dir" in made.look()
    assert "[guard] free_bytes" in made.look()


def test_a_disk_that_is_not_looked_at_is_no_reason(tmp_path):
    assert guard(tmp_path, free_bytes=0).look() is None
    assert guard(tmp_path / "none", free_bytes=1).look() is None


def test_too_few_descriptors_are_a_reason(tmp_path):
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    made = guard(tmp_path, free_bytes=0, free_descriptors=limit)
    assert "descriptors" in made.look()


def test_a_change_is_told_once_and_refuses_until_it_is_over(tmp_path):
    made, told = guard(tmp_path), []
    made.on_change = told.append
    for reason in (None, "a is short", "b is short", None, None):
        made._note(reason)
        if reason:
            with pytest.raises(Unavailable, match=reason):
                made.require()
        else:
            made.require()
    assert told == ["a is short", None]


def test_the_daemon_takes_all_descriptors_that_it_may_have():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        assert raise_descriptor_limit() == (min(soft, 512), hard)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_session_is_refused_while_the_disk_is_short_and_everyone_is_told(start_daemon):
    running = await start_daemon(GUARD__FREE_BYTES=str(1 << 60), GUARD__INTERVAL="0.05")
    ws = await running.ws()
    refused = await until_refused(ws)
    assert refused["data"]["code"] == "unavailable"
    assert "disk" in refused["data"]["message"]
    async with running.http.get(f"{running.url}/health") as response:
        health = await response.json()
    assert (response.status, health["status"]) == (200, "degraded")
    assert "disk" in health["guard"]
    listed = await ws.call("session.list")
    assert listed["type"] == "session.list.ok", "what is there can still be read"


async def until_refused(ws):
    while True:
        argv = ["true"]
        answer = await ws.call("session.create", {"agent": "command", "argv": argv})
        if answer["type"] == "global.error":
            return answer


async def test_what_runs_short_is_told_on_the_global_channel(start_daemon):
    running = await start_daemon(GUARD__INTERVAL="0.05")
    ws = await running.ws()
    answer = await ws.call("subscribe", channel="global")
    assert answer["type"] == "global.subscription_success", answer
    running.daemon._guard.look = lambda: "something is short"
    (*_, told) = await ws.until("system.guarded")
    assert told["data"] == {"reason": "something is short"}
    running.daemon._guard.look = lambda: None
    (*_, told) = await ws.until("system.guarded")
    assert told["data"] == {}


async def test_programs_keep_the_limit_that_there_was(start_daemon):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 777), hard))
    try:
        running = await start_daemon()
        ws = await running.ws()
        argv = ["sh", "-c", "ulimit -n"]
        created = await ws.call("session.create", {"agent": "command", "argv": argv})
        channel = f"session:{created['data']['sessionId']}"
        await ws.send("subscribe", {"since": 0}, channel=channel)
        seen = await ws.until("session.completed")
        (said,) = (m["data"]["content"] for m in seen if m["type"] == "session.stream_output")
        assert said == f"{min(soft, 777)}\n"
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_file_that_is_removed_or_replaced_is_a_reason_until_it_is_back(tmp_path):
    made = guard(tmp_path, free_bytes=0)
    own, other = tmp_path / "own", tmp_path / "other"
    own.write_text("")
    made.hold(own, tmp_path / "never was")
    assert made.look() is None
    own.rename(other)
    assert "removed" in made.look()
    own.write_text("")
    made._note(made.look())
    assert "replaced" in made.lost
    with pytest.raises(Unavailable, match="replaced"):
        made.require_files()
    other.rename(own)
    made._note(made.look())
    made.require_files()
    made.require()


def test_a_file_that_was_emptied_is_a_reason_until_a_restart(tmp_path):
    made = guard(tmp_path, free_bytes=0)
    own = tmp_path / "own"
    own.write_text("pages")
    made.hold_filled(own)
    assert made.look() is None
    own.write_text("")
    assert "emptied" in made.look()
    own.write_text("pages that a checkpoint writes")
    made._note(made.look())
    with pytest.raises(Unavailable, match="emptied"):
        made.require_files()


async def test_a_daemon_whose_database_is_emptied_says_so_and_changes_nothing_more(
    start_daemon, tmp_path
):
    running = await start_daemon(GUARD__INTERVAL="0.05")
    ws = await running.ws()
    await ws.call("subscribe", channel="global")
    (tmp_path / "state" / "agentcmd.db").write_bytes(b"")
    (*_, told) = await ws.until("system.guarded")
    assert "emptied" in told["data"]["reason"]
    refused = await ws.call("session.create", {"agent": "command", "argv": ["true"]})
    assert refused["data"]["code"] == "unavailable"


@pytest.mark.parametrize("gone", ["agentcmd.db", "agentcmd.db-wal", "lock", "."])
async def test_a_daemon_whose_files_are_removed_says_so_and_changes_nothing_more(
    start_daemon, tmp_path, gone
):
    running = await start_daemon(GUARD__INTERVAL="0.05")
    ws = await running.ws()
    await ws.call("subscribe", channel="global")
    path = tmp_path / "state" / gone
    away = tmp_path / "away"
    path.rename(away)
    (*_, told) = await ws.until("system.guarded")
    assert str(path) in told["data"]["reason"]
    assert "removed" in told["data"]["reason"]
    async with running.http.get(f"{running.url}/health") as response:
        health = await response.json()
    assert (health["status"], health["guard"]) == ("degraded", told["data"]["reason"])
    for command, data in (
        ("session.create", {"agent": "command", "argv": ["true"]}),
        ("project.add", {"path": str(tmp_path)}),
    ):
        refused = await ws.call(command, data)
        assert refused["data"]["code"] == "unavailable"
        assert "removed" in refused["data"]["message"]
    assert (await ws.call("session.list"))["type"] == "session.list.ok"
    if path.exists():
        path.unlink()
    away.rename(path)
    (*_, told) = await ws.until("system.guarded")
    assert told["data"] == {}
