"""Where a run works: in the project's own files, on a branch, or in a work tree of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from daemon.core.errors import AgentcmdError, Conflict
from domains.workflow.failures import RunFailure
from domains.workflow.live import LiveRun
from domains.workflow.steps.commanding import Others


class Workspaces:
    """Makes workspaces by the git commands that clients have too."""

    def __init__(self, others: Others) -> None:
        """Ask git by these."""
        self._others = others

    async def prepare(self, live: LiveRun) -> None:
        """Make the workspace of a run that begins; one that goes on has it."""
        kind = live.definition.workspace
        run = live.run
        if kind == "stay" or run.branch is not None:
            return
        branch = f"agentcmd/{run.id}"
        try:
            if kind == "branch":
                await self._branch(live, branch)
                live.work_in(run.cwd, kind, branch)
            else:
                live.work_in(await self._worktree(live, branch), kind, branch)
        except AgentcmdError as error:
            if live.stopping:
                await asyncio.get_running_loop().create_future()
            raise RunFailure(error.code, f"no {kind} for the run: {error.message}") from None

    async def _branch(self, live: LiveRun, branch: str) -> None:
        about = {"projectId": live.run.project_id, "name": branch}
        try:
            await self._others.call(live, "git.branch_create", {**about, "switch": True})
        except Conflict:  # an earlier daemon ended between making it and writing that down
            asked = {"projectId": live.run.project_id, "branch": branch}
            await self._others.call(live, "git.switch", asked)

    async def _worktree(self, live: LiveRun, branch: str) -> str:
        about = {"projectId": live.run.project_id}
        asked = {**about, "name": live.run.id, "branch": branch}
        try:
            path = (await self._others.call(live, "git.worktree_add", asked))["worktree"]["path"]
        except Conflict:
            listed = await self._others.call(live, "git.worktree_list", {**about, "limit": 200})
            paths = [each["path"] for each in listed["worktrees"] if _is_of(each, live)]
            if not paths:
                raise
            path = paths[0]
        return str(path)

    async def release(self, live: LiveRun) -> None:
        """Remove the work tree of a run that has ended, unless something would be lost."""
        if live.run.workspace != "worktree":
            return
        asked = {"projectId": live.run.project_id, "name": live.run.id, "deleteBranch": True}
        try:
            await self._others.call(live, "git.worktree_remove", asked)
        except AgentcmdError as error:
            live.annotate(f"its work tree {live.run.cwd} stays: {error.message}", "warning")


def _is_of(listed: dict[str, Any], live: LiveRun) -> bool:
    return listed.get("name") == live.run.id
