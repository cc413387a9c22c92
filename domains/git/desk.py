"""Where git operations are taken in: given a repository, queued, told of, cleaned up after."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Protocol

import structlog
from msgspec import Meta

from daemon.core.bus import EventBus
from daemon.core.commands import Caller
from daemon.core.errand import OUTPUT_BYTES, Asked, Ended, Errands, Finished
from daemon.core.errors import AgentcmdError, BadRequest, Conflict, NotFound
from daemon.core.events import Command
from daemon.core.ids import new_id
from daemon.core.journal import Journal
from domains.git.configuration import SWITCHED_OFF, Configurations
from domains.git.events import (
    OperationCompleted,
    OperationFailed,
    OperationProgress,
    OperationStarted,
    Progress,
)
from domains.git.failures import explained
from domains.git.hooks import wrapped
from domains.git.locks import leave_no_locks
from domains.git.looks import SECONDS, Looks
from domains.git.programs import OPTIONS, REMOTE, command_of, environment, ssh_command, variables
from domains.git.progress import Stage, parse_progress
from domains.git.repository import Repository, begun, look_around, look_up
from domains.git.turns import Turns

log = structlog.get_logger(__name__)

TOLD_EVERY = 0.1
"""Seconds between two words on the progress of one stage."""

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


class Work:
    """One operation at work: its git processes, one after the other."""

    def __init__(
        self,
        desk: Desk,
        *,
        id_: str,
        name: str,
        project_id: str,
        root: str,
        user: str,
        trusted: bool,
        reads: bool,
        told: bool = True,
    ) -> None:
        """Begin nothing yet; `repository` is set once it is known."""
        self.id = id_
        self.name = name
        self.project_id = project_id
        self.root = root
        self.user = user
        self.trusted = trusted
        self._desk = desk
        self.reads = reads
        self._tells = told and not reads
        self.called_off: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._repository: Repository | None = None
        self._takes_back = False
        self._switched: tuple[str, ...] = () if trusted else SWITCHED_OFF
        self._wrapped = False
        self._stage = ""
        self._told = 0.0

    @property
    def channel(self) -> str:
        """Give the channel that it is told on."""
        return f"git:project:{self.project_id}"

    @property
    def repository(self) -> Repository:
        """Give the repository that it works in."""
        if self._repository is None:
            raise LookupError(f"{self.name} has no repository")
        return self._repository

    @repository.setter
    def repository(self, found: Repository) -> None:
        self._repository = found

    def call_off(self) -> None:
        """Have it end: what runs of it is stopped, and nothing more of it begins."""
        if not self.called_off.done():
            self.called_off.set_result(None)
            self._desk.errands.stop(self.id)

    @contextmanager
    def taking_back(self) -> Iterator[None]:
        """Let git run although it was called off: what had begun is undone while this is open."""
        self._takes_back = True
        try:
            yield
        finally:
            self._takes_back = False

    async def run(
        self,
        *args: str,
        ok: tuple[int, ...] = (0,),
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        limit: int = OUTPUT_BYTES,
        cut: bool = False,
        seconds: float = SECONDS,
    ) -> Finished:
        """Run `git ARGS` in the work tree; another exit code than those is an error explained.

        Nothing that a client has written may stand where git reads options: revisions go behind
        `--end-of-options`, paths behind `--` or into `--pathspec-from-file`.
        """
        if self.called_off.done() and not self._takes_back:
            raise Ended("cancelled", "git")
        if self.trusted and not self.reads and self._repository is not None and not self._wrapped:
            self._wrapped = True
            self._switched = await self._hooks()
        top = self._repository.root if self._repository is not None else self.root
        own = variables(os.environ, args, top=top, trusted=self.trusted, reads=self.reads)
        if command_of(args) in REMOTE:
            said = await self.text("config", "--get", "core.sshCommand", ok=(0, 1))
            own["GIT_SSH_COMMAND"] = ssh_command(os.environ, said)
        running = self._desk.errands.run(
            ["git", *OPTIONS, *self._switched, *args],
            Asked(self.id, self.channel, self.user),
            cwd=self.root,
            env={**own, **(env or {})},
            stdin=stdin,
            limit=limit,
            cut=cut,
            heard=self._heard,
        )
        looks = self._desk.looks
        finished = await (looks.run(self.root, running, seconds) if self.reads else running)
        if finished.code not in ok:
            raise await explained(args, finished, self._repository)
        return finished

    async def _hooks(self) -> tuple[str, ...]:
        """Have the repository's hooks run with the environment of the user's own git."""
        said = os.fsdecode((await self.run("rev-parse", "--git-path", "hooks")).stdout)
        folder = str(Path(self.root, said.removesuffix("\n")))
        place = await asyncio.to_thread(wrapped, folder, self._desk.state_dir, os.environ)
        return ("-c", f"core.hooksPath={place}") if place else ()

    async def text(self, *args: str, ok: tuple[int, ...] = (0,)) -> str:
        """Run `git ARGS` and give what it prints, without the last newline."""
        return (await self.run(*args, ok=ok)).stdout.decode(errors="replace").removesuffix("\n")

    def tell(self, stage: str) -> None:
        """Tell a stage of which nobody knows how far it is."""
        self._tell(Stage(stage, Progress(current=0, total=None, percentage=None)))

    async def claims(self, target: str) -> None:
        """Note, before anything is there, what is to be gone again should the daemon die here."""
        await self._desk.claim(self.id, target)

    def _heard(self, line: str) -> None:
        found = parse_progress(line)
        if found is not None:
            self._tell(found)

    def _tell(self, found: Stage) -> None:
        if not self._tells:
            return
        now = time.monotonic()
        complete = found.progress.current == found.progress.total
        if found.stage == self._stage and now - self._told < TOLD_EVERY and not complete:
            return
        self._stage, self._told = found.stage, now
        self._desk.bus.emit(
            OperationProgress(
                project_id=self.project_id,
                operation_id=self.id,
                operation=self.name,
                stage=found.stage,
                progress=found.progress,
            )
        )


class Desk:
    """What all git operations share."""

    def __init__(
        self,
        *,
        bus: EventBus,
        journal: Journal,
        errands: Errands,
        projects: Projects,
        state_dir: Path,
    ) -> None:
        """Work in these projects, by these errands."""
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
        root = self._root_of(command, needs_repository=needs_repository)
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

    def _root_of(self, command: GitCommand, *, needs_repository: bool) -> str:
        """Give the work tree that a command is about: the project's own, or one of its others."""
        root = self.projects.root(command.project_id)
        if command.worktree is None:
            return root
        if not needs_repository:
            raise BadRequest("a repository is made in the project's own folder: leave worktree out")
        return str(self.worktrees / command.project_id / command.worktree)

    async def _require_ours(self, work: Work) -> None:
        """Refuse a folder among the worktrees that is of another repository than the project's."""
        own = await look_up(self.projects.root(work.project_id))
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
    async def quietly(self, project_id: str, *, root: str | None = None) -> AsyncIterator[Work]:
        """Open a work that changes something on our own behalf, in its turn; nobody is told of it.

        Conflict where the project is no repository, or one that has git run something.
        """
        work = self._ours(project_id, root or self.projects.root(project_id), reads=False)
        await self.open(work)
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

    async def open(self, work: Work, *, around: bool = False) -> None:
        """Find the repository of a work, and see that it runs nothing of its own.

        With `around` the work tree may be a folder in a repository, which is only read then.
        """
        work.repository = await (look_around if around else look_up)(work.root)
        if not work.trusted:
            await self.configurations.require_harmless(work.repository, changes=not work.reads)

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
