"""Fills submodules, those of new clones and work trees too, and knows what would be lost with one.

Their names and addresses come with a clone, so they are foreign. Which transports they may use is
for the user's own configuration to say, as it is for git itself; level by level, what has come is
looked at before git goes on into it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import NamedTuple

from daemon.core.commands import Caller, handles
from daemon.core.errand import Finished
from daemon.core.errors import AgentcmdError, Conflict, NotFound, TooLarge
from domains.git.arguments import relative_path
from domains.git.commands.submodules import Submodule, SubmodulesUpdated, UpdateSubmodules
from domains.git.desk import Desk, Work
from domains.git.repository import Repository, common_dir_of, git_dir_of
from domains.git.snapshots import Below

LISTED = 1_000
"""Submodules that an answer lists."""

DEPTH = 10
"""How far submodules of submodules are followed."""

PATHS_BYTES = 100_000
"""Most names for one git: they are arguments of a program."""

WARNINGS = 20
"""Most warnings of one answer."""

_LINK = b"160000"


class Filled(NamedTuple):
    """What was done with submodules, and what nothing can fill."""

    submodules: list[Submodule]
    warnings: list[str]


class Submodules:
    """What goes on in the submodules of a repository."""

    def __init__(self, desk: Desk) -> None:
        """Work at this desk."""
        self._desk = desk

    @handles(UpdateSubmodules)
    async def update(self, command: UpdateSubmodules, caller: Caller) -> SubmodulesUpdated:
        """Fill submodules, or have them follow the index."""
        paths = command.paths
        if paths is not None:
            paths = [relative_path(each.rstrip("/")) for each in paths]
        async with self._desk.at_work(command, caller) as git:
            found = await fill(self._desk, git, caller, paths=paths, recurse=command.recurse)
            if paths is not None and not found.submodules:
                why = found.warnings[0] if found.warnings else "there is no submodule there"
                raise (Conflict if found.warnings else NotFound)(why)
            return SubmodulesUpdated(
                submodules=found.submodules[:LISTED],
                count=len(found.submodules),
                warnings=found.warnings,
            )


async def fill(
    desk: Desk,
    git: Work,
    caller: Caller,
    *,
    folder: str | None = None,
    paths: Sequence[str] | None = None,
    recurse: bool = True,
) -> Filled:
    """Fill the submodules of the repository in a folder, the project's unless one is named."""
    top = folder or git.root
    local = caller.may("write", "project:*")
    done = Filled([], [])
    waiting: list[tuple[str, int]] = [("", 0)]
    while waiting:
        below, depth = waiting.pop(0)
        tree = _Tree(desk, git, os.path.join(top, below).rstrip("/"), local=local)  # noqa: PTH118
        found = await tree.fill(None if below else paths)
        prefix = f"{below}/" if below else ""
        done.submodules.extend(
            Submodule(path=prefix + each.path, commit=each.commit, before=each.before)
            for each in found.submodules
        )
        done.warnings.extend(prefix + each for each in found.warnings)
        if recurse and depth < DEPTH:
            here = [each.path for each in found.submodules if each.commit is not None]
            waiting.extend((prefix + path, depth + 1) for path in here)
    return Filled(done.submodules, done.warnings[:WARNINGS])


class _Tree:
    """One work tree with submodules: the project's, or that of a submodule."""

    def __init__(self, desk: Desk, git: Work, folder: str, *, local: bool) -> None:
        self._desk = desk
        self._git = git
        self._folder = folder
        self._allowed = () if local else ("-c", "protocol.file.allow=never")

    async def run(self, *args: str, ok: tuple[int, ...] = (0,)) -> bytes:
        """Run git there, and nowhere above."""
        return (await inside(self._git, self._folder, *args, ok=ok)).stdout

    async def fill(self, paths: Sequence[str] | None) -> Filled:
        """Fill those that are named."""
        found = await links(self._git, self._folder)
        wanted = Below(paths) if paths is not None else None
        chosen = [each for each in found if wanted is None or each in wanted]
        known = await self._known() if chosen else set()
        good = [os.fsdecode(each) for each in chosen if each in known]
        warnings = [
            f"{each.decode(errors='replace')[:200]} is a link to a commit of a repository that "
            ".gitmodules does not name: nothing can fill it"
            for each in chosen
            if each not in known
        ]
        if not good:
            return Filled([], warnings)
        named = [] if len(good) == len(found) else [f":(literal){path}" for path in good]
        if sum(len(each) for each in named) > PATHS_BYTES:
            raise TooLarge("that are too many submodules at once: name fewer paths")
        before = {path: await head(self._git, self._at(path)) for path in good}
        await self.run("submodule", "--quiet", "init", "--", *named)
        checkout: tuple[str, ...] = ()
        if not self._git.trusted:
            await self._require_harmless(good)
            checkout = ("--checkout",)
        options = ("--progress", *checkout, "--")
        await self.run(*self._allowed, "submodule", "update", *options, *named)
        if not self._git.trusted:
            await self._require_harmless(good)
        return Filled(
            [
                Submodule(
                    path=path, commit=await head(self._git, self._at(path)), before=before[path]
                )
                for path in good
            ],
            warnings,
        )

    def _at(self, path: str) -> str:
        return f"{self._folder}/{path}"

    async def _known(self) -> set[bytes]:
        """Return the paths that .gitmodules has an address for."""
        args = ("--file", ".gitmodules", "--null", "--get-regexp", r"^submodule\..*\.path$")
        said = await self.run("config", *args, ok=(0, 1))
        return {entry.partition(b"\n")[2] for entry in said.split(b"\0") if entry}

    async def _require_harmless(self, paths: Sequence[str]) -> None:
        """See that neither what is there runs something here, nor where the rest comes from."""
        configurations = self._desk.configurations
        urls = await _values(self._git, self._folder, r"^submodule\..*\.url$")
        for path in paths:
            folder = self._at(path)
            repository = await asyncio.to_thread(repository_at, folder)
            if repository is not None:
                await configurations.require_harmless(repository)
                urls += await _values(self._git, folder, r"^remote\..*\.url$")
        for url in dict.fromkeys(urls):
            await configurations.require_harmless_remote(self._folder, url, pushes=False)


async def inside(git: Work, folder: str, *args: str, ok: tuple[int, ...] = (0,)) -> Finished:
    """Run git in a folder, whose own repository it has to be."""
    above = {"GIT_CEILING_DIRECTORIES": folder.rpartition("/")[0] or "/"}
    return await git.run("-C", folder, *args, ok=ok, env=above)


async def _values(git: Work, folder: str, pattern: str) -> list[str]:
    said = (await inside(git, folder, "config", "-z", "--get-regexp", pattern, ok=(0, 1))).stdout
    entries = said.decode(errors="replace").split("\0")
    return [entry.partition("\n")[2] for entry in entries if entry]


async def links(git: Work, folder: str) -> list[bytes]:
    """List the submodules that an index names."""
    said = (await inside(git, folder, "ls-files", "--stage", "-z")).stdout
    return await asyncio.to_thread(_links_of, said)


def _links_of(output: bytes) -> list[bytes]:
    """Read `ls-files --stage -z`: MODE ID STAGE, a tab, the path; one in conflict is there more."""
    entries = (entry.partition(b"\t") for entry in output.split(b"\0"))
    return list(dict.fromkeys(path for about, _, path in entries if about[:6] == _LINK))


def repository_at(folder: str) -> Repository | None:
    """Find the repository that lies in a folder; None for an empty submodule."""
    git_dir = git_dir_of(folder)
    common_dir = git_dir and common_dir_of(git_dir)
    return Repository(folder, git_dir, common_dir) if git_dir and common_dir else None


async def head(git: Work, folder: str) -> str | None:
    """Return the commit that is checked out in a submodule; None for an empty one."""
    if await asyncio.to_thread(repository_at, folder) is None:
        return None
    args = ("rev-parse", "--quiet", "--verify", "HEAD")
    said = (await inside(git, folder, *args, ok=(0, 1, 128))).stdout.decode().strip()
    return said or None


async def check_out(git: Work, path: str, commit: str) -> None:
    """Go to a commit in one submodule; Conflict where changes in it are in the way."""
    folder = f"{git.root}/{path}"
    try:
        if await asyncio.to_thread(repository_at, folder) is None:  # its folder was deleted
            args = ("update", "--quiet", "--checkout", "--no-fetch", "--", f":(literal){path}")
            await inside(git, git.root, "submodule", *args)
        await inside(git, folder, "checkout", "--quiet", "--detach", commit)
    except AgentcmdError as error:
        raise type(error)(f"in the submodule {path[:200]}: {error.message}") from None


async def only_here(git: Work, root: str, depth: int = 0) -> str | None:
    """Say which submodule of a work tree has commits that would be gone with it."""
    for name in await links(git, root):
        path = os.fsdecode(name)
        folder = f"{root}/{path}"
        if await asyncio.to_thread(repository_at, folder) is None:
            continue
        args = ("rev-list", "--max-count=1", "HEAD", "--branches", "--glob=refs/stash*")
        if (await inside(git, folder, *args, "--not", "--remotes", "--tags")).stdout:
            return f"the submodule {path[:200]} has commits that no remote has; push them"
        why = await only_here(git, folder, depth + 1) if depth < DEPTH else None
        if why:
            return why
    return None
