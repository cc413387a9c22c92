"""Lists what a repository has by name: branches, tags, remotes, stashes."""

from __future__ import annotations

import asyncio

from daemon.core.commands import Caller, handles
from domains.git.commands.listing import (
    Branches,
    ListBranches,
    ListRemotes,
    ListStashes,
    ListTags,
    Remotes,
    Stashes,
    Tags,
)
from domains.git.desk import Desk
from domains.git.porcelain import (
    BRANCH_FIELDS,
    STASH_FORMAT,
    TAG_FIELDS,
    fields_of,
    read_branches,
    read_remotes,
    read_stashes,
    read_tags,
)

POINTERS = 100
"""How many more refs are read than told, as some only point to another one."""


class Listing:
    """What lists names."""

    def __init__(self, desk: Desk) -> None:
        """Work at this desk."""
        self._desk = desk

    @handles(ListBranches)
    async def branches(self, command: ListBranches, caller: Caller) -> Branches:
        """List the branches."""
        async with self._desk.at_work(command, caller) as git:
            finished = await git.run(
                "for-each-ref",
                "--sort=refname",
                "--sort=-committerdate",
                f"--count={command.limit + POINTERS}",
                f"--format={fields_of(BRANCH_FIELDS)}",
                "refs/heads",
                *(("refs/remotes",) if command.remote else ()),
            )
        found = await asyncio.to_thread(read_branches, finished.stdout)
        return Branches(branches=found[: command.limit], truncated=len(found) > command.limit)

    @handles(ListTags)
    async def tags(self, command: ListTags, caller: Caller) -> Tags:
        """List the tags."""
        async with self._desk.at_work(command, caller) as git:
            finished = await git.run(
                "for-each-ref",
                "--sort=-version:refname",
                "--sort=-creatordate",
                f"--count={command.limit + 1}",
                f"--format={fields_of(TAG_FIELDS)}",
                "refs/tags",
            )
        found = await asyncio.to_thread(read_tags, finished.stdout)
        return Tags(tags=found[: command.limit], truncated=len(found) > command.limit)

    @handles(ListRemotes)
    async def remotes(self, command: ListRemotes, caller: Caller) -> Remotes:
        """List the remotes."""
        async with self._desk.at_work(command, caller) as git:
            said = await git.text("remote", "-v")
            return Remotes(remotes=await asyncio.to_thread(read_remotes, said))

    @handles(ListStashes)
    async def stashes(self, command: ListStashes, caller: Caller) -> Stashes:
        """List what was put aside."""
        async with self._desk.at_work(command, caller) as git:
            finished = await git.run(
                "stash",
                "list",
                "-z",
                "--encoding=UTF-8",
                f"--format=tformat:{STASH_FORMAT}",
                f"--max-count={command.limit + 1}",
            )
        found = await asyncio.to_thread(read_stashes, finished.stdout)
        return Stashes(stashes=found[: command.limit], truncated=len(found) > command.limit)
