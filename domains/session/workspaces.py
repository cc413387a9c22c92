"""Where a session works: in the project's own files, on a branch, or in a work tree of its own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from daemon.core.bus import EventBus
from daemon.core.errors import AgentcmdError, Conflict
from daemon.core.supervisor import Supervisor
from domains.session.commands import Session, Workspace
from domains.session.events import WorkspaceReleased
from domains.session.ports import Git
from domains.session.records import SessionRecords

log = structlog.get_logger(__name__)


class Workspaces:
    """Makes workspaces for sessions that begin, and takes away those that nobody needs."""

    def __init__(
        self,
        *,
        bus: EventBus,
        records: SessionRecords,
        supervisor: Supervisor,
        git: Git,
    ) -> None:
        """Make them by these."""
        self._bus = bus
        self._records = records
        self._supervisor = supervisor
        self._git = git
        self._releasing: dict[str, asyncio.Task[None]] = {}

    async def make(
        self,
        kind: Literal["stay", "branch", "worktree"],
        *,
        project_id: str,
        root: str,
        cwd: str,
        session_id: str,
    ) -> tuple[str, Workspace | None]:
        """Make a workspace: `(folder, workspace)`, None where the session stays.

        The folder is at the same place in the work tree as `cwd` is in the project. Conflict where
        the project is no repository, or that folder is in no commit.
        """
        if kind == "stay":
            return cwd, None
        top = await asyncio.to_thread(os.path.realpath, root)
        if not Path(cwd).is_relative_to(top):
            raise Conflict(f"{cwd} is in a work tree of its own already; leave workspace out")
        branch = f"agentcmd/{session_id}"
        if kind == "branch":
            await self._git.worktrees.branch_for(project_id, branch)
            return cwd, Workspace(kind=kind, branch=branch)
        below = Path(cwd).relative_to(top)
        path, branch = await self._git.worktrees.add_for(project_id, session_id, branch, None)
        workspace = Workspace(kind=kind, branch=branch, path=path)
        if not await asyncio.to_thread(Path(path, below).is_dir):
            await self.abandon(project_id, workspace)
            raise Conflict(
                f"{below} is in no commit, so a work tree has no such folder: commit it, or "
                "begin in the project's own folder"
            )
        return str(Path(path, below)), workspace

    async def abandon(self, project_id: str, workspace: Workspace | None) -> None:
        """Take a workspace away whose session has not come about."""
        if workspace is not None and workspace.path is not None:
            await self._git.worktrees.remove_unneeded(project_id, workspace.path, workspace.branch)

    async def again(self, session: Session) -> Session:
        """Make the work tree of a session anew that is taken up after it was removed."""
        own = session.workspace
        if own is None or own.path is None:
            return session
        if (releasing := self._releasing.get(session.id)) is not None:
            await asyncio.wait([releasing])
        session = await self._records.get(session.id) or session
        if session.workspace is None or not session.workspace.removed:
            return session
        await self._git.worktrees.add_for(session.project_id, session.id, own.branch, None)
        return msgspec.structs.replace(
            session, workspace=msgspec.structs.replace(own, removed=False)
        )

    def release(self, session: Session) -> None:
        """Remove the work tree of a session that has ended, unless something would be lost."""
        own = session.workspace
        if own is not None and own.path is not None and not own.removed:
            name = f"workspace:{session.id}"
            task = self._supervisor.start(self._release(session, own, own.path), name=name)
            self._releasing[session.id] = task
            task.add_done_callback(lambda _: self._releasing.pop(session.id, None))

    async def _release(self, session: Session, own: Workspace, path: str) -> None:
        try:
            if session.turns:  # its last turn can be looked at when the work tree is no more
                last = str(session.turns + 1)
                await self._git.checkpoints.take(session.project_id, path, session.id, last)
        except AgentcmdError as error:
            log.info("session.no_checkpoint", session=session.id, why=error.message)
        try:
            kept = await self._git.worktrees.remove_unneeded(session.project_id, path, own.branch)
        except AgentcmdError as error:
            kept = error.message
        now = await self._records.get(session.id)
        if kept is None and now is not None:
            gone = msgspec.structs.replace(own, removed=True)
            self._records.save(msgspec.structs.replace(now, workspace=gone))
        self._bus.emit(
            WorkspaceReleased(
                session_id=session.id,
                project_id=session.project_id,
                path=path,
                branch=own.branch,
                removed=kept is None,
                reason=kept,
            )
        )
        log.info("session.workspace", session=session.id, removed=kept is None)
