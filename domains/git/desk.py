"""Where git operations are taken in: given a repository, queued, told of, cleaned up after."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import structlog
from msgspec import Meta

from daemon.core.bus import EventBus
from daemon.core.calendar import Calendar
from daemon.core.commands import Caller
from daemon.core.errand import Asked, Ended, Errands
from daemon.core.errors import AgentcmdError, BadRequest, Conflict, NotFound
from daemon.core.events import Command
from daemon.core.ids import new_id
from daemon.core.journal import Journal
from domains.git.blocking import require_openable
from domains.git.configuration import Configurations, Use
from domains.git.events import (
    OperationCompleted,
    OperationFailed,
    OperationStarted,
)
from domains.git.locks import leave_no_locks
from domains.git.looks import Looks
from domains.git.programs import environment
from domains.git.repository import begun, look_around, look_up
from domains.git.turns import Turns
from domains.git.work import Work

if TYPE_CHECKING:
    from domains.git.once import Once

__all__ = ["WORKTREES", "Desk", "GitCommand", "OperationId", "Projects", "Work"]

log = structlog.get_logger(__name__)

OperationId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.\-]{1,128}$")]
"""What may be the id of an operation: what may be that of a channel or a task."""

WORKTREES = "worktrees"
"""Folder of the state dir in which each project has a folder with its worktrees."""


class Projects(Protocol):
    """What git needs of the projects."""

    def knows(self, project_id: str) -> bool:
        """Tell whether there is such a project."""

    def root(self, project_id: str) -> str:
        """Give the folder of a project; NotFound for an unknown one."""

    def trusts(self, project_id: str) -> bool:
        """Tell whether what a project's own files say may be run."""


class GitCommand(Command, kw_only=True):
    """One git operation in one project; `operation_id` is the client's choice, else ours."""

    project_id: str
    operation_id: OperationId | None = None
    worktree: OperationId | None = None


class Desk:
    """What all git operations share."""

    def __init__(
        self,
        *,
        bus: EventBus,
        journal: Journal,
        errands: Errands,
        projects: Projects,
        calendar: Calendar,
        state_dir: Path,
    ) -> None:
        """Work in these projects, by these errands; the calendar says what is old."""
        self.calendar = calendar
        self.state_dir = state_dir.resolve()
        self.worktrees = self.state_dir / WORKTREES
        self.bus = bus
        self.errands = errands
        self.projects = projects
        self.changed: Callable[[str], None] = lambda _: None
        self._journal = journal
        self.configurations = Configurations(self._listed)
        self._turns = Turns()
        self._at_work: dict[str, Work] = {}
        self.looks = Looks(errands.run_timeout)
        self.once: dict[str, Once] = {}

    @asynccontextmanager
    async def at_work(
        self, command: GitCommand, caller: Caller, *, needs_repository: bool = True
    ) -> AsyncIterator[Work]:
        """Open the work on one command: one that changes something has the repository for itself.

        What it raises is told as its failure. One that only reads is told on no channel, unless it
        has an id.
        """
        info = command.__command__
        reads = info.action == "read"
        root = self.root_of(command, needs_repository=needs_repository)
        if command.operation_id in self._at_work:
            raise Conflict(f"the operation {command.operation_id} is under way; choose another id")
        work = Work(
            self,
            id_=command.operation_id or new_id(),
            name=info.name.partition(".")[2],
            project_id=command.project_id,
            root=root,
            user=caller.sub,
            trusted=self.projects.trusts(command.project_id),
            reads=reads,
        )
        work.once = self.once.get(work.id)
        told = not reads or command.operation_id is not None
        self._at_work[work.id] = work
        try:
            async with AsyncExitStack() as stack:
                if told:
                    await stack.enter_async_context(self._told(work))
                if not reads:  # in the order in which they came, whatever a look takes
                    await stack.enter_async_context(self._turns.turn(root, work.called_off))
                if needs_repository or await begun(work.root):
                    await self.open(work)
                if command.worktree is not None:
                    await self._require_ours(work)
                if not reads:
                    stack.callback(self.changed, work.project_id)
                if not reads and needs_repository:
                    turn = self._turns.turn(work.repository.common_dir, work.called_off)
                    await stack.enter_async_context(turn)
                    await stack.enter_async_context(leave_no_locks(work.repository))
                yield work
        finally:
            del self._at_work[work.id]
            if told:
                await self._journal.flushed()

    def root_of(self, command: GitCommand, *, needs_repository: bool = True) -> str:
        """Give the work tree that a command is about: the project's own, or one of its others."""
        root = self.projects.root(command.project_id)
        if command.worktree is None:
            return root
        if not needs_repository:
            raise BadRequest("a repository is made in the project's own folder: leave worktree out")
        return str(self.worktrees / command.project_id / command.worktree)

    async def _require_ours(self, work: Work) -> None:
        """Refuse a folder among the worktrees that is of another repository than the project's."""
        own = await look_up(self.projects.root(work.project_id), trusted=work.trusted)
        if own.common_dir != work.repository.common_dir:
            raise Conflict(f"{work.root} is no worktree of this project's repository")

    def cancel(self, project_id: str, operation_id: str) -> Work:
        """End an operation, whether it waits, runs a process or is between two; else NotFound."""
        work = self._at_work.get(operation_id)
        if work is None or work.project_id != project_id:
            raise NotFound(f"no operation {operation_id[:80]!r} is under way there; see git.list")
        work.call_off()
        return work

    def __iter__(self) -> Iterator[Work]:
        """Go over the operations under way."""
        return iter(list(self._at_work.values()))

    def look(self, project_id: str, *, root: str | None = None) -> Work:
        """Return a look of our own, told to nobody; `root` is another work tree of the project."""
        return self._ours(project_id, root or self.projects.root(project_id), reads=True)

    @asynccontextmanager
    async def quietly(
        self, project_id: str, *, root: str | None = None, use: Use = Use.ALL
    ) -> AsyncIterator[Work]:
        """Open a work that changes something on our own behalf, in its turn; nobody is told of it.

        Conflict where the project is no repository, or one that has git run something.
        """
        work = self._ours(project_id, root or self.projects.root(project_id), reads=False)
        await self.open(work, use=use)
        async with (
            self._turns.turn(work.repository.common_dir, work.called_off),
            leave_no_locks(work.repository),
        ):
            try:
                yield work
            finally:
                self.changed(project_id)

    def _ours(self, project_id: str, root: str, *, reads: bool) -> Work:
        return Work(
            self,
            id_=new_id(),
            name="look" if reads else "quiet",
            project_id=project_id,
            root=root,
            user="daemon",
            trusted=self.projects.trusts(project_id),
            reads=reads,
            told=False,
        )

    async def open(self, work: Work, *, around: bool = False, use: Use | None = None) -> None:
        """Find the repository of a work, and see that it runs nothing of its own in this use.

        With `around` the work tree may be a folder in a repository, which is only read then.
        """
        find = look_around if around else look_up
        work.repository = await find(work.root, trusted=work.trusted)
        if not work.reads:
            await asyncio.to_thread(require_openable, work.repository)
        if not work.trusted:
            changes = not work.reads
            use = (Use.ALL if changes else Use.LOOKS) if use is None else use
            await self.configurations.require_harmless(work.repository, changes=changes, use=use)

    async def claim(self, id_: str, target: str) -> None:
        """Write down what an operation makes, for the daemon that would have to clean up."""
        self._journal.execute(
            "UPDATE git_operation SET target = :target WHERE id = :id", id=id_, target=target
        )
        await self._journal.flushed()

    @asynccontextmanager
    async def _told(self, work: Work) -> AsyncIterator[None]:
        about = {"project_id": work.project_id, "operation_id": work.id, "operation": work.name}
        began = time.monotonic()
        self._journal.execute(
            "INSERT INTO git_operation VALUES (:id, :project, :operation, :root, '', :started)",
            id=work.id,
            project=work.project_id,
            operation=work.name,
            root=work.root,
            started=time.time(),
        )
        self.bus.emit(OperationStarted(**about, user=work.user))
        code, message = "", ""
        try:
            yield
        except AgentcmdError as error:
            code = error.reason if isinstance(error, Ended) else error.code
            message = error.message
            raise
        except asyncio.CancelledError:
            code, message = "daemon_stopped", "the daemon stops"
            raise
        except BaseException:
            code, message = "internal", "the daemon failed here; its log says how"
            raise
        finally:
            taken = round((time.monotonic() - began) * 1000)
            self._journal.execute("DELETE FROM git_operation WHERE id = :id", id=work.id)
            if code:
                self.bus.emit(
                    OperationFailed(**about, code=code, message=message, duration_ms=taken)
                )
            else:
                self.bus.emit(OperationCompleted(**about, duration_ms=taken))
            log.info("git.operation", operation=work.name, id=work.id, code=code or "ok", ms=taken)

    async def _listed(self, path: str) -> bytes:
        """List one file of configuration, as git reads it."""
        finished = await self.errands.run(
            ["git", "config", "--file", path, "--no-includes", "--null", "--list"],
            Asked(new_id(), "global", "daemon"),
            cwd="/",
            env=environment(os.environ),
        )
        if finished.code:
            raise Conflict(f"git cannot read the configuration {path}: {finished.stderr[:300]}")
        return finished.stdout
