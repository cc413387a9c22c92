"""Owned tasks and shared slots."""

from __future__ import annotations

import asyncio

from daemon.core.supervisor import Slots, Supervisor


async def test_leaving_ends_every_task():
    async with Supervisor() as supervisor:
        task = supervisor.start(asyncio.sleep(100), name="long")
        assert len(supervisor) == 1
    assert task.cancelled()
    assert len(supervisor) == 0


async def test_a_failure_that_nobody_awaits_is_logged():
    from structlog.testing import capture_logs

    async def fail():
        raise RuntimeError("no")

    async with Supervisor() as supervisor:
        with capture_logs() as logs:
            task = supervisor.start(fail(), name="failing")
            await asyncio.wait([task])
            await asyncio.sleep(0)
    assert [(entry["event"], entry["task"]) for entry in logs] == [("task.failed", "failing")]


async def test_owners_take_turns_and_are_told_their_places():
    slots, places, order = Slots(1), {}, []

    def ask(owner, name):
        waiter = slots.request(owner, lambda place: places.__setitem__(name, place))
        waiter.granted.add_done_callback(lambda _: order.append(name))
        return waiter

    holder = ask("a", "a1")
    assert holder.granted.done()
    waiting = {name: ask(name[0], name) for name in ("a2", "a3", "a4", "b1", "b2", "c1")}
    assert places == {"a2": 1, "b1": 2, "c1": 3, "a3": 4, "b2": 5, "a4": 6}
    slots.withdraw(waiting.pop("c1"))
    assert places["a3"] == 3
    slots.withdraw(holder)
    for name in ("a2", "b1", "a3", "b2", "a4"):
        assert waiting[name].granted.done(), name
        slots.withdraw(waiting[name])
    await asyncio.sleep(0)
    assert order == ["a1", "a2", "b1", "a3", "b2", "a4"]
    assert (slots.taken, slots.queued) == (0, 0)
