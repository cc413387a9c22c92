"""Journal, rings and cursors in any interleaving: exact and contiguous, or not `recovered`."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import AsyncExitStack

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import DURABLE

from daemon.core import frames
from daemon.core.fanout import Fanout, Subscriber
from daemon.core.journal import Journal, JournalSettings
from daemon.core.retention import Retention
from daemon.core.store import Store
from daemon.core.supervisor import Supervisor

CHANNELS = ("session:1", "session:2", "project:1", "shell:1")


class Viewer(Subscriber):
    """A subscriber whose socket the test opens and closes."""

    def __init__(self):
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()
        self.gone = False
        self.got = []
        self.out = []
        self.overtook = set()

    def has_room(self):
        return self.open.is_set()

    def take(self, batch):
        assert self.open.is_set() or batch.log in self.behind
        self.out.append((batch.log.name, batch.first, batch.joined))

    def push(self):
        for name, first, joined in self.out:
            for number, body in enumerate(split(joined), first):
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
        self.gone = True
        self.open.set()


def split(joined):
    """Take joined frames apart again."""
    while joined:
        size, head = joined[1], 2
        if size == 126:
            size, head = int.from_bytes(joined[2:4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(joined[2:10], "big"), 10
        yield joined[head : head + size]
        joined = joined[head + size :]


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

    async def close(self):
        for client in self.clients:
            client.viewer.gone = True
            client.viewer.open.set()
        await self.stack.aclose()

    def publish(self, channel, count, size):
        for _ in range(count):
            number = len(self.published[channel])
            data = {"n": number, "x": "x" * size}
            self.published[channel].append(data)
            self.journal.append(channel, "t.e", frames.encode(data))

    async def settle(self):
        await self.journal.flushed()
        await asyncio.sleep(0)
        self.fanout.finish()

    async def restart(self, *, crash):
        """Close and open again; a crash goes on from the files as they were in the middle."""
        await self.settle()
        if crash:
            copy = self.folder / "copy"
            copy.mkdir()
            for file in self.folder.glob("agentcmd.db*"):
                shutil.copy(file, copy)
        for client in self.clients:
            self.fanout.leave(client.viewer)
            client.viewer.gone = True
            client.viewer.open.set()
        await self.stack.aclose()
        if crash:
            for file in (self.folder / "copy").iterdir():
                shutil.move(file, self.folder / file.name)
            (self.folder / "copy").rmdir()
        for client in self.clients:
            client.check()
        self.published["shell:1"].clear()  # ephemeral: it begins anew, under another epoch
        await self.open()
        for client in self.clients:
            client.reconnect()


class Client:
    """One client that resumes: per channel the last offset and epoch, and all that it has seen."""

    def __init__(self, model):
        self.model = model
        self.viewer = Viewer()
        self.places = {}

    def reconnect(self):
        self.check()
        self.model.fanout.leave(self.viewer)
        self.viewer.gone = True
        self.viewer.open.set()
        self.viewer = Viewer()
        for channel in list(self.places):
            self.subscribe(channel)

    def subscribe(self, channel, since=None):
        where = self.model.journal.get(channel)
        if where is None:
            self.places.pop(channel, None)
            return
        if where in self.viewer.channels:
            return
        last, epoch = self.places.get(channel, (since, None))
        told = self.model.fanout.subscribe(self.viewer, where, since=last, epoch=epoch)
        start = last if told.recovered and last is not None else told.offset
        if told.recovered and last == 0:
            start = min(told.oldest - 1, told.offset)
        if not told.recovered:
            honest = (
                epoch not in (None, told.epoch)
                or (last is not None and last < told.oldest - 1)
                or (last is not None and last > told.offset)
            )
            assert honest, (last, epoch, told)
        self.places[channel] = (start, told.epoch)

    def check(self):
        """Each channel's events follow each other from where the subscription began."""
        for name, offset, data in self.viewer.got:
            last, epoch = self.places[name]
            assert offset == last + 1, f"{name}: {offset} after {last}"
            assert data == self.model.published[name][offset - 1]
            self.places[name] = (offset, epoch)
        self.viewer.got.clear()


channels = st.sampled_from(CHANNELS)
clients = st.integers(0, 2)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), channels, st.integers(1, 60), st.sampled_from([0, 50, 1500])),
        st.tuples(st.just("subscribe"), clients, channels, st.sampled_from([None, 0, 1, 7])),
        st.tuples(st.just("unsubscribe"), clients, channels),
        st.tuples(st.just("stall"), clients),
        st.tuples(st.just("go on"), clients),
        st.tuples(st.just("reconnect"), clients),
        st.tuples(st.just("turn"), st.integers(1, 5)),
        st.tuples(st.just("settle")),
        st.tuples(st.just("prune")),
        st.tuples(st.just("restart"), st.booleans()),
    ),
    max_size=25,
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
        async with asyncio.timeout(10):
            while any(c.viewer.behind and not c.viewer.gone for c in model.clients):
                await asyncio.sleep(0)
        for client in model.clients:
            client.check()
            if not client.viewer.gone:
                for channel, (last, _) in client.places.items():
                    where = model.journal.get(channel)
                    if where in client.viewer.channels:
                        assert last == where.head, "a subscriber sleeps behind the head"
    finally:
        await model.close()


async def do(model, what, *args):  # noqa: C901  # one step a case
    match what:
        case "publish":
            model.publish(*args)
        case "subscribe":
            model.clients[args[0]].subscribe(args[1], args[2])
        case "unsubscribe":
            client, where = model.clients[args[0]], model.journal.get(args[1])
            client.check()
            if where is not None and where in client.viewer.channels:
                model.fanout.unsubscribe(client.viewer, where)
                client.places.pop(args[1])
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
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(plan=steps)
def test_any_interleaving_gives_exact_sequences_or_says_so(tmp_path_factory, plan):
    asyncio.run(live(tmp_path_factory.mktemp("journal"), plan))
