"""What git ignores in a project, asked of git itself."""

from __future__ import annotations

import os
from collections.abc import Sequence

from domains.file.ground import Git

REMEMBERED = 20_000
"""Verdicts that are kept: names that come and go, as those of builds, are asked for once."""

CHECK = ("--no-literal-pathspecs", "check-ignore", "--no-index", "-z", "--stdin")
"""It refuses literal paths, which our environment asks for: `./` before each keeps off magic."""


class Ignored:
    """The rules of one project, as far as they were asked for.

    Where there is no repository that may be used, nothing is ignored. What is tracked never is:
    `check-ignore` would look through the whole index for each path to find that out, so it is asked
    for the patterns alone, and once for the few tracked files that fit one.
    """

    def __init__(self, git: Git, project_id: str) -> None:
        """Know nothing yet."""
        self.by_git = False
        self._git = git
        self._project_id = project_id
        self._tracked: frozenset[str] = frozenset()
        self._verdicts: dict[str, bool] = {}

    async def load(self) -> bool:
        """Ask for the tracked files that fit a pattern; tells whether they are others than before.

        An AgentcmdError where git fails.
        """
        told = await self._git.read(
            self._project_id, "ls-files", "-c", "-i", "--exclude-standard", "-z"
        )
        by_git, was = self.by_git, self._tracked
        self.by_git = told is not None
        self._tracked = frozenset(_with_folders(os.fsdecode(told or b"").split("\0")))
        return (by_git, was) != (self.by_git, self._tracked)

    def forget(self) -> None:
        """Forget what was asked: the rules are others now."""
        self._verdicts.clear()

    async def judge(self, paths: Sequence[str]) -> set[str]:
        """Tell which are ignored; those of folders end in a slash. AgentcmdError: git failed."""
        if not self.by_git:
            return set()
        verdicts = self._verdicts
        asked = [path for path in paths if path not in verdicts]
        ignored = {path for path in paths if verdicts.get(path)}
        if asked:
            found = await self._asked(asked)
            if len(verdicts) + len(asked) > REMEMBERED:
                verdicts.clear()
            if len(asked) <= REMEMBERED:
                verdicts.update((path, path in found) for path in asked if _is_certain(path, found))
            ignored |= found
        return ignored - self._tracked

    async def _asked(self, paths: Sequence[str]) -> set[str]:
        """Ask git about paths, of folders too without a slash at the end.

        With one git takes `folder/` for a file without a name in that folder, which `folder/*`
        matches: then nothing in it could be taken in by a later pattern. It looks itself at what is
        there, a file or a folder.
        """
        bare = {path: path.rstrip("/") for path in paths}
        told = await self._git.read(
            self._project_id,
            *CHECK,
            stdin=os.fsencode("".join(f"./{path}\0" for path in bare.values())),
        )
        found = {path[2:] for path in os.fsdecode(told or b"").split("\0")}
        return {path for path, each in bare.items() if each in found}


def _is_certain(path: str, ignored: set[str]) -> bool:
    """Return whether a verdict holds: a folder may have been gone when git looked at it."""
    return path in ignored or not path.endswith("/")


def _with_folders(paths: Sequence[str]) -> set[str]:
    """Add the folders around files, each with a slash at the end, and so submodules."""
    found = {each for path in paths if path for each in (path, f"{path}/")}
    for path in paths:
        around = path
        while "/" in around.rstrip("/"):
            around = around.rstrip("/").rpartition("/")[0] + "/"
            if around in found:
                break
            found.add(around)
    return found
