"""Makes repositories, and takes away locks that nobody holds."""

from __future__ import annotations

import asyncio

from daemon.core.commands import Caller, handles
from daemon.core.errors import Conflict
from domains.git.arguments import branch_name
from domains.git.commands.making import (
    InitRepository,
    LocksRemoved,
    RepositoryMade,
    UnlockRepository,
)
from domains.git.desk import Desk
from domains.git.locks import holders, remove_left
from domains.git.standing import summarise


class Making:
    """What begins a repository."""

    def __init__(self, desk: Desk) -> None:
        """Work at this desk."""
        self._desk = desk

    @handles(InitRepository)
    async def init(self, command: InitRepository, caller: Caller) -> RepositoryMade:
        """Make a repository; one that is there already stays as it is."""
        branch = branch_name(command.branch)
        async with self._desk.at_work(command, caller, needs_repository=False) as git:
            await git.run("init", "--template=", f"--initial-branch={branch}", ".")
            await self._desk.open(git)
            return RepositoryMade(project_id=git.project_id, summary=await summarise(git))

    @handles(UnlockRepository)
    async def unlock(self, command: UnlockRepository, caller: Caller) -> LocksRemoved:
        """Remove lock files."""
        async with self._desk.at_work(command, caller) as git:
            owners = await asyncio.to_thread(holders, git.repository)
            if owners:
                pid, argv = owners[0]
                raise Conflict(f"{argv} (pid {pid}) works in this repository; wait for its end")
            return LocksRemoved(removed=await asyncio.to_thread(remove_left, git.repository))
