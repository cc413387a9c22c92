"""Where a run works: in the project's own files, on a branch, or in a work tree of its own."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from daemon.core.errors import AgentcmdError, Conflict, NotFound
from domains.workflow.endings import out
from domains.workflow.failures import RunFailure
from domains.workflow.live import LiveRun
from domains.workflow.records import RunRecords
from domains.workflow.steps.commanding import Others

log = structlog.get_logger(__name__)

PAGE = 200
"""Work trees that are listed at once."""

OURS = "agentcmd"
"""As whom a work tree is removed that outlived its run."""


class Workspaces:
    """Makes workspaces by the git commands that clients have too.

    A work tree outlives its run where that may be retried in it, or where something would be lost;
    it is removed with the run's records, if nothing would be then.
    """

    def __init__(self, others: Others, records: RunRecords) -> None:
        """Ask git by these, and keep there what is left to be removed."""
        self._others = others
        self._records = records
        self._kept: dict[str, str] = {}

    async def recover(self) -> None:
        """Learn which work trees have outlived their runs."""
        self._kept = await self._records.worktrees()

    async def prepare(self, live: LiveRun) -> None:
        """Make the workspace of a run that begins; one that goes on has the one that it had.

        A retry switches to its branch again, and a work tree that was removed is made again.
        """
        run = live.run
        kind = live.definition.workspace if run.workspace == "stay" else run.workspace
        if kind == "stay":
            return
        if run.branch is not None and (kind == "branch" or await _is_there(live)):
            return
        branch = f"agentcmd/{run.id}"
        try:
            if kind == "branch":
                await self._branch(live, branch)
                live.work_in(run.cwd, kind, branch)
            else:
                await self._make(live, branch)
        except AgentcmdError as error:
            if live.stopping:
                await asyncio.get_running_loop().create_future()
            raise RunFailure(error.code, f"no {kind} for the run: {error.message}") from None

    async def _branch(self, live: LiveRun, branch: str) -> None:
        about = {"projectId": live.run.project_id, "name": branch}
        try:
            await self._others.call(live, "git.branch_create", {**about, "switch": True})
        except Conflict:  # a retry, or an earlier daemon ended before it wrote that down
            asked = {"projectId": live.run.project_id, "branch": branch}
            await self._others.call(live, "git.switch", asked)

    async def _make(self, live: LiveRun, branch: str) -> None:
        """Work in a work tree of its own; who is cut off meanwhile has it, so that it is let go."""

        async def make() -> AgentcmdError | None:
            try:
                live.work_in(await self._worktree(live, branch), "worktree", branch)
            except AgentcmdError as error:
                return error
            return None

        making = live.supervisor.start(make(), name=f"workflow:run:{live.run.id}:worktree")
        try:
            failed = await asyncio.shield(making)
        except asyncio.CancelledError:
            if not live.stopping:
                await out(making)
            raise
        if failed is not None:
            raise failed

    async def _worktree(self, live: LiveRun, branch: str) -> str:
        asked = {"projectId": live.run.project_id, "name": live.run.id, "branch": branch}
        try:
            path = (await self._others.call(live, "git.worktree_add", asked))["worktree"]["path"]
        except Conflict:  # an earlier daemon ended between making it and writing that down
            path = await self._path_of(live)
            if path is None:
                raise
        return str(path)

    async def _path_of(self, live: LiveRun) -> str | None:
        """Look for the work tree of a run among those of its project."""
        offset, total = 0, 1
        while offset < total:
            asked = {"projectId": live.run.project_id, "offset": offset, "limit": PAGE}
            found = await self._others.call(live, "git.worktree_list", asked)
            for each in found["worktrees"]:
                if each.get("name") == live.run.id:
                    return str(each["path"])
            offset, total = offset + PAGE, found["total"]
        return None

    async def release(self, live: LiveRun) -> None:
        """Remove the work tree of a run that came to its end, unless something would be lost."""
        run = live.run
        if run.workspace != "worktree":
            if live.definition.workspace == "worktree":  # it may have been made, but not noted
                with suppress(AgentcmdError):
                    about = _about(run.id, run.project_id)
                    await self._others.call(live, "git.worktree_remove", about)
            return
        if not live.completed:
            self._keep(live)
            live.annotate(f"its work tree {run.cwd} stays for a retry")
            return
        try:
            await self._others.call(live, "git.worktree_remove", _about(run.id, run.project_id))
        except NotFound:
            pass  # an earlier daemon ended between removing it and writing that down
        except AgentcmdError as error:
            self._keep(live)
            live.annotate(f"its work tree {run.cwd} stays: {error.message}", "warning")
            return
        if self._kept.pop(run.id, None) is not None:
            self._records.drop_worktree(run.id)

    def _keep(self, live: LiveRun) -> None:
        if live.run.id not in self._kept:
            self._kept[live.run.id] = live.run.project_id
            self._records.add_worktree(live.run.id, live.run.project_id)

    async def drop(self, run_id: str) -> None:
        """Remove the work tree of a run that is forgotten, unless something would be lost."""
        project_id = self._kept.pop(run_id, None)
        if project_id is None:
            return
        self._records.drop_worktree(run_id)
        try:
            await self._others.ask(OURS, "git.worktree_remove", _about(run_id, project_id))
        except AgentcmdError as error:
            log.warning("workflow.worktree_stays", run=run_id, why=error.message)


def _about(run_id: str, project_id: str) -> dict[str, Any]:
    return {"projectId": project_id, "name": run_id, "deleteBranch": True}


async def _is_there(live: LiveRun) -> bool:
    return await asyncio.to_thread(Path(live.run.cwd).is_dir)
