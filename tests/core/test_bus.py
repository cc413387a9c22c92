"""Events to listeners and channels: order, isolation, undo, and the seed's forms."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest
from structlog.testing import capture_logs

from daemon.core import bus as module
from daemon.core import frames
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


async def test_who_is_removed_by_another_hears_no_more_not_even_this_event(bus):
    heard = []
    undo = []
    bus.on("session.done", lambda _: undo[0]())
    undo.append(bus.on("session.done", heard.append))
    bus.emit(DONE)
    bus.emit(DONE)
    assert heard == []


async def test_who_is_added_by_another_hears_from_the_next_event_on(bus):
    heard = []
    added = []
    bus.on("session.done", lambda _: added or added.append(bus.on("session.done", heard.append)))
    bus.emit(DONE)
    assert heard == []
    bus.emit(DONE)
    assert heard == [DONE]


async def test_a_failure_is_logged_with_its_listener_and_without_the_data(bus):
    def fail(_):
        raise RuntimeError("no")

    bus.on("session.done", fail)
    with capture_logs() as logs:
        bus.emit(Done(session_id="secret-session", project_id="p"))
    (entry,) = [entry for entry in logs if entry["event"] == "listener.failed"]
    assert entry["event_name"] == "session.done"
    assert "fail" in entry["listener"]
    assert "secret-session" not in str({k: v for k, v in entry.items() if k != "channel"})


async def test_an_async_listener_that_awaits_something_cancelled_hears_on(bus):
    heard = []

    async def fragile(e):
        if e.exit_code == 1:
            lost = asyncio.get_running_loop().create_future()
            lost.cancel()
            await lost
        heard.append(e.exit_code)

    bus.on("session.done", fragile)
    for n in range(3):
        emitted = bus.emit(Done(session_id="1", project_id="p", exit_code=n))
    await asyncio.wait_for(emitted, 30)
    assert heard == [0, 2]


async def test_awaiting_waits_for_async_listeners_and_for_nothing_else(bus):
    await asyncio.wait_for(bus.emit(DONE), 30)
    gate, heard = asyncio.Event(), []

    async def slow(e):
        await gate.wait()
        heard.append(e)

    bus.on("*", slow)
    bus.on("session.*", slow)
    emitted = bus.emit(DONE)
    waiting = asyncio.ensure_future(emitted)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    gate.set()
    await asyncio.wait_for(waiting, 30)
    await emitted  # a second time is fine
    assert heard == [DONE, DONE]


async def test_a_slow_async_listener_does_not_hold_up_another(bus):
    gate, quick = asyncio.Event(), []

    async def slow(_):
        await gate.wait()

    async def fast(e):
        quick.append(e)

    bus.on("session.done", slow)
    bus.on("session.done", fast)
    for _ in range(10):
        bus.emit(DONE)
    async with asyncio.timeout(30):
        while len(quick) < 10:
            await asyncio.sleep(0)
    gate.set()


async def test_what_an_async_listener_has_ahead_when_it_is_removed_is_still_heard(bus):
    heard = []

    async def slow(e):
        await asyncio.sleep(0)
        heard.append(e.exit_code)

    undo = bus.on("session.done", slow)
    for n in range(3):
        emitted = bus.emit(Done(session_id="1", project_id="p", exit_code=n))
    undo()
    bus.emit(Done(session_id="1", project_id="p", exit_code=3))
    await emitted
    await asyncio.sleep(0.01)
    assert heard == [0, 1, 2]


async def test_being_cut_off_is_logged_and_harms_no_other(bus, monkeypatch):
    monkeypatch.setattr(module, "LISTENER_BACKLOG", 3)
    stuck, heard = asyncio.Event(), []

    async def never(_):
        await stuck.wait()

    bus.on("session.done", never)
    bus.on("session.done", heard.append)
    with capture_logs() as logs:
        for _ in range(10):
            bus.emit(DONE)
    assert [entry["event"] for entry in logs if "cut" in entry["event"]] == ["listener.cut_off"]
    assert len(heard) == 10
    stuck.set()


@pytest.mark.parametrize(
    ("pattern", "hears"),
    [("*", 2), ("session.*", 1), ("project.*", 1), ("session.done", 1), ("nothing.*", 0)],
)
async def test_a_pattern_hears_what_it_matches(bus, pattern, hears):
    heard = []
    bus.on(pattern, heard.append)
    bus.emit(DONE)
    bus.emit(ProjectDone(project_id="p"))
    assert len(heard) == hears


async def test_as_data_is_the_wire_form_and_each_listeners_own(bus):
    heard = []

    def spoil(data):
        heard.append(dict(data))
        data.clear()

    bus.on("*", spoil, as_data=True)
    bus.on("*", spoil, as_data=True)
    bus.emit(DONE)
    assert heard == [{"sessionId": "1", "projectId": "p"}] * 2


async def test_debug_mode_checks_what_is_emitted_as_if_it_came_from_outside(bus):
    wrong = Done(session_id=7, project_id="p")  # msgspec structures do not check themselves
    with pytest.raises(msgspec.ValidationError):
        bus.emit(wrong)
    assert bus.core.journal.get("session:7") is None
    quiet = EventBus(Registry([Done], []), bus.core.journal, bus.core.supervisor)
    quiet.emit(wrong)
    assert bus.core.journal.get("session:7").head == 1


async def test_an_event_is_encoded_once_for_all_its_channels(bus):
    bus.emit(DONE)
    await bus.core.journal.flushed()
    for name, offset in (("session:1", 1), ("project:p", 1)):
        (framed,) = await bus.core.journal.page(bus.core.journal.get(name), 0)
        message = json.loads(frames.payload(framed))
        assert message == {
            "channel": name,
            "type": "session.done",
            "data": {"sessionId": "1", "projectId": "p"},
            "offset": offset,
            "ts": message["ts"],
        }


async def test_an_unknown_name_or_wrong_data_writes_nothing(bus):
    for name, data in (("no.such", {}), ("session.done", {"sessionId": "1"}), ("session.done", [])):
        with pytest.raises(UnknownEvent):
            bus.emit(name, data)
    assert [where.name for where in bus.core.journal if where.head] == []
