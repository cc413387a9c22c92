"""Runs git: each process a supervised task, its output collected, its progress told."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from daemon.core.environment import child_environment
from daemon.core.errors import AgentcmdError, Conflict, TooLarge, Unavailable
from daemon.core.program import Program
from daemon.core.task import Task, Tasks, TaskSettings

KIND = "git"
"""What its tasks are called, in `[task.kinds.git]` too."""

OUTPUT_BYTES = 64 << 20
"""Most output of one process that is collected; what is shown has lower limits of its own."""

ERROR_BYTES = 64 << 10
"""The end of what a process says on standard error is what explains it."""

ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": "true",
    "GIT_SEQUENCE_EDITOR": "true",
    "GIT_MERGE_AUTOEDIT": "no",
    "GIT_PAGER": "cat",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
    "GIT_PROXY_COMMAND": "",
    "LC_ALL": "C.UTF-8",
}
"""Nobody sits there to be asked, no transport runs a program of its own, and words are English."""

SSH = "ssh -o BatchMode=yes"
"""How ssh is called unless the daemon's environment says otherwise: it asks nobody either."""

_FAULT = ("GIT_CONFIG", "GIT_TRACE", "GIT_EXTERNAL_DIFF", "GIT_NAMESPACE", "GIT_INDEX")
"""What of the daemon's environment would change what git does or says."""

OPTIONS = (
    *("-c", "core.quotePath=false"),
    *("-c", "color.ui=false"),
    *("-c", "log.showSignature=false"),
    *("-c", "gc.autoDetach=false"),  # what goes on behind its back would be killed half-way
    *("-c", "maintenance.autoDetach=false"),
    *("-c", "protocol.ext.allow=never"),
    *("-c", "advice.detachedHead=false"),
)
"""Before every command: the same words and the same behaviour whatever a user has configured."""

_LINE = re.compile(rb"[\r\n]")


class Finished(NamedTuple):
    """What a process has said, and its exit code."""

    code: int
    stdout: bytes
    stderr: str


class Asked(NamedTuple):
    """For whom a process runs, and as part of what: its task has the operation's id."""

    operation_id: str
    channel: str
    user: str


class Programs:
    """Starts git processes below reapers, as everything else that runs."""

    def __init__(self, tasks: Tasks, settings: TaskSettings) -> None:
        """Run them as these tasks, with the limits of their kind."""
        self._tasks = tasks
        self._limits = settings.of(KIND)

    async def run(
        self,
        argv: Sequence[str],
        asked: Asked,
        *,
        cwd: str,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        limit: int = OUTPUT_BYTES,
        heard: Callable[[str], None] = lambda _: None,
        running: Callable[[Task | None], None] = lambda _: None,
    ) -> Finished:
        """Run one process to its end, whatever its exit code; `heard` gets lines of stderr.

        Conflict where somebody cancelled it, TooLarge where it says more than `limit`.
        """
        self._tasks.require_open()
        collector = _Collector(stdin, limit, heard)
        task = Task(
            id_=asked.operation_id,
            kind=KIND,
            channel=asked.channel,
            user=asked.user,
            program=Program(
                argv=argv,
                cwd=cwd,
                env={**environment(os.environ), **(env or {})},
                stdin=stdin is not None,
            ),
            owner=collector,
            limits=self._limits,
            apart=True,  # somebody waits for it; it is no work of its own to queue
        )
        collector.task = task
        running(task)
        self._tasks.start(task)
        try:
            await asyncio.shield(collector.over)
        except asyncio.CancelledError:
            task.stop()
            await asyncio.wait([collector.over])
            raise
        finally:
            running(None)
        return collector.finished()


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Build git's environment from the daemon's."""
    passed = {
        name: value
        for name, value in child_environment(environ).items()
        if not name.startswith(_FAULT)
    }
    return {"GIT_SSH_COMMAND": SSH, **passed, **ENVIRONMENT}


class _Collector:
    """The owner of one process's task."""

    def __init__(self, stdin: bytes | None, limit: int, heard: Callable[[str], None]) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task: Task | None = None
        self._stdin = stdin
        self._limit = limit
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
            for line in lines:
                self._heard(line.decode(errors="replace"))
            return
        self._size += len(data)
        if self._size <= self._limit:
            self._out.append(data)
        elif self.task is not None:
            self.task.stop(hard=False)

    def ended(self, task: Task) -> None:
        """Let go of who waits."""
        del task
        if not self.over.done():
            self.over.set_result(None)

    def finished(self) -> Finished:
        """Give what it said, or raise what kept it from its end."""
        task = self.task
        if task is None or task.reason is None:
            raise Unavailable("git did not run; try again")
        if self._size > self._limit:
            raise TooLarge(f"git says more than {self._limit} bytes to that; ask for less of it")
        if task.failure is not None:
            raise task.failure
        exit_ = task.exit
        if task.reason != "exited" or exit_ is None or exit_.code is None:
            raise Ended(task.reason)
        return Finished(exit_.code, b"".join(self._out), self._errors.decode(errors="replace"))


WHY = {
    "cancelled": "the operation was cancelled",
    "timeout": "git took longer than [task.kinds.git] allows; ask for less, or raise the limit",
    "silent": "git was silent for longer than [task.kinds.git] allows",
    "daemon_stopped": "the daemon stops; try again when it is back",
    "oom": "git needs more memory than [task.kinds.git] allows",
    "signaled": "git was killed by a signal that nobody here has sent; try again",
    "lost": "git was lost; try again",
}


class Ended(Conflict):
    """The process did not come to its own end; `reason` is the task's."""

    def __init__(self, reason: str) -> None:
        """Say why."""
        super().__init__(WHY.get(reason, f"git ended: {reason}"), reason=reason)
        self.reason = reason


def code_of(error: AgentcmdError) -> str:
    """Give the word for `git.operation.failed`."""
    return error.reason if isinstance(error, Ended) else error.code
