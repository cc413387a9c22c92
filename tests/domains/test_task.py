"""Tasks and the system as the shell sees them."""

from __future__ import annotations

import asyncio

import pytest

from daemon.core.errors import Forbidden, NotFound


async def started(client, argv):
    created = await client.call("session.create", {"agent": "command", "argv": argv})
    channel = f"session:{created['sessionId']}"
    async for message in client.subscribe(channel, since=0):
        if message.type == "session.stream_output":
            return created["sessionId"]
    return None


async def test_usage_is_that_of_the_whole_tree(running):
    burn = "echo ready; (while :; do :; done) & sleep 60"
    async with running.client() as client:
        id_ = await started(client, ["sh", "-c", burn])
        async with asyncio.timeout(30):
            while (await client.call("task.get", {"taskId": id_}))["task"]["cpuSeconds"] < 0.1:
                await asyncio.sleep(0.05)
        (task,) = (await client.call("task.list"))["tasks"]
        assert (task["id"], task["kind"], task["state"]) == (id_, "session", "running")
        assert task["rssBytes"] > 100_000
        await client.call("task.kill", {"taskId": id_})
        async with asyncio.timeout(30):
            while (await client.call("task.list"))["tasks"]:
                await asyncio.sleep(0.01)
        with pytest.raises(NotFound):
            await client.call("task.cancel", {"taskId": id_})


async def test_who_may_not_see_a_task_is_not_told_of_it(running):
    async with running.client() as client:
        id_ = await started(client, ["sh", "-c", "echo ready; sleep 60"])
        ws = await running.ws(token=running.token(scope="read:session:none write:session:none"))
        assert (await ws.call("task.list"))["data"]["tasks"] == []
        for asked in (id_, "none"):
            answer = await ws.call("task.cancel", {"taskId": asked})
            assert answer["data"]["code"] == Forbidden.code
        await client.call("task.kill", {"taskId": id_})


async def test_status_tells_and_stop_stops(running):
    async with running.client() as client:
        assert (await client.call("system.status"))["status"] == "ok"
        await client.call("system.stop")
    assert running.daemon.stop_requested.is_set()
    ws = await running.ws(token=running.token(scope="write:* read:*"))
    assert (await ws.call("system.stop"))["data"]["code"] == "forbidden"
