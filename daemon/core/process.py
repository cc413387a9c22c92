"""One child as the daemon sees it: pumps for its output, a feed for its input, a stop that ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, Self, cast

from daemon.core.child import Child, Exit
from daemon.core.errors import Conflict, Unavailable
from daemon.core.gate import READ_BYTES, Gate

FIRST_READ = 8 << 10
"""Bytes of a pump's first read; later ones are as large as handling them is quick."""

LEAST_READ = 1 << 10
"""Bytes that are read however slowly they are handled."""

HANDLING = 0.008
"""Seconds for which the handling of one read may hold the loop; see `Pump`."""

STDIN_BYTES = 1 << 20
"""Input that may wait for a child that does not read it."""

STDIN_WRITE = 64 << 10
"""Bytes of one write to a child's stdin; a pipe takes what fits."""

Output = Callable[[str, bytes], None]


class Pump:
    """Reads one pipe as it fills, unless the gate is closed, until its end.

    A read holds as many bytes as are handled within `HANDLING`: 64 KiB are one call for text, and
    tens of thousands of lines for what parses lines.
    """

    def __init__(self, fd: int, gate: Gate, data: Callable[[bytes], None]) -> None:
        """Begin to read; `data` gets every chunk."""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._fd = fd
        self._gate = gate
        self._data = data
        self._final = False
        self._step = FIRST_READ
        gate.pumps += 1
        self._loop.add_reader(fd, self._read)

    def finish(self) -> None:
        """Read what is in the pipe now and end, though somebody may still hold the other side."""
        if not self.ended.done():
            self._final = True
            self._loop.remove_reader(self._fd)
            self._gate.forget(self._resume)
            self._read()

    def close(self) -> None:
        """Stop reading at once."""
        if not self.ended.done():
            self._loop.remove_reader(self._fd)
            self._gate.forget(self._resume)
            self._gate.pumps -= 1
            self.ended.set_result(None)

    def _read(self) -> None:
        if self.ended.done():
            return
        try:
            chunk = os.read(self._fd, min(self._step, self._gate.share))
        except BlockingIOError:
            if self._final:
                self.close()
            return
        except OSError:
            chunk = b""
        if not chunk:
            self.close()
            return
        began = self._loop.time()
        self._data(chunk)
        self._adapt(len(chunk), self._loop.time() - began)
        if self._gate.closed:
            self._loop.remove_reader(self._fd)
            self._gate.wait(self._resume)
        elif self._final:
            self._loop.call_soon(self._read)

    def _adapt(self, size: int, took: float) -> None:
        """Choose the size of the next read by how long the last one was handled."""
        if took > HANDLING:
            self._step = max(LEAST_READ, min(self._step, size) // 2)
        elif took < HANDLING / 4 and size == self._step:
            self._step = min(READ_BYTES, self._step * 2)

    def _resume(self) -> None:
        if self._final:
            self._loop.call_soon(self._read)
        elif not self.ended.done():
            self._loop.add_reader(self._fd, self._read)


class Feed:
    """Writes to a child's input as it reads, from a bounded queue."""

    def __init__(
        self,
        fd: int,
        close: Callable[[], None],
        *,
        limit: int = STDIN_BYTES,
        step: int = STDIN_WRITE,
    ) -> None:
        """Write to a descriptor that `close` closes, at most `step` bytes at a time."""
        self._loop = asyncio.get_running_loop()
        self._fd = fd
        self._close = close
        self._limit = limit
        self._step = step
        self._queue: deque[memoryview] = deque()
        self._size = 0
        self._ending = False
        self._waits = False
        self._closed = False

    def write(self, data: bytes) -> None:
        """Queue input; Conflict after its end, Unavailable while the child does not read."""
        if self._ending or self._closed:
            raise Conflict("the program's standard input has ended")
        if self._size + len(data) > self._limit and self._size:
            raise Unavailable(
                f"the program is not reading its input ({self._size} bytes wait); try again later"
            )
        self._queue.append(memoryview(data))
        self._size += len(data)
        self._drain()

    def end(self) -> None:
        """Close the input after what is queued."""
        self._ending = True
        self._drain()

    def close(self) -> None:
        """Close the input now."""
        if not self._closed:
            self._closed = True
            self._loop.remove_writer(self._fd)
            self._close()
            self._queue.clear()
            self._size = 0

    def _drain(self) -> None:
        if self._closed:
            return
        try:
            while self._queue:
                first = self._queue[0]
                written = os.write(self._fd, first[: self._step])
                self._size -= written
                if written == len(first):
                    self._queue.popleft()
                else:
                    self._queue[0] = first[written:]
        except BlockingIOError:
            self._waits = True
            self._loop.add_writer(self._fd, self._drain)
            return
        except OSError:
            self.close()  # the child has closed its side; what it did not want is gone
            return
        if self._waits:
            self._waits = False
            self._loop.remove_writer(self._fd)
        if self._ending:
            self.close()


class Reader(Protocol):
    """What reads one descriptor until its end."""

    ended: asyncio.Future[None]

    def finish(self) -> None:
        """Read what is there now, and end."""

    def close(self) -> None:
        """Stop reading at once."""


class Process:
    """A running program: its output goes to `output(stream, chunk)` until everything has ended."""

    def __init__(self, child: Child, feed: Feed | None, readers: Sequence[Reader]) -> None:
        """Take over a child, and what writes to it and reads from it."""
        self.pid = child.pid
        self.feed = feed
        self._child = child
        self._readers = readers

    @classmethod
    def on_pipes(cls, child: Child, gate: Gate, output: Output) -> Self:
        """Take over a child whose streams are pipes."""
        stdin, stderr = child.stdin, cast(int, child.stderr)
        return cls(
            child,
            Feed(stdin, lambda: child.close_stream(stdin)) if stdin is not None else None,
            [
                Pump(child.stdout, gate, lambda chunk: output("stdout", chunk)),
                Pump(stderr, gate, lambda chunk: output("stderr", chunk)),
            ],
        )

    @property
    def exited(self) -> asyncio.Future[Exit]:
        """Give the leader's end, as its reaper reports it; pipes never tell it."""
        return self._child.exited

    async def stop(self, number: int, grace: float) -> None:
        """Ask the leader's group with a signal, and kill the whole tree after the grace period."""
        self._child.signal(number)
        self._child.signal(signal.SIGCONT)  # a stopped process acts on nothing else
        await asyncio.wait([self._child.exited], timeout=grace)
        if not self._child.exited.done():
            self.kill()
            await asyncio.wait([self._child.exited])

    def kill(self) -> None:
        """Kill everything below the reaper."""
        self._child.kill()

    async def finish(self, drain: float) -> Exit:
        """After the leader's exit: drain its output, kill what it left behind, close.

        `drain` (seconds) bounds the wait for somebody else who holds the pipes; what is in them
        is always read.
        """
        await asyncio.wait([reader.ended for reader in self._readers], timeout=drain)
        if not self._child.empty.done():
            self._child.kill()
            await asyncio.wait([self._child.empty])
        for reader in self._readers:
            reader.finish()
        await asyncio.wait([reader.ended for reader in self._readers])
        self.close()
        return self._child.end()

    def close(self) -> None:
        """Let go of everything; what still runs below is killed by its reaper."""
        for reader in self._readers:
            reader.close()
        if self.feed is not None:
            self.feed.close()
        self._child.close()
