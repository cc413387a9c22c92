"""What the daemon holds of a program, told by a reaper that the test plays."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket

import pytest

from daemon.core.child import Child, Exit, Unheard
from daemon.core.errors import SpawnFailed

EXITED = {
    "event": "exited",
    "code": 3,
    "signal": None,
    "userSeconds": 0.5,
    "systemSeconds": 0.25,
    "maxRssBytes": 4096,
}


class Reaper:
    """The other end of a child's control socket."""

    def __init__(self):
        self.ours, theirs = socket.socketpair()
        self.ours.setblocking(False)
        theirs.setblocking(False)
        self.pipes = [os.pipe() for _ in range(3)]
        streams = (self.pipes[0][1], self.pipes[1][0], self.pipes[2][0])
        self.gone = []
        self.child = Child(theirs, streams, self.gone.append)

    def say(self, **event):
        self.ours.send(json.dumps(event).encode() + b"\n")

    def heard(self):
        with self.ours.dup() as copy:
            copy.setblocking(False)
            try:
                return [json.loads(line) for line in copy.recv(65536).splitlines()]
            except BlockingIOError:
                return []

    def close(self):
        self.child.abandon()
        self.ours.close()
        for pair, ours in zip(self.pipes, (1, 0, 0), strict=True):
            os.close(pair[1 - ours])


@pytest.fixture
async def reaper():
    made = Reaper()
    yield made
    made.close()


async def test_it_begins_exits_and_is_empty_as_its_reaper_says(reaper):
    child = reaper.child
    reaper.say(event="starting", reaper=0)
    reaper.say(event="started", pid=2**22 + 5, startTime=1)
    await asyncio.wait_for(child.begun(), 30)
    assert child.pid == 2**22 + 5
    reaper.say(**EXITED)
    found = await asyncio.wait_for(asyncio.shield(child.exited), 30)
    assert found == Exit(3, None, 0.5, 0.25, 4096)
    assert not child.empty.done()
    assert reaper.gone == []
    reaper.say(event="empty")
    await asyncio.wait_for(asyncio.shield(child.empty), 30)
    assert reaper.gone == [child]


async def test_words_cut_anywhere_are_understood(reaper):
    said = b"".join(
        json.dumps(one).encode() + b"\n"
        for one in ({"event": "started", "pid": 2**22 + 5, "startTime": 1}, EXITED)
    )
    for n in range(len(said)):
        reaper.ours.send(said[n : n + 1])
        await asyncio.sleep(0)
    found = await asyncio.wait_for(asyncio.shield(reaper.child.exited), 30)
    assert found.code == 3


async def test_a_program_that_cannot_start_is_a_sentence_with_its_errno(reaper):
    reaper.say(event="failed", errno=2, code="not_found", message="There is no such program.")
    with pytest.raises(SpawnFailed, match="no such program") as caught:
        await asyncio.wait_for(reaper.child.begun(), 30)
    assert caught.value.details == {"errno": 2, "reason": "not_found"}


async def test_a_request_that_went_under_before_a_reaper_was_there_may_be_asked_again(reaper):
    reaper.ours.shutdown(socket.SHUT_RDWR)
    with pytest.raises(Unheard):
        await asyncio.wait_for(reaper.child.begun(), 30)


async def test_a_reaper_that_dies_while_it_starts_a_program_is_not_asked_again(reaper):
    reaper.say(event="starting", reaper=2**22 + 1)
    reaper.ours.shutdown(socket.SHUT_RDWR)
    with pytest.raises(SpawnFailed, match="reaper was killed"):
        await asyncio.wait_for(reaper.child.begun(), 30)


async def test_the_end_of_its_reaper_is_the_end_seen_by_nobody(reaper):
    reaper.say(event="started", pid=2**22 + 5, startTime=1)
    await asyncio.wait_for(reaper.child.begun(), 30)
    reaper.ours.shutdown(socket.SHUT_RDWR)
    found = await asyncio.wait_for(asyncio.shield(reaper.child.exited), 30)
    assert found == Exit(lost=True)
    assert reaper.child.empty.done()
    assert reaper.gone == [reaper.child]


async def test_orders_reach_the_reaper_and_a_reaper_that_is_gone_needs_none(reaper):
    reaper.child.signal(signal.SIGTERM)
    reaper.child.kill()
    assert reaper.heard() == [{"op": "signal", "signal": 15}, {"op": "kill"}]
    reaper.ours.shutdown(socket.SHUT_RDWR)
    await asyncio.wait_for(asyncio.shield(reaper.child.empty), 30)
    reaper.child.signal(signal.SIGTERM)
    reaper.child.kill()
    reaper.child.close()


async def test_a_reaper_that_does_not_read_blocks_nobody(reaper):
    for _ in range(3_000):
        reaper.child.signal(signal.SIGTERM)


async def test_streams_are_closed_once(reaper):
    child = reaper.child
    child.close_stream(child.stdin)
    child.close_stream(child.stdin)
    child.close_stream(None)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(child.stdin)
    child.close()
    child.close()
    assert reaper.ours.recv(1) == b""  # its lifeline is cut
    reaper.say(event="empty")  # and it is heard all the same
    await asyncio.wait_for(asyncio.shield(child.empty), 30)
