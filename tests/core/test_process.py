"""Pipes of a child: pumps that wait for the disk, and a feed that waits for the child."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from daemon.core.errors import Conflict, Unavailable
from daemon.core.gate import Gate
from daemon.core.launcher import Launcher
from daemon.core.process import STDIN_BYTES, Feed, Process, Pump
from daemon.core.program import Program


class Disk:
    """Counts what is read as waiting for the disk, until it is told to write."""

    def __init__(self, limit):
        self.got = b""
        self.written = 0
        self.gate = Gate(lambda: len(self.got) - self.written, limit)

    def take(self, chunk):
        self.got += chunk

    def write(self):
        self.written = len(self.got)
        self.gate.open()


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    closed = set()

    def close(fd):
        if fd not in closed:
            closed.add(fd)
            os.close(fd)

    yield reading, writing, close
    close(reading)
    close(writing)


def fill(fd):
    """Write until the pipe takes no more; gives what it took."""
    size = 0
    while True:
        try:
            size += os.write(fd, b"x" * 65536)
        except BlockingIOError:
            return size


async def test_a_pump_reads_to_the_end(pipe):
    reading, writing, close = pipe
    disk = Disk(1 << 20)
    pump = Pump(reading, disk.gate, disk.take)
    assert disk.gate.pumps == 1
    os.write(writing, b"abc")
    os.write(writing, b"\xffdef")
    close(writing)
    await asyncio.wait_for(pump.ended, 30)
    assert disk.got == b"abc\xffdef"
    assert disk.gate.pumps == 0


async def test_a_pump_stops_reading_while_the_disk_is_behind_and_goes_on_after(pipe):
    reading, writing, close = pipe
    disk = Disk(20_000)
    pump = Pump(reading, disk.gate, disk.take)
    size = fill(writing)
    close(writing)
    async with asyncio.timeout(30):
        while not disk.gate.closed:
            await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(disk.got) <= 20_000 + disk.gate.share
    async with asyncio.timeout(30):
        while not pump.ended.done():
            disk.write()
            await asyncio.sleep(0)
    assert len(disk.got) == size


async def test_a_pump_that_is_finished_reads_what_is_there_and_ends_though_the_pipe_is_held(pipe):
    reading, writing, _ = pipe
    disk = Disk(1 << 30)
    pump = Pump(reading, disk.gate, disk.take)
    size = fill(writing)
    pump.finish()
    pump.finish()
    await asyncio.wait_for(pump.ended, 30)
    assert len(disk.got) == size
    os.write(writing, b"too late")
    await asyncio.sleep(0.01)
    assert len(disk.got) == size


async def test_a_pump_that_is_finished_while_the_disk_is_behind_loses_nothing(pipe):
    reading, writing, _ = pipe
    disk = Disk(10_000)
    pump = Pump(reading, disk.gate, disk.take)
    size = fill(writing)
    async with asyncio.timeout(30):
        while not disk.gate.closed:
            await asyncio.sleep(0)
    pump.finish()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not pump.ended.done()
    assert len(disk.got) < size
    async with asyncio.timeout(30):
        while not pump.ended.done():
            disk.write()
            await asyncio.sleep(0)
    assert len(disk.got) == size


async def test_a_closed_pump_is_not_called_back_by_the_gate(pipe):
    reading, writing, close = pipe
    disk = Disk(100)
    pump = Pump(reading, disk.gate, disk.take)
    fill(writing)
    async with asyncio.timeout(30):
        while not disk.gate.closed:
            await asyncio.sleep(0)
    got = len(disk.got)
    pump.close()
    pump.close()
    close(reading)
    disk.write()
    await asyncio.sleep(0.01)
    assert (len(disk.got), disk.gate.pumps) == (got, 0)


async def test_a_feed_writes_as_the_child_reads_in_order_and_ends(pipe):
    reading, writing, close = pipe
    feed = Feed(writing, lambda: close(writing))
    sent = b"".join(b"%06d" % n for n in range(100_000))
    for start in range(0, len(sent), 50_000):
        feed.write(sent[start : start + 50_000])
    feed.write(b"")
    feed.end()
    got = b""
    async with asyncio.timeout(30):
        while True:
            try:
                chunk = os.read(reading, 10_000)
            except BlockingIOError:
                await asyncio.sleep(0)
                continue
            if not chunk:
                break
            got += chunk
    assert got == sent


async def test_a_feed_is_bounded_and_has_room_again_when_the_child_reads(pipe):
    reading, writing, close = pipe
    feed = Feed(writing, lambda: close(writing))
    taken = 0
    refused = None
    while refused is None:
        try:
            feed.write(b"x" * 100_000)
            taken += 100_000
        except Unavailable as error:
            refused = error.message
    assert "is not reading its input" in refused
    assert taken <= STDIN_BYTES + 200_000
    async with asyncio.timeout(30):
        while taken:
            try:
                taken -= len(os.read(reading, 1 << 20))
            except BlockingIOError:
                await asyncio.sleep(0)
    feed.write(b"more")
    feed.close()


async def test_a_child_that_closes_its_input_ends_the_feed_without_a_failure(pipe):
    reading, writing, close = pipe
    feed = Feed(writing, lambda: close(writing))
    close(reading)
    feed.write(b"for nobody")
    with pytest.raises(Conflict, match="has ended"):
        feed.write(b"more")
    feed.end()
    feed.close()


async def test_a_feed_whose_child_goes_away_in_the_middle_lets_go(pipe):
    reading, writing, close = pipe
    ended = asyncio.Event()
    feed = Feed(writing, lambda: (close(writing), ended.set()))
    feed.write(b"x" * STDIN_BYTES)
    await asyncio.sleep(0)
    close(reading)
    await asyncio.wait_for(ended.wait(), 30)


async def test_nothing_is_taken_after_the_end(pipe):
    _, writing, close = pipe
    feed = Feed(writing, lambda: close(writing))
    feed.end()
    feed.end()
    with pytest.raises(Conflict):
        feed.write(b"more")


def program(script, *, stdin=False):
    return Program(argv=["sh", "-c", script], cwd="/", env={"PATH": os.defpath}, stdin=stdin)


@pytest.fixture
async def launcher():
    async with Launcher() as made:
        yield made


async def test_a_process_hands_over_both_streams_and_its_exit(launcher):
    got = []
    gate = Gate(lambda: 0, 1 << 20)
    child = await launcher.launch(program("echo out; echo err >&2; exit 9"))
    process = Process.on_pipes(child, gate, lambda *chunk: got.append(chunk))
    await asyncio.wait([process.exited])
    assert (await process.finish(1.0)).code == 9
    assert sorted(got) == [("stderr", b"err\n"), ("stdout", b"out\n")]
    assert gate.pumps == 0


async def test_a_process_takes_input(launcher):
    got = []
    gate = Gate(lambda: 0, 1 << 20)
    child = await launcher.launch(program("cat", stdin=True))
    process = Process.on_pipes(child, gate, lambda _, chunk: got.append(chunk))
    process.feed.write(b"hello\n")
    process.feed.end()
    await asyncio.wait([process.exited])
    await process.finish(1.0)
    assert got == [b"hello\n"]


async def test_a_stop_kills_what_does_not_heed_it(launcher):
    ready = asyncio.Event()
    child = await launcher.launch(program("trap '' TERM; echo ready; while :; do sleep 1; done"))
    process = Process.on_pipes(child, Gate(lambda: 0, 1 << 20), lambda *_: ready.set())
    await ready.wait()
    await asyncio.wait_for(process.stop(signal.SIGTERM, 0.1), 30)
    assert (await process.finish(1.0)).signal == signal.SIGKILL
