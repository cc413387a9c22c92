"""A supervised task: one program from the queue to its last byte, with a reason for its end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, Protocol, Self, cast

import structlog
from msgspec import field
from msgspec.structs import asdict, replace

from daemon.core.child import Child, Exit
from daemon.core.errors import AgentcmdError, Unavailable
from daemon.core.gate import Gate
from daemon.core.launcher import Launcher
from daemon.core.process import Process
from daemon.core.program import Program
from daemon.core.section import Bytes, Seconds, Section, described
from daemon.core.supervisor import Slots, Supervisor, Waiter
from daemon.core.terminal import TerminalProcess

log = structlog.get_logger(__name__)

END_TIMEOUT = 5.0
"""Seconds that killed tasks have to hand over their last output before it is given up."""

State = Literal["queued", "starting", "running", "stopping", "exited"]
Reason = Literal[
    "exited",
    "signaled",
    "cancelled",
    "timeout",
    "silent",
    "oom",
    "daemon_stopped",
    "spawn_failed",
    "lost",
]


class KindSettings(Section):
    """Tasks of one kind, as `session`; -1: as `[task]` says for all."""

    queue_timeout: Annotated[float, described("Time in the queue", ge=-1)] = -1.0
    run_timeout: Annotated[float, described("Time to run", ge=-1)] = -1.0
    silence_timeout: Annotated[float, described("Time without any output", ge=-1)] = -1.0
    stop_grace: Annotated[
        float, described("Time between the polite signal and the kill", ge=-1)
    ] = -1.0
    memory_bytes: Annotated[int, described("Memory of one", ge=-1)] = -1
    processes: Annotated[int, described("Processes of one", ge=-1)] = -1


class TaskSettings(Section):
    """Supervised programs. Times in seconds, 0 means no limit."""

    max_running: Annotated[int, described("Programs that run at once; more are queued", ge=1)] = 64
    queue_timeout: Annotated[Seconds, described("Time in the queue")] = 0.0
    start_timeout: Annotated[Seconds, described("Time to start")] = 10.0
    run_timeout: Annotated[Seconds, described("Time to run, unless the command says another")] = 0.0
    silence_timeout: Annotated[Seconds, described("Time without any output")] = 0.0
    stop_grace: Annotated[Seconds, described("Time between the polite signal and the kill")] = 5.0
    drain_timeout: Annotated[
        Seconds, described("Time for output after the exit while somebody holds the pipe")
    ] = 1.0
    input_bytes: Annotated[
        Bytes, described("Input that may wait for a terminal whose program does not read it")
    ] = 1 << 20
    pipe_bytes: Annotated[Bytes, described("Size of a child's pipes, where the kernel allows")] = (
        1 << 20
    )
    memory_bytes: Annotated[
        Bytes, described("Memory of one: of its tree where it has a cgroup, else of each process")
    ] = 0
    processes: Annotated[
        int,
        described("Processes of one where it has a cgroup, else of the user with all else", ge=0),
    ] = 0
    kinds: Annotated[dict[str, KindSettings], described("What is else for one kind")] = field(
        default_factory=dict
    )

    def of(self, kind: str) -> Self:
        """Give the limits of one kind."""
        own = self.kinds.get(kind)
        if own is None:
            return self
        said = {name: value for name, value in asdict(own).items() if value >= 0}
        return replace(self, **said)


class TaskOwner(Protocol):
    """The domain's side of a task: told of each step, in order, `ended` exactly once."""

    def queued(self, place: int) -> None:
        """Learn the place in the queue; 1 is next."""

    def started(self, task: Task) -> None:
        """Learn that the program runs."""

    def output(self, stream: str, data: bytes) -> None:
        """Take a chunk of `stdout` or `stderr`, or of the `terminal`."""

    def ended(self, task: Task) -> None:
        """Learn how it ended; nothing of it runs any more."""


class Task:
    """One program under supervision."""

    def __init__(
        self,
        *,
        id_: str,
        kind: str,
        channel: str,
        user: str,
        program: Program,
        owner: TaskOwner,
        limits: TaskSettings,
        stop_signal: int = signal.SIGTERM,
        lane: Slots | None = None,
        apart: bool = False,
        quiet: bool = False,
    ) -> None:
        """Describe a task that has not begun; `lane` limits its kind, besides the limit of all.

        One that is `apart` takes no slot: somebody sits there and waits for it. A `quiet` one is in
        the log only when debugging: what it is a part of is there.
        """
        self.id = id_
        self.kind = kind
        self.channel = channel
        self.user = user
        self.state: State = "queued"
        self.reason: Reason | None = None
        self.message = ""
        self.failure: AgentcmdError | None = None
        self.exit: Exit | None = None
        self.created_at = time.time()
        self.started_at: float | None = None
        self.process: Process | None = None
        self._quiet = False
        self._program = dataclasses.replace(
            program, memory_bytes=limits.memory_bytes, processes=limits.processes
        )
        self._owner = owner
        self._limits = limits
        self._stop_signal = stop_signal
        self._lane = lane
        self._apart = apart
        self._log = log.debug if quiet else log.info
        self._started = 0.0
        self._heard = 0.0
        self._stop: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._hard = False

    @property
    def pid(self) -> int | None:
        """Give the leader's pid once it runs."""
        return self.process.pid if self.process else None

    @property
    def duration(self) -> float:
        """Give the seconds since the program started, 0 before that."""
        return time.monotonic() - self._started if self._started else 0.0

    def stop(self, reason: Reason = "cancelled", *, hard: bool = False) -> None:
        """Ask the task to end, politely or at once; the first reason stays."""
        if self.state == "exited":
            return
        if not self._stop.done():
            self._stop.set_result(reason)
        if hard:
            self._hard = True
            if self.process is not None:
                self.process.kill()

    def expect_output(self, expected: bool) -> None:  # reads as it is meant
        """Say whether silence is a fault now; it is none of a program that waits for somebody."""
        self._quiet = not expected
        self._heard = time.monotonic()

    async def run(self, launcher: Launcher, slots: Slots, gate: Gate) -> None:
        """Live from queued to exited; the owner is told of the end whatever happens."""
        bound = structlog.contextvars.bound_contextvars(task=self.id)
        with bound:
            try:
                with contextlib.ExitStack() as held:
                    if await self._admitted(slots, held):
                        await self._in_slot(launcher, gate)
            except asyncio.CancelledError:
                self.reason = self.reason or "daemon_stopped"
                raise
            except Exception as error:
                log.exception("task.broke")
                self.reason, self.message = "lost", f"the daemon failed here: {error!r}"
            finally:
                if self.process is not None:
                    self.process.close()
                self._end()

    def never_ran(self) -> None:
        """End a task that was cancelled before its first step, unless it has ended."""
        if self.state != "exited":
            self.reason = "daemon_stopped"
            self._end()

    def _end(self) -> None:
        self.state = "exited"
        self._owner.ended(self)
        self._log("task.ended", kind=self.kind, reason=self.reason, exit=self.exit)

    async def _admitted(self, slots: Slots, held: contextlib.ExitStack) -> bool:
        """Get a slot of its lane and one of all; False when the task is to end instead."""
        for lane in () if self._apart else (self._lane, slots):
            if lane is None:
                continue
            waiter = lane.request(self.user, self._owner.queued)
            held.callback(lane.withdraw, waiter)
            if not await self._granted(waiter):
                return False
        return True

    async def _granted(self, waiter: Waiter) -> bool:
        """Wait for the slot; False when a stop or the deadline came first."""
        await asyncio.wait(
            [waiter.granted, self._stop],
            timeout=self._limits.queue_timeout or None,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if waiter.granted.done() and not self._stop.done():
            return True
        self.reason = self._stop.result() if self._stop.done() else "timeout"
        self.message = "it ended while it was queued"
        return False

    async def _in_slot(self, launcher: Launcher, gate: Gate) -> None:
        self.state = "starting"
        try:
            child = await launcher.launch(self._program)
        except AgentcmdError as error:
            self.reason, self.message, self.failure = "spawn_failed", error.message, error
            return
        self.process = self._attend(child, gate)
        self.state = "running"
        self.started_at = time.time()
        self._started = self._heard = time.monotonic()
        self._owner.started(self)
        self._log("task.started", kind=self.kind, pid=self.process.pid)
        if self._hard:
            self.process.kill()
        self.reason = await self._wait(self.process, gate)
        self.exit = await self.process.finish(self._limits.drain_timeout)
        if self.reason == "exited":
            self.reason = _natural(self.exit)
        if self.exit.refused_forks:
            log.warning("task.limited", kind=self.kind, refused_forks=self.exit.refused_forks)

    async def _wait(self, process: Process, gate: Gate) -> Reason:
        """Wait for the end, whoever brings it about."""
        while not process.exited.done() and not self._stop.done():
            reason, left = self._next_deadline()
            if left is not None and left <= 0:
                if reason == "silent" and (gate.closed or self._quiet):
                    self._heard = time.monotonic()  # the disk is behind, or nothing is expected
                    continue
                self.stop(reason)
                break
            await asyncio.wait(
                [process.exited, self._stop], timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
        if process.exited.done() and not self._stop.done():
            return "exited"
        self.state = "stopping"
        if not process.exited.done() and not self._hard:
            await process.stop(self._stop_signal, self._limits.stop_grace)
        await asyncio.wait([process.exited])
        process.kill()  # what the leader left behind was stopped with it
        return cast(Reason, self._stop.result())

    def _attend(self, child: Child, gate: Gate) -> Process:
        if self._program.terminal is None:
            return Process.on_pipes(child, gate, self._heard_from)
        return TerminalProcess(child, self._heard_from, input_bytes=self._limits.input_bytes)

    def _next_deadline(self) -> tuple[Reason, float | None]:
        now = time.monotonic()
        ends: list[tuple[float, Reason]] = []
        if self._limits.run_timeout:
            ends.append((self._started + self._limits.run_timeout - now, "timeout"))
        if self._limits.silence_timeout:
            ends.append((self._heard + self._limits.silence_timeout - now, "silent"))
        if not ends:
            return "timeout", None
        left, reason = min(ends)
        return reason, left

    def _heard_from(self, stream: str, data: bytes) -> None:
        self._heard = time.monotonic()
        self._owner.output(stream, data)


def _natural(exit_: Exit) -> Reason:
    if exit_.lost:
        return "lost"
    if exit_.oom_kills and (exit_.signal == signal.SIGKILL or exit_.code):
        return "oom"
    return "signaled" if exit_.signal is not None else "exited"


class Tasks:
    """Every supervised task of the daemon: started here, found here, stopped here."""

    def __init__(
        self,
        supervisor: Supervisor,
        launcher: Launcher,
        gate: Gate,
        *,
        limit: int,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        """Let at most `limit` programs run at once; `guard` refuses new ones by Unavailable."""
        self._guard = guard
        self.slots = Slots(limit)
        self._supervisor = supervisor
        self._launcher = launcher
        self._gate = gate
        self._tasks: dict[str, Task] = {}
        self._ends: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def __aenter__(self) -> Self:
        """Begin; the launcher is open already."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave nothing running."""
        await self.end()

    async def end(self) -> None:
        """Kill what still runs; output that the disk does not take is given up after a while."""
        try:
            async with asyncio.timeout(END_TIMEOUT):
                await self.stop_all(hard=True)
        except TimeoutError:
            log.error("tasks.given_up", tasks=len(self))
            await self._supervisor.cancel(set(self._ends))

    def close(self) -> None:
        """Let nothing new begin, because the daemon stops."""
        self._stopping = True

    @property
    def stopping(self) -> bool:
        """Tell whether the daemon stops."""
        return self._stopping

    def require_open(self) -> None:
        """Refuse, with Unavailable, what would come too late to be stopped with the others.

        Likewise while the machine has too little left for anything new.
        """
        if self._stopping:
            raise Unavailable("the daemon stops; try again when it is back")
        self._guard()

    def start(self, task: Task) -> Task:
        """Supervise a task from now to its end."""
        self._tasks[task.id] = task
        running = self._supervisor.start(
            task.run(self._launcher, self.slots, self._gate), name=f"{task.kind}:{task.id}"
        )
        self._ends.add(running)
        running.add_done_callback(lambda done: self._gone(done, task))
        return task

    def get(self, id_: str) -> Task | None:
        """Find a task that has not ended."""
        return self._tasks.get(id_)

    def __iter__(self) -> Iterator[Task]:
        """Go over the tasks that have not ended."""
        return iter(list(self._tasks.values()))

    def __len__(self) -> int:
        """Count the tasks that have not ended."""
        return len(self._tasks)

    async def idle(self) -> None:
        """Wait until no task is left."""
        while self._ends:
            await asyncio.wait(set(self._ends))

    async def stop_all(self, *, hard: bool = False) -> None:
        """Stop every task because the daemon stops, and wait until each tree is empty."""
        self.close()
        for task in self:
            task.stop("daemon_stopped", hard=hard)
        if self._ends:
            await asyncio.wait(set(self._ends))

    def _gone(self, done: asyncio.Task[None], task: Task) -> None:
        self._ends.discard(done)
        if self._tasks.get(task.id) is task:  # the next process of one operation has its id
            del self._tasks[task.id]
        task.never_ran()
