"""Events to listeners and channels: order, isolation, undo, and the seed's forms."""

from __future__ import annotations

import asyncio

import pytest

from daemon.core import bus as module
from daemon.core.bus import EventBus
from daemon.core.errors import BadRequest, InvalidChannel, UnknownEvent
from daemon.core.events import Event, event
from daemon.core.registry import Registry


@event("session.done", "session:{session_id}", "project:{project_id}")
class Done(Event):
    """A test's event."""

    session_id: str
    project_id: str
    exit_code: int | None = None


@event("project.done", "project:{project_id}")
class ProjectDone(Event):
    """Another."""

    project_id: str


DONE = Done(session_id="1", project_id="p")


@pytest.fixture
async def bus(open_core):
    core = await open_core()
    made = EventBus(Registry([Done, ProjectDone], []), core.journal, core.supervisor, debug=True)
    made.core = core
    return made


async def test_an_event_is_told_on_all_its_channels_before_emit_returns(bus):
    bus.emit(DONE)
    assert bus.core.journal.get("session:1").head == 1
    assert bus.core.journal.get("project:p").head == 1


async def test_listeners_hear_by_name_and_pattern_in_order(bus):
    heard = []
    for name in ("*", "session.*", "session.done", "project.*"):
        bus.on(name, lambda e, name=name: heard.append((name, e)))
    bus.emit(DONE)
    assert heard == [("*", DONE), ("session.*", DONE), ("session.done", DONE)]


async def test_registering_gives_its_own_undo_even_while_heard(bus):
    heard = []
    undo = bus.on("session.done", lambda e: (heard.append(e), undo()))
    bus.emit(DONE)
    bus.emit(DONE)
    undo()
    assert heard == [DONE]


async def test_a_failing_listener_harms_nobody(bus):
    heard = []

    def fail(_):
        raise RuntimeError("no")

    bus.on("session.done", fail)
    bus.on("session.done", heard.append)
    await bus.emit(DONE)
    assert heard == [DONE]


async def test_async_listeners_hear_in_order_and_can_be_awaited(bus):
    heard = []

    async def slow(e):
        await asyncio.sleep(0.001 * (3 - e.exit_code))
        heard.append(e.exit_code)
        if e.exit_code == 1:
            raise RuntimeError("no")

    bus.on("session.*", slow)
    bus.emit(Done(session_id="1", project_id="p", exit_code=0))
    bus.emit(Done(session_id="1", project_id="p", exit_code=1))
    await bus.emit(Done(session_id="1", project_id="p", exit_code=2))
    assert heard == [0, 1, 2]


async def test_a_listener_that_never_keeps_up_is_cut_off(bus, monkeypatch):
    monkeypatch.setattr(module, "LISTENER_BACKLOG", 5)
    stuck = asyncio.Event()

    async def never(_):
        await stuck.wait()

    bus.on("session.done", never)
    for _ in range(10):
        bus.emit(DONE)
    assert bus._resolve("session.done") == ()
    stuck.set()


async def test_the_seeds_form_is_checked_and_takes_the_same_path(bus):
    heard = []
    bus.on("session.done", heard.append, as_data=True)
    await bus.emit("session.done", {"sessionId": "1", "projectId": "p", "exitCode": 3})
    assert heard == [{"sessionId": "1", "projectId": "p", "exitCode": 3}]
    for name, data in (("no.such", {}), ("session.done", {}), ("session.done", {"sessionId": 1})):
        with pytest.raises(UnknownEvent):
            bus.emit(name, data)
    with pytest.raises(UnknownEvent):
        bus.on("no.such", heard.append)


async def test_broadcast_is_for_what_is_not_declared(bus):
    bus.broadcast("session:1", {"type": "own.message", "data": {"n": 1}})
    assert bus.core.journal.get("session:1").head == 1
    for channel, message, error in (
        ("session:1", {"type": "session.done", "data": {}}, BadRequest),
        ("session:*", {"type": "own.message", "data": {}}, BadRequest),
        ("session 1", {"type": "own.message", "data": {}}, InvalidChannel),
        ("session:1", {"data": {}}, BadRequest),
    ):
        with pytest.raises(error):
            bus.broadcast(channel, message)


def test_a_name_is_declared_once():
    @event("session.done", "session:{session_id}")
    class Again(Event):
        """The same name."""

        session_id: str

    with pytest.raises(ValueError, match="twice"):
        Registry([Done, Again], [])
