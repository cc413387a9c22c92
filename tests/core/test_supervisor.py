"""Owned tasks and shared slots."""

from __future__ import annotations

import asyncio
import functools

import structlog
from hypothesis import given
from hypothesis import strategies as st

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


async def test_a_task_does_not_inherit_what_its_starter_has_bound():
    structlog.contextvars.bind_contextvars(connection="c1")
    try:
        async with Supervisor() as supervisor:

            async def bound():
                return structlog.contextvars.get_contextvars()

            assert await supervisor.start(bound(), name="own") == {}
    finally:
        structlog.contextvars.clear_contextvars()


async def test_leaving_ends_what_is_started_while_leaving():
    ended = []

    async def last(number):
        try:
            await asyncio.sleep(100)
        finally:
            ended.append(number)
            if number:
                supervisor.start(last(number - 1), name="last")
                await asyncio.sleep(0)

    async with Supervisor() as supervisor:
        supervisor.start(last(3), name="first")
        await asyncio.sleep(0)
    assert ended == [3, 2, 1, 0]
    assert len(supervisor) == 0


async def test_cancelling_waits_for_the_end_and_spares_the_caller():
    ended = []

    async def slow_to_end():
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(0.01)
            ended.append(True)

    async with Supervisor() as supervisor:
        tasks = [supervisor.start(slow_to_end(), name="slow")]
        await asyncio.sleep(0)

        async def cancels():
            await supervisor.cancel([*tasks, asyncio.current_task()])
            return "alive"

        assert await supervisor.start(cancels(), name="caller") == "alive"
        assert ended == [True]


async def test_a_slot_is_given_back_once_whoever_leaves():
    slots = Slots(2)
    holders = [slots.request("a", lambda _: None) for _ in range(2)]
    waiting = [slots.request("b", lambda _: None) for _ in range(3)]
    assert (slots.taken, slots.queued) == (2, 3)
    slots.withdraw(waiting.pop(1))
    assert (slots.taken, slots.queued) == (2, 2)
    for waiter in (*holders, *waiting):
        slots.withdraw(waiter)
    assert (slots.taken, slots.queued) == (0, 0)


async def test_a_listener_to_places_that_fails_harms_nobody():
    slots, places = Slots(1), []

    def fail(_):
        raise RuntimeError("no")

    holder = slots.request("a", lambda _: None)
    failing = slots.request("b", fail)
    other = slots.request("c", places.append)
    slots.withdraw(holder)
    assert failing.granted.done()
    slots.withdraw(failing)
    assert other.granted.done()
    assert places == [2, 1]


@given(
    limit=st.integers(1, 3),
    steps=st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 20))),
)
def test_slots_are_never_over_the_limit_nor_idle_while_somebody_waits(limit, steps):
    async def run():
        slots = Slots(limit)
        inside, told = [], {}
        for owner, enters, index in steps:
            if enters or not inside:
                name = object()
                moved = functools.partial(told.__setitem__, name)
                inside.append((name, slots.request(owner, moved)))
            else:
                slots.withdraw(inside.pop(index % len(inside))[1])
            granted = [waiter for _, waiter in inside if waiter.granted.done()]
            assert slots.taken == len(granted) <= limit
            assert slots.queued == len(inside) - len(granted)
            assert not slots.queued or slots.taken == limit
            places = sorted(told[name] for name, waiter in inside if not waiter.granted.done())
            assert places == list(range(1, slots.queued + 1))

    asyncio.run(run())


async def test_an_owner_who_asks_for_much_waits_behind_one_who_asks_for_little():
    slots = Slots(1)
    holder = slots.request("greedy", lambda _: None)
    for _ in range(50):
        slots.request("greedy", lambda _: None)
    modest = slots.request("modest", lambda _: None)
    slots.withdraw(holder)
    slots.release()
    assert modest.granted.done()
