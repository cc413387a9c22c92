"""An errand: one program run to its end for what it prints, as a supervised task."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from daemon.core.errors import Conflict, TooLarge, Unavailable
from daemon.core.program import Program
from daemon.core.task import Task, Tasks, TaskSettings

OUTPUT_BYTES = 64 << 20
"""Most output of one errand that is collected; what is shown has lower limits of its own."""

ERROR_BYTES = 64 << 10
"""The end of what a program says on standard error is what explains it."""

HEARD_LINES = 200
"""Lines of one chunk that are heard, its last ones: progress is told by the newest."""

_LINE = re.compile(rb"[\r\n]")


class Finished(NamedTuple):
    """What a program has said, and its exit code; `cut` where it was ended before its end."""

    code: int
    stdout: bytes
    stderr: str
    cut: bool = False


class Asked(NamedTuple):
    """For whom an errand is run, and as part of what: the task has this id."""

    id: str
    channel: str
    user: str


class Watch(NamedTuple):
    """Looks at a program that runs, again and again: why it is held up, or nothing.

    `look` gets the pid that leads the program's session; `every` are the seconds between two looks.
    """

    every: float
    look: Callable[[int], Awaitable[str]]


class Errands:
    """Runs programs of one kind below reapers, as everything else that runs."""

    def __init__(self, tasks: Tasks, settings: TaskSettings, kind: str) -> None:
        """Run them as these tasks, with the limits of their kind."""
        self._tasks = tasks
        self._kind = kind
        self._limits = settings.of(kind)

    @property
    def run_timeout(self) -> float:
        """Return the seconds that each may take, 0 where that is not limited."""
        return self._limits.run_timeout

    async def run(
        self,
        argv: Sequence[str],
        asked: Asked,
        *,
        cwd: str,
        env: Mapping[str, str],
        stdin: bytes | None = None,
        limit: int = OUTPUT_BYTES,
        cut: bool = False,
        seconds: float | None = None,
        silence: float = 0.0,
        heard: Callable[[str], None] = lambda _: None,
        watch: Watch | None = None,
    ) -> Finished:
        """Run one program to its end, whatever its exit code; `heard` gets lines of stderr.

        TooLarge where it says more than `limit` bytes, Ended where it did not come to its own end.
        With `cut` more is no error: the program is ended there, and has said what it said so far;
        likewise after so many `seconds`. With `silence` it is ended where it says nothing for so
        many seconds; `silence_timeout` of the kind says another time. `watch` may end it as well.
        """
        self._tasks.require_open()
        known = self._tasks.get(asked.id)
        if known is not None and known.state != "exited" and known.kind != self._kind:
            raise Conflict(f"{asked.id} is the id of a {known.kind}; choose another one")
        collector = _Collector(stdin, limit, heard, cut=cut)
        limits = self._limits
        if silence and not limits.silence_timeout:
            limits = replace(limits, silence_timeout=silence)
        task = Task(
            id_=asked.id,
            kind=self._kind,
            channel=asked.channel,
            user=asked.user,
            program=Program(argv=argv, cwd=cwd, env=env, stdin=stdin is not None),
            owner=collector,
            limits=limits,
            apart=True,  # somebody waits for it; it is no work of its own to queue
            quiet=not silence,
        )
        collector.task = task
        self._tasks.start(task)
        try:
            if watch is not None:
                await _watched(task, collector.over, watch)
            else:
                await asyncio.wait([collector.over], timeout=seconds)
            if not collector.over.done():
                collector.late = True
                task.stop()
                await asyncio.shield(collector.over)
        except asyncio.CancelledError:
            task.stop()
            await asyncio.wait([collector.over])
            raise
        return collector.finished(argv[0])

    def stop(self, id_: str) -> None:
        """Ask the errand of an id to end, where one runs."""
        task = self._tasks.get(id_)
        if task is not None and task.kind == self._kind:
            task.stop()


WHY = {
    "cancelled": "it was cancelled",
    "timeout": "{name} took longer than [task] and its kind allow; ask for less, or allow more",
    "silent": "{name} was silent for longer than [task] and its kind allow",
    "daemon_stopped": "the daemon stops; try again when it is back",
    "oom": "{name} needs more memory than [task] and its kind allow",
    "signaled": "{name} was killed by a signal that nobody here has sent; try again",
    "lost": "{name} was lost; try again",
}


class Ended(Conflict):
    """The program did not come to its own end; `reason` is the task's."""

    def __init__(self, reason: str, name: str, why: str = "") -> None:
        """Say why."""
        super().__init__(why or WHY.get(reason, reason).format(name=name), reason=reason)
        self.reason = reason


async def _watched(task: Task, over: asyncio.Future[None], watch: Watch) -> None:
    """Wait for its end, or end it and raise Ended where it is held up for two looks."""
    before = ""
    while not over.done():
        await asyncio.wait([over], timeout=watch.every)
        if over.done() or task.pid is None:
            continue
        why = await watch.look(task.pid)
        if why and why == before and not over.done():
            task.stop()
            await asyncio.shield(over)
            raise Ended("timeout", "", why)
        before = why


class _Collector:
    """The owner of one process's task."""

    def __init__(
        self, stdin: bytes | None, limit: int, heard: Callable[[str], None], *, cut: bool
    ) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task: Task | None = None
        self.late = False
        self._stdin = stdin
        self._limit = limit
        self._cut = cut
        self._heard = heard
        self._out: list[bytes] = []
        self._size = 0
        self._errors = bytearray()
        self._line = b""

    def queued(self, place: int) -> None:
        """Never: it takes no slot."""

    def started(self, task: Task) -> None:
        """Give it its input."""
        if self._stdin is not None and task.process is not None and task.process.feed is not None:
            task.process.feed.write(self._stdin)
            task.process.feed.end()

    def output(self, stream: str, data: bytes) -> None:
        """Collect a chunk."""
        if stream == "stderr":
            self._errors += data
            del self._errors[:-ERROR_BYTES]
            *lines, self._line = _LINE.split(self._line + data)
            self._line = self._line[-ERROR_BYTES:]
            for line in lines[-HEARD_LINES:]:
                self._heard(line.decode(errors="replace"))
            return
        left = self._limit - self._size
        self._size += len(data)
        if left > 0:
            self._out.append(data[:left])
        if self._size > self._limit and self.task is not None:
            self.task.stop(hard=False)

    def ended(self, task: Task) -> None:
        """Let go of who waits."""
        del task
        if not self.over.done():
            self.over.set_result(None)

    def finished(self, name: str) -> Finished:
        """Give what it said, or raise what kept it from its end."""
        task = self.task
        if task is None or task.reason is None:
            raise Unavailable(f"{name} did not run; try again")
        if self._size > self._limit or (self.late and task.reason != "exited"):
            if self._cut or self.late:
                said = self._errors.decode(errors="replace")
                return Finished(0, b"".join(self._out), said, cut=True)
            raise TooLarge(f"{name} says more than {self._limit} bytes to that; ask for less")
        if task.failure is not None:
            raise task.failure
        exit_ = task.exit
        if task.reason != "exited" or exit_ is None or exit_.code is None:
            raise Ended(task.reason, name)
        return Finished(exit_.code, b"".join(self._out), self._errors.decode(errors="replace"))
