"""Commands that are started again when they end."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from daemon.core.errors import BadRequest

ENDS = ("session.completed", "session.error", "session.cancelled")
FAILING = ["sh", "-c", "echo up; exit 3"]


async def told(client, session, count):
    """Give the life-cycle of a session up to the `count`th restart or end."""
    seen = []
    async for message in client.subscribe(f"session:{session}", since=0):
        if message.type in (*ENDS, "session.restarting", "session.started"):
            seen.append(message)
        if len(seen) == count:
            break
    return seen


async def test_a_command_that_fails_is_started_again_until_it_is_given_up(running):
    async with running.client() as client:
        policy = {"delay": 0.02, "maxRestarts": 2}
        data = {"agent": "command", "argv": FAILING, "restart": policy}
        created = await client.call("session.create", data)
        seen = await told(client, created["sessionId"], 8)
        kinds = [message.type.removeprefix("session.") for message in seen]
        once = ["started", "completed", "restarting"]
        assert kinds == [*once, *once, "started", "completed"]
        waits = [m.data for m in seen if m.type == "session.restarting"]
        assert [wait["restarts"] for wait in waits] == [1, 2]
        assert 10 <= waits[0]["delayMs"] <= 20 <= waits[1]["delayMs"] <= 40
        session = await client.call("session.get", {"sessionId": created["sessionId"]})
        assert (session["session"]["state"], session["session"]["restarts"]) == ("ended", 2)


async def test_delays_that_add_up_to_more_than_the_time_that_counts_end_as_well(running):
    async with running.client() as client:
        policy = {"delay": 0.05, "maxDelay": 0.2, "maxRestarts": 6, "within": 0.4}
        data = {"agent": "command", "argv": ["false"], "restart": policy}
        with capture_logs() as logged:
            created = await client.call("session.create", data)
            async with asyncio.timeout(30):
                while all(each["event"] != "session.given_up" for each in logged):
                    await asyncio.sleep(0.02)
        session = await client.call("session.get", {"sessionId": created["sessionId"]})
        assert (session["session"]["state"], session["session"]["restarts"]) == ("ended", 6)
        seen = await told(client, created["sessionId"], 20)
        assert sum(message.data.get("delayMs", 0) for message in seen) > 400


@pytest.mark.parametrize(("when", "again"), [("on_failure", False), ("always", True)])
async def test_a_good_end_is_followed_by_a_restart_only_where_that_is_asked(running, when, again):
    async with running.client() as client:
        policy = {"when": when, "delay": 0.02, "maxRestarts": 1}
        data = {"agent": "command", "argv": ["true"], "restart": policy}
        created = await client.call("session.create", data)
        expected = ["started", "completed"] + ["restarting", "started", "completed"] * again
        seen = await told(client, created["sessionId"], len(expected))
        assert [message.type.removeprefix("session.") for message in seen] == expected


async def test_cancel_ends_a_session_that_waits_for_its_restart(running):
    async with running.client() as client:
        data = {"agent": "command", "argv": FAILING, "restart": {"delay": 60}}
        created = await client.call("session.create", data)
        await told(client, created["sessionId"], 3)
        await client.call("session.cancel", {"sessionId": created["sessionId"]})
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert f"restart:{created['sessionId']}" not in names


@pytest.mark.parametrize(
    "policy", [{"delay": 0}, {"when": "never"}, {"maxRestarts": 0}, {"other": 1}]
)
async def test_a_restart_policy_that_does_not_fit_is_refused(running, policy):
    async with running.client() as client:
        data = {"agent": "command", "argv": ["true"], "restart": policy}
        with pytest.raises(BadRequest, match="restart"):
            await client.call("session.create", data)
