"""The git service: carries operations out by name, watches where repositories stand, recovers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import structlog

from daemon.core.bus import EventBus
from daemon.core.calendar import Calendar
from daemon.core.commands import Caller, handlers_of, handles
from daemon.core.damage import sound
from daemon.core.errand import OUTPUT_BYTES, Errands
from daemon.core.errors import AgentcmdError, BadRequest, Conflict, NotFound
from daemon.core.ids import new_id
from daemon.core.journal import Journal
from daemon.core.supervisor import Supervisor
from daemon.core.task import Tasks, TaskSettings
from domains.git import once, traces
from domains.git.arrival import recover_clone
from domains.git.branching import Branching
from domains.git.changes import Changes
from domains.git.checkpoints import Checkpoints
from domains.git.combining import Combining
from domains.git.commands.running import (
    CancelOperation,
    GetOutcome,
    ListOperations,
    OperationOutcome,
    OperationResult,
    RunningOperation,
    RunningOperations,
    RunOperation,
)
from domains.git.configuration import Use
from domains.git.desk import Desk, GitCommand, Projects, Work
from domains.git.discarding import Discarding
from domains.git.events import OperationFailed
from domains.git.history import History
from domains.git.listing import Listing
from domains.git.locks import remove_copies, remove_left
from domains.git.looking import Looking
from domains.git.making import Making
from domains.git.programs import KIND, command_of
from domains.git.pull_requests import PullRequests
from domains.git.remotes import Remotes
from domains.git.repository import Repository, look_up
from domains.git.staging import Staging
from domains.git.stashing import Stashing
from domains.git.submodules import Submodules
from domains.git.worktrees import Worktrees

log = structlog.get_logger(__name__)

SCHEMA = (
    """
    CREATE TABLE git_operation (
        id TEXT PRIMARY KEY, project TEXT NOT NULL, operation TEXT NOT NULL, root TEXT NOT NULL,
        target TEXT NOT NULL, started REAL NOT NULL
    )
    """,
    once.SCHEMA,
    # The first script was changed once: it had no `target`, and where it had none the name is found
    # in `nowhere`.
    """
    CREATE TABLE git_operation_whole (
        id TEXT PRIMARY KEY, project TEXT NOT NULL, operation TEXT NOT NULL, root TEXT NOT NULL,
        target TEXT NOT NULL, started REAL NOT NULL
    );
    INSERT INTO git_operation_whole
        SELECT g.id, g.project, g.operation, g.root,
            (SELECT target FROM git_operation AS own WHERE own.id = g.id), g.started
        FROM git_operation AS g, (SELECT '' AS target) AS nowhere;
    DROP TABLE git_operation;
    ALTER TABLE git_operation_whole RENAME TO git_operation
    """,
)

AROUND = 100
AROUND_FOR = 5.0
"""Projects within repositories of which it is known whether they are ignored there, and seconds."""

NAMING = frozenset({"check-ignore", "ls-files", "rev-parse"})
"""Commands that say names of files alone, as other domains ask for them: they read no contents."""

PRUNED_EVERY = 200
"""Operations that are done once, until those long ago are forgotten."""


class GitService:
    """Each part handles operations that belong together; all of them work at one desk."""

    def __init__(self, desk: Desk, journal: Journal) -> None:
        """Carry operations out at this desk."""
        self._desk = desk
        self._journal = journal
        self._around: dict[str, tuple[float, bool]] = {}
        self._since_pruned = 0
        self.checkpoints = Checkpoints(desk)
        self.worktrees = Worktrees(desk)
        self.parts: tuple[object, ...] = (
            Making(desk),
            Staging(desk),
            Discarding(desk),
            Branching(desk),
            Stashing(desk),
            Submodules(desk),
            Looking(desk),
            History(desk),
            Listing(desk),
            Combining(desk),
            self.worktrees,
            PullRequests(desk),
            Remotes(desk),
        )
        self._operations = {
            declared.__command__.name.partition(".")[2]: (declared, method)
            for declared, method in handlers_of(self)
            if issubclass(declared, GitCommand)
        }

    @handles(RunOperation)
    async def run(self, command: RunOperation, caller: Caller) -> OperationResult:
        """Run an operation by its name."""
        found = self._operations.get(command.operation)
        if found is None:
            known = ", ".join(sorted(self._operations))
            raise BadRequest(f"there is no operation {command.operation[:80]!r}; there is: {known}")
        declared, method = found
        id_ = command.operation_id or new_id()
        given = {"projectId": command.project_id, "operationId": id_}
        try:
            decoded = msgspec.convert({**(command.args or {}), **given}, declared)
        except msgspec.ValidationError as error:
            known = ", ".join(sorted(set(declared.__struct_encode_fields__) - given.keys()))
            raise BadRequest(
                f"git.{command.operation}: {error}; args are: {known or 'none'}"
            ) from None
        if command.once:
            await self._take_up(decoded, id_)
        try:
            answered = method(decoded, caller)
            result = answered if isinstance(answered, msgspec.Struct) else await answered
        finally:
            self._desk.once.pop(id_, None)
        return OperationResult(operation_id=id_, result=result)

    async def _take_up(self, command: GitCommand, id_: str) -> None:
        """Attach what an operation with `once` did before the daemon died."""
        if id_ in self._desk.once:
            raise Conflict(f"the operation {id_} is under way; choose another id")
        self._since_pruned += 1
        if self._since_pruned >= PRUNED_EVERY:
            self._since_pruned = 0
            once.prune(self._journal)
        repository = await self._looked_up(command)
        self._desk.once[id_] = await traces.settled(self._journal, id_, repository)

    async def _looked_up(self, command: GitCommand) -> Repository | None:
        try:
            trusted = self._desk.projects.trusts(command.project_id)
            return await look_up(self._desk.root_of(command), trusted=trusted)
        except AgentcmdError:
            return None

    @handles(GetOutcome)
    async def outcome(self, command: GetOutcome, _: Caller) -> OperationOutcome:
        """Return whether it is known what an operation did before a daemon died."""
        id_ = command.operation_id
        repository = await self._looked_up(
            GitCommand(project_id=command.project_id, worktree=command.worktree)
        )
        known = await traces.is_known(self._journal, id_, repository)
        return OperationOutcome(operation_id=id_, known=known)

    @handles(CancelOperation)
    def cancel(self, command: CancelOperation, _: Caller) -> RunningOperation:
        """End an operation."""
        return _told(self._desk.cancel(command.project_id, command.operation_id))

    @handles(ListOperations)
    def list(self, command: ListOperations, caller: Caller) -> RunningOperations:
        """List what is under way."""
        return RunningOperations(
            operations=[
                _told(work)
                for work in self._desk
                if command.project_id in (None, work.project_id)
                and caller.may("read", work.channel)
            ]
        )

    async def read(
        self,
        project_id: str,
        *args: str,
        stdin: bytes | None = None,
        ok: tuple[int, ...] = (0, 1),
        limit: int = OUTPUT_BYTES,
        cut: bool = False,
    ) -> bytes | None:
        """Run a git that only looks, for another domain; None where git is not to be used here.

        That is where the project is in no repository, or in one that has git run something, or is
        ignored as a whole by the one that it is in.
        """
        work = self._desk.look(project_id)
        names = command_of(args) in NAMING
        try:
            await self._desk.open(work, around=True, use=Use.NAMES if names else Use.LOOKS)
            if work.root != work.repository.root and await self._is_ignored(work):
                return None
        except (Conflict, NotFound):
            return None
        if not args[0].startswith("-"):
            args = ("--literal-pathspecs", *args)
        return (await work.run(*args, stdin=stdin, ok=ok, limit=limit, cut=cut)).stdout

    async def _is_ignored(self, work: Work) -> bool:
        """Return whether the folder of a project has nothing for the repository around it."""
        until, ignored = self._around.get(work.root, (0.0, False))
        now = asyncio.get_running_loop().time()
        if now >= until:
            if len(self._around) >= AROUND:
                self._around.clear()
            said = await work.run("check-ignore", "-q", ".", ok=(0, 1, 128))
            ignored = said.code != 1  # 128: git refuses that repository
            self._around[work.root] = now + AROUND_FOR, ignored
        return ignored

    def touched(self, project_id: str) -> None:
        """Learn that something in a project has changed."""
        self._desk.changed(project_id)

    async def recover(self) -> None:
        """Tell the end of what a daemon that died had under way, and take away what it left."""
        once.prune(self._journal)
        rows = await self._journal.store.read(
            lambda db: db.execute(
                "SELECT id, project, operation, root, target, started FROM git_operation"
            ).fetchall()
        )
        kinds = (str, str, str, str, str, float)
        for id_, project_id, operation, root, target, started in sound(rows, kinds, "git"):
            await asyncio.to_thread(recover_clone, target)
            self._journal.execute("DELETE FROM git_operation WHERE id = :id", id=id_)
            self._desk.bus.emit(
                OperationFailed(
                    project_id=project_id,
                    operation_id=id_,
                    operation=operation,
                    code="lost",
                    message="the daemon died while it ran; look at the status, and run it again",
                    duration_ms=0,
                )
            )
            if await asyncio.to_thread(Path(root).is_dir):
                try:
                    trusted = self._desk.projects.trusts(project_id)
                    repository = await look_up(root, trusted=trusted)
                except AgentcmdError:
                    continue
                removed = await asyncio.to_thread(remove_left, repository, started)
                await asyncio.to_thread(remove_copies, repository.git_dir, started)
                log.warning("git.lost", operation=operation, id=id_, locks=removed)
        await self._journal.flushed()


@asynccontextmanager
async def open_service(
    *,
    bus: EventBus,
    journal: Journal,
    tasks: Tasks,
    supervisor: Supervisor,
    project: Projects,
    task_settings: TaskSettings,
    calendar: Calendar,
    state_dir: Path,
) -> AsyncIterator[GitService]:
    """Open the git service."""
    errands = Errands(tasks, task_settings, KIND)
    desk = Desk(
        bus=bus,
        journal=journal,
        errands=errands,
        projects=project,
        calendar=calendar,
        state_dir=state_dir,
    )
    changes = Changes(desk, supervisor)
    desk.changed = changes.sign
    bus.on("project.removed", lambda event: changes.forget(event.project_id))
    journal.vouch("git:project", project.knows)
    service = GitService(desk, journal)
    await service.recover()
    yield service


def _told(work: Work) -> RunningOperation:
    return RunningOperation(
        operation_id=work.id, operation=work.name, project_id=work.project_id, user=work.user
    )
