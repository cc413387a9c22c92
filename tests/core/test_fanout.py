"""Journal, rings and cursors in any interleaving: exact and contiguous, or not `recovered`."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import sqlite3
from contextlib import AsyncExitStack, closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import DURABLE, split_frames

from daemon.core import fanout as module
from daemon.core import frames
from daemon.core.channel_log import ChannelLog
from daemon.core.channels import matches
from daemon.core.fanout import Fanout, Subscriber
from daemon.core.journal import Journal, JournalSettings
from daemon.core.retention import Retention
from daemon.core.store import Store
from daemon.core.supervisor import Supervisor

FILLED = "shell:2"
"""A log that a domain fills itself, as terminals do; events of the bus come between."""

CHANNELS = ("session:1", "session:2", "project:1", "shell:1", FILLED)
PATTERNS = ("session:*", "shell:*", "*")


class Viewer(Subscriber):
    """A subscriber whose socket the test opens and closes."""

    def __init__(self):
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()
        self.gone = False
        self.got = []
        self.out = []
        self.pushes = 0
        self.overtook = set()

    def has_room(self):
        return self.open.is_set()

    def take(self, batch):
        assert self.open.is_set() or batch.log in self.behind
        self.out.append((batch.log.name, batch.first, batch.joined))

    def push(self):
        self.pushes += 1
        for name, first, joined in self.out:
            for number, (_, body) in enumerate(split_frames(joined), first):
                message = json.loads(body)
                assert (message["channel"], message["offset"]) == (name, number)
                self.got.append((name, number, message["data"]))
        self.out = []

    async def room(self):
        await asyncio.sleep(0)
        while not self.open.is_set() and not self.gone:
            await self.open.wait()
        return not self.gone

    def overtaken(self, where):
        self.overtook.add(where.name)
        self.end()

    def end(self):
        self.gone = True
        self.open.set()


class Model:
    """Drives the real rooms and checks each client against what was published."""

    def __init__(self, folder):
        self.folder = folder
        self.published = {name: [] for name in CHANNELS}
        self.clients = []

    async def open(self):
        self.stack = AsyncExitStack()
        enter = self.stack.enter_async_context
        tight = JournalSettings(
            ring_bytes=2_000, ring_bytes_total=5_000, keep_events=200, keep_days=0, keep_bytes=0
        )
        store = await enter(Store(self.folder / "agentcmd.db", {}))
        self.supervisor = await enter(Supervisor())
        self.journal = await enter(
            Journal(store, tight, lambda name: name.partition(":")[0] in DURABLE)
        )
        self.retention = Retention(self.journal, tight)
        self.fanout = Fanout(self.journal, self.supervisor)
        self.journal.adopt(ChannelLog(0, FILLED, secrets.token_hex(8), 0, 1))

    async def close(self):
        for client in self.clients:
            client.viewer.end()
        await self.stack.aclose()

    def publish(self, channel, count, size):
        for _ in range(count):
            number = len(self.published[channel])
            data = {"n": number, "x": "x" * size}
            self.published[channel].append(data)
            if channel == FILLED and count != 1:
                self.fill(data)
            else:
                self.journal.append(channel, "t.e", frames.encode(data))

    def fill(self, data):
        where = self.journal.get(FILLED)
        where.head += 1
        body = frames.body(where.head_of("t.e"), frames.encode(data), where.head, 1.0)
        where.frames.append(frames.frame(body))
        self.journal.filled(where, len(body))

    async def settle(self):
        await self.journal.flushed()
        await asyncio.sleep(0)
        self.fanout.finish()

    async def restart(self, *, crash):
        """Close and open again; a crash goes on from the files as they were in the middle."""
        copy = self.folder / "copy"
        if crash:
            self.copy_between_two_commits(copy)
        for client in self.clients:
            client.check()
            self.fanout.leave(client.viewer)
            client.viewer.end()
        await self.stack.aclose()
        if crash:
            for file in copy.iterdir():
                shutil.move(file, self.folder / file.name)
            copy.rmdir()
        for ephemeral in ("shell:1", FILLED):  # they begin anew, under another epoch
            self.published[ephemeral].clear()
        await self.open()
        for name, events in self.published.items():
            where = self.journal.get(name)
            head = where.head if where else 0
            assert crash or head == len(events)
            del events[head:]  # what nobody had seen
        for client in self.clients:
            client.reconnect()

    def copy_between_two_commits(self, to):
        """Take the files while the writer must wait, and much is not written yet."""
        to.mkdir()
        with closing(sqlite3.connect(self.folder / "agentcmd.db", isolation_level=None)) as other:
            other.execute("PRAGMA busy_timeout = 10000")
            other.execute("BEGIN IMMEDIATE")
            for file in self.folder.glob("agentcmd.db*"):
                shutil.copy(file, to)
            other.execute("ROLLBACK")


class Client:
    """One client that resumes: per channel the last offset and epoch, and all that it has seen."""

    def __init__(self, model):
        self.model = model
        self.viewer = Viewer()
        self.places = {}
        self.exact = set()
        self.patterns = set()

    def reconnect(self):
        self.check()
        before = self.viewer
        self.model.fanout.leave(before)
        before.end()
        self.viewer = Viewer()
        for channel in list(self.exact):
            begun = self.places[channel][0]
            told = self.subscribe(channel, resume=True)
            if told is not None and channel in before.overtook:  # `since: 0` is told by `oldest`
                assert not told.recovered or (begun == 0 and told.oldest > 1), "not told"
        self.forget()
        for pattern in list(self.patterns):
            self.follow(pattern)

    def subscribe(self, channel, since=None, *, resume=False):
        self.check()
        where = self.model.journal.get(channel)
        if where is None:
            self.exact.discard(channel)
            return None
        if where in self.viewer.channels:
            return None
        waiting = where in self.viewer.behind  # a wildcard's events that are not delivered yet
        last, epoch = self.places[channel] if resume else (since, None)
        told = self.model.fanout.subscribe(self.viewer, where, since=last, epoch=epoch)
        assert told.epoch == where.epoch
        if not told.recovered:
            beyond = last is not None and last > told.offset
            assert not (resume and beyond and epoch == told.epoch), "a seen event was lost"
            pruned = last is not None and last < told.oldest - 1
            assert epoch not in (None, told.epoch) or pruned or beyond, (last, epoch, told)
        start = last if told.recovered and last is not None else told.offset
        if last == 0:
            start = min(told.oldest - 1, told.offset)
        self.exact.add(channel)
        if start < told.offset or not waiting:
            self.places[channel] = (start, told.epoch)
        return told

    def unsubscribe(self, channel):
        self.check()
        where = self.model.journal.get(channel)
        if where is not None and where in self.viewer.channels:
            self.model.fanout.unsubscribe(self.viewer, where)
            self.exact.discard(channel)
            self.forget()

    def follow(self, pattern):
        self.check()
        for name in CHANNELS:
            where = self.model.journal.get(name)
            if matches(pattern, name) and not self.covers(name):
                self.places[name] = (where.flushed, where.epoch) if where else (0, None)
        self.patterns.add(pattern)
        self.model.fanout.follow_pattern(self.viewer, pattern)

    def unfollow(self, pattern):
        self.check()
        self.patterns.discard(pattern)
        self.model.fanout.unfollow_pattern(self.viewer, pattern)
        self.forget()

    def covers(self, name):
        """Tell whether this connection gets a channel's events by now."""
        where = self.model.journal.get(name)
        return (where is not None and where in self.viewer.channels) or any(
            matches(pattern, name) for pattern in self.viewer.patterns
        )

    def forget(self):
        for name in CHANNELS:
            if not self.covers(name):
                self.places.pop(name, None)

    def check(self):
        """Each channel's events follow each other from where the subscription began."""
        for name, offset, data in self.viewer.got:
            last, epoch = self.places[name]
            assert offset == last + 1, f"{name}: {offset} after {last}"
            assert data == self.model.published[name][offset - 1]
            self.places[name] = (offset, epoch or self.model.journal.get(name).epoch)
        self.viewer.got.clear()


channels = st.sampled_from(CHANNELS)
clients = st.integers(0, 2)
patterns = st.sampled_from(PATTERNS)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), channels, st.integers(1, 60), st.sampled_from([0, 50, 1500])),
        st.tuples(st.just("publish"), channels, st.integers(1, 5), st.just(0)),
        st.tuples(st.just("subscribe"), clients, channels, st.sampled_from([None, 0, 1, 7])),
        st.tuples(st.just("unsubscribe"), clients, channels),
        st.tuples(st.just("follow"), clients, patterns),
        st.tuples(st.just("unfollow"), clients, patterns),
        st.tuples(st.just("stall"), clients),
        st.tuples(st.just("go on"), clients),
        st.tuples(st.just("reconnect"), clients),
        st.tuples(st.just("turn"), st.integers(1, 5)),
        st.tuples(st.just("settle")),
        st.tuples(st.just("prune")),
        st.tuples(st.just("restart"), st.booleans()),
    ),
    max_size=30,
)


async def live(folder, plan):
    model = Model(folder)
    await model.open()
    model.clients = [Client(model) for _ in range(3)]
    try:
        for step in plan:
            await do(model, *step)
        for client in model.clients:
            client.viewer.open.set()
        await model.settle()
        async with asyncio.timeout(30):
            while any(c.viewer.behind and not c.viewer.gone for c in model.clients):
                await asyncio.sleep(0)
        for client in model.clients:
            client.check()
            if not client.viewer.gone:
                for channel, (last, _) in client.places.items():
                    where = model.journal.get(channel)
                    assert last == (where.head if where else 0), "it sleeps behind the head"
            client.reconnect()
    finally:
        await model.close()


async def do(model, what, *args):  # noqa: C901, PLR0912  # one step a case
    match what:
        case "publish":
            model.publish(*args)
        case "subscribe":
            model.clients[args[0]].subscribe(args[1], args[2])
        case "unsubscribe":
            model.clients[args[0]].unsubscribe(args[1])
        case "follow":
            model.clients[args[0]].follow(args[1])
        case "unfollow":
            model.clients[args[0]].unfollow(args[1])
        case "stall":
            model.clients[args[0]].viewer.open.clear()
        case "go on":
            model.clients[args[0]].viewer.open.set()
        case "reconnect":
            model.clients[args[0]].reconnect()
        case "turn":
            for _ in range(args[0]):
                await asyncio.sleep(0.001)
        case "settle":
            await model.settle()
        case "prune":
            await model.settle()
            await model.retention.prune()
        case "restart":
            await model.restart(crash=args[0])


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(plan=steps)
def test_any_interleaving_gives_exact_sequences_or_says_so(tmp_path_factory, plan):
    with pytest.MonkeyPatch.context() as patched:  # so small that every border is reached
        patched.setattr(module, "FLUSH_EVENTS", 20)
        patched.setattr(module, "FLUSH_BYTES", 6_000)
        patched.setattr(module, "PAGE_BYTES", 3_000)
        asyncio.run(live(tmp_path_factory.mktemp("journal"), plan))


def put(core, channel="session:1", count=1, size=0):
    for _ in range(count):
        where = core.journal.append(channel, "t.e", frames.encode({"x": "x" * size}))
    return where


def offsets(viewer, name="session:1"):
    return [offset for channel, offset, _ in viewer.got if channel == name]


async def caught_up(*viewers):
    async with asyncio.timeout(30):
        while any(viewer.behind for viewer in viewers):
            await asyncio.sleep(0)


async def test_a_channel_and_two_wildcards_that_cover_it_deliver_each_event_once(open_core):
    core, viewer = await open_core(), Viewer()
    where = put(core)
    await core.journal.flushed()
    core.fanout.follow_pattern(viewer, "*")
    core.fanout.follow_pattern(viewer, "session:*")
    core.fanout.subscribe(viewer, where)
    put(core, count=3)
    put(core, "session:2", count=2)
    await core.journal.flushed()
    assert offsets(viewer) == [2, 3, 4]
    core.fanout.unsubscribe(viewer, where)
    core.fanout.unfollow_pattern(viewer, "*")
    put(core)
    await core.journal.flushed()
    assert offsets(viewer) == [2, 3, 4, 5]
    assert offsets(viewer, "session:2") == [1, 2]
    core.fanout.unfollow_pattern(viewer, "session:*")
    put(core)
    await core.journal.flushed()
    assert offsets(viewer) == [2, 3, 4, 5]


async def test_everyone_at_the_same_place_gets_the_same_bytes(open_core):
    core = await open_core()
    where = put(core)
    await core.journal.flushed()
    taken = []

    class Taker(Viewer):
        def take(self, batch):
            taken.append(batch.joined)

    for _ in range(5):
        core.fanout.subscribe(Taker(), where)
    put(core, count=10)
    await core.journal.flushed()
    assert len(taken) == 5
    assert all(joined is taken[0] for joined in taken)


async def test_one_turn_over_several_channels_is_one_write(open_core):
    core, viewer = await open_core(), Viewer()
    for name in ("session:1", "session:2", "project:1"):
        core.fanout.subscribe(viewer, put(core, name))
    await core.journal.flushed()
    viewer.pushes = 0
    for name in ("session:1", "session:2", "project:1"):
        put(core, name, 5)
    await core.journal.flushed()
    assert viewer.pushes == 1
    assert len(viewer.got) == 15 + 3


async def test_a_flood_on_one_channel_does_not_hold_up_another(open_core):
    core, viewer = await open_core(), Viewer()
    for name in ("session:flood", "session:quiet"):
        core.fanout.subscribe(viewer, put(core, name))
    await core.journal.flushed()
    viewer.got.clear()
    put(core, "session:flood", count=5 * module.FLUSH_EVENTS)
    put(core, "session:quiet")
    await core.journal.flushed()
    core.fanout.finish()
    names = [name for name, _, _ in viewer.got]
    assert names.index("session:quiet") <= 2 * module.FLUSH_EVENTS
    assert len(names) == 5 * module.FLUSH_EVENTS + 1


async def test_one_turn_delivers_no_more_than_its_limit(open_core):
    core, viewer = await open_core(), Viewer()
    where = put(core)
    core.fanout.subscribe(viewer, where)
    await core.journal.flushed()
    put(core, count=3 * module.FLUSH_EVENTS)
    before = where.flushed
    while where.committed < where.head:
        await asyncio.sleep(0)
    assert 0 < where.flushed - before <= 2 * module.FLUSH_EVENTS
    core.fanout.finish()
    assert where.flushed == where.head


async def test_a_stalled_reader_costs_the_others_nothing_and_reads_on_from_disk(open_core):
    core, stalled, healthy = await open_core(ring_bytes=5_000), Viewer(), Viewer()
    where = put(core)
    await core.journal.flushed()
    for viewer in (stalled, healthy):
        core.fanout.subscribe(viewer, where)
    stalled.open.clear()
    for _ in range(20):
        put(core, count=10, size=500)
        await core.journal.flushed()
    assert offsets(healthy) == list(range(2, 202))
    assert stalled.got == []
    assert where.base > stalled.behind[where]
    stalled.open.set()  # nothing more is told: it wakes by itself
    await caught_up(stalled)
    assert offsets(stalled) == list(range(2, 202))
    put(core)
    await core.journal.flushed()
    assert offsets(stalled)[-1] == offsets(healthy)[-1] == 202


async def test_a_reader_that_retention_overtakes_is_told_and_so_is_its_resume(open_core):
    core, viewer = await open_core(ring_bytes=2_000, keep_events=10), Viewer()
    where = put(core)
    await core.journal.flushed()
    core.fanout.subscribe(viewer, where)
    viewer.open.clear()
    put(core, count=200, size=100)
    await core.journal.flushed()
    await Retention(core.journal, core.journal.settings).prune()
    viewer.open.set()
    async with asyncio.timeout(30):
        while not viewer.overtook:
            await asyncio.sleep(0)
    assert viewer.got == []
    core.fanout.leave(viewer)
    told = core.fanout.subscribe(Viewer(), where, since=1, epoch=where.epoch)
    assert (told.recovered, told.offset, told.oldest) == (False, 201, 192)


async def test_an_ephemeral_channel_that_has_moved_on_says_so(open_core):
    core, viewer = await open_core(ring_bytes=2_000), Viewer()
    where = put(core, "shell:1")
    await asyncio.sleep(0)
    core.fanout.subscribe(viewer, where)
    viewer.open.clear()
    for _ in range(20):
        put(core, "shell:1", count=10, size=100)
        await asyncio.sleep(0)
    viewer.open.set()
    async with asyncio.timeout(30):
        while not viewer.overtook:
            await asyncio.sleep(0)
    assert core.fanout.subscribe(Viewer(), where, since=1).recovered is False


async def test_a_reader_of_a_channel_that_is_forgotten_does_not_sleep_on_it(open_core):
    core, viewer = await open_core(keep_days=1e-9, keep_events=0, keep_bytes=0), Viewer()
    where = put(core)
    await core.journal.flushed()
    core.fanout.subscribe(viewer, where)
    viewer.open.clear()
    put(core)
    await core.journal.flushed()
    await asyncio.sleep(0.01)
    await Retention(core.journal, core.journal.settings).prune()
    assert core.journal.get("session:1") is None
    viewer.open.set()
    async with asyncio.timeout(30):
        while not viewer.overtook:
            await asyncio.sleep(0)


async def test_leaving_in_the_middle_of_a_page_is_the_end(open_core):
    core, viewer = await open_core(ring_bytes=1_000), Viewer()
    where = put(core, count=50, size=500)
    await core.journal.flushed()
    core.fanout.subscribe(viewer, where, since=0)
    asking = core.store.read
    asked = asyncio.Event()

    async def slow(query):
        asked.set()
        found = await asking(query)
        await asyncio.sleep(0.01)
        return found

    core.store.read = slow
    await asyncio.wait_for(asked.wait(), 30)
    core.fanout.leave(viewer)
    async with asyncio.timeout(30):
        while viewer.chasing:
            await asyncio.sleep(0.001)
    core.store.read = asking
    assert viewer.got == []
    assert not where.followers


async def test_a_database_that_cannot_be_read_ends_the_reader_and_not_silently(open_core):
    core, viewer = await open_core(ring_bytes=1_000), Viewer()
    where = put(core, count=50, size=500)
    await core.journal.flushed()
    asking = core.store.read

    async def broken(_):
        raise sqlite3.OperationalError("disk I/O error")

    core.store.read = broken
    core.fanout.subscribe(viewer, where, since=0)
    async with asyncio.timeout(30):
        while not viewer.overtook:
            await asyncio.sleep(0)
    core.store.read = asking


@pytest.mark.parametrize(
    ("since", "epoch", "recovered", "first"),
    [
        (None, None, True, None),
        (None, "same", True, None),
        (None, "other", False, None),
        (0, None, True, 11),
        (0, "other", True, 11),
        (9, None, False, None),
        (10, None, True, 11),
        (15, "same", True, 16),
        (15, "other", False, None),
        (20, "same", True, None),
        (21, "same", False, None),
        (1 << 60, None, False, None),
    ],
)
async def test_where_a_subscription_begins_and_what_it_is_told(
    open_core, since, epoch, recovered, first
):
    core, viewer = await open_core(keep_events=10, ring_bytes=100), Viewer()
    where = put(core, count=20, size=100)
    await core.journal.flushed()
    await Retention(core.journal, core.journal.settings).prune()
    named = {None: None, "same": where.epoch, "other": "0123456789abcdef"}[epoch]
    told = core.fanout.subscribe(viewer, where, since=since, epoch=named)
    assert (told.channel, told.epoch, told.offset, told.oldest, told.recovered) == (
        *("session:1", where.epoch, 20, 11),
        recovered,
    )
    await caught_up(viewer)
    put(core)
    await core.journal.flushed()
    assert offsets(viewer) == list(range(first or 21, 22))


async def test_subscribing_again_changes_nothing_and_claims_nothing(open_core):
    core, viewer = await open_core(), Viewer()
    where = put(core, count=5)
    await core.journal.flushed()
    core.fanout.subscribe(viewer, where, since=2)
    assert core.fanout.subscribe(viewer, where).recovered
    assert core.fanout.subscribe(viewer, where, since=3).recovered
    assert not core.fanout.subscribe(viewer, where, since=1).recovered
    assert not core.fanout.subscribe(viewer, where, since=3, epoch="another").recovered
    await caught_up(viewer)
    assert offsets(viewer) == [3, 4, 5]


async def test_a_replay_that_meets_a_flood_joins_it_without_a_seam(open_core):
    core, viewers = await open_core(ring_bytes=20_000), [Viewer() for _ in range(5)]
    where = put(core, count=2_000, size=100)
    await core.journal.flushed()
    core.fanout.finish()
    for viewer in viewers:
        core.fanout.subscribe(viewer, where, since=0)
        put(core, count=300, size=100)
        await asyncio.sleep(0)
    for _ in range(50):
        put(core, count=10, size=100)
        await asyncio.sleep(0)
    await core.journal.flushed()
    core.fanout.finish()
    await caught_up(*viewers)
    for viewer in viewers:
        assert offsets(viewer) == list(range(1, 4_001))


async def test_the_end_of_a_connection_is_told_once_to_all_who_ask(open_core):
    core = await open_core()
    told = []

    def failing(_: str) -> None:
        raise RuntimeError("a listener that fails keeps nobody from hearing")

    core.fanout.on_gone(failing)
    core.fanout.on_gone(told.append)
    core.journal.append("shell:1", "shell.output", b"{}")
    one, two = Viewer(), Viewer()
    assert not core.fanout.followed("shell:1")
    core.fanout.subscribe(one, core.journal.get("shell:1"))
    core.fanout.follow_pattern(two, "shell:*")
    core.fanout.unsubscribe(one, core.journal.get("shell:1"))
    assert core.fanout.followed("shell:1")
    assert not told
    core.fanout.leave(two)
    core.fanout.leave(one)
    assert told == [two.id, one.id]
    assert core.fanout.ended(one.id)
    assert not core.fanout.ended(Viewer().id)
    assert not core.fanout.followed("shell:1")
    assert not core.fanout.followed("shell:none")
