"""Signs of change in a project's git dir: HEAD, index, refs and the like, not objects or locks.

And in files outside of the project with rules for it: `core.excludesFile`, and those of the
folders above a project that is a part of a repository. They are few, and looked at now and then.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal

import structlog

from daemon.core.errors import AgentcmdError
from domains.file.ears import Ears, Hinted
from domains.file.ground import Git

log = structlog.get_logger(__name__)

REFS = 1000
"""Folders of refs that are watched; where there are more, the others are not."""

RULES = ("exclude", "config")
"""Files that say what is ignored, or where more is said of it."""

ABOVE = 100
"""Folders above a project, at most, whose rules are looked at."""

APART = frozenset(
    {"objects", "logs", "hooks", "lfs", "modules", "worktrees", "FETCH_HEAD", "gc.pid"}
)
"""Names in the git dir that say nothing of where a repository stands."""


Sign = Literal["standing", "tracked", "rules"]
"""What may be another now: where the repository stands; also what is tracked; or ignored."""


class GitSigns:
    """Listens to the git dir of one project, where git says that it has one."""

    def __init__(
        self, git: Git, project_id: str, root: str, changed: Callable[[Sign], None]
    ) -> None:
        """Listen to nothing yet."""
        self._git = git
        self._project_id = project_id
        self._root = root
        self._changed = changed
        self._watched: frozenset[str] = frozenset()
        self._refs = ""
        self._rules: dict[str, tuple[int, int, int] | None] = {}
        self._ears = Ears(lambda path: path, self._hear, self._deaf)

    async def arm(self) -> None:
        """Listen to the git dir as it is now."""
        told = await self._git.read(
            self._project_id, "rev-parse", "--absolute-git-dir", "--git-common-dir"
        )
        self._rules = await asyncio.to_thread(_stamps, await self._rules_outside())
        found = await asyncio.to_thread(self._find, os.fsdecode(told or b"").splitlines())
        if found == self._watched:
            return
        self._watched = found
        try:
            await self._ears.renew(found)
        except (AgentcmdError, OSError) as error:
            self._watched = frozenset()
            log.warning("file.git_unwatched", project=self._project_id, why=str(error))

    async def check(self) -> None:
        """Look whether rules outside of the project have changed."""
        now = await asyncio.to_thread(_stamps, list(self._rules))
        if now != self._rules:
            self._rules = now
            self._changed("rules")

    async def _rules_outside(self) -> list[str]:
        """List the files outside of the project that may have rules for it."""
        top = await self._git.read(self._project_id, "rev-parse", "--show-toplevel")
        if top is None:
            return []
        named = await self._git.read(
            self._project_id, "config", "--type=path", "--get", "core.excludesFile"
        )
        home = os.environ.get("XDG_CONFIG_HOME") or f"{os.environ.get('HOME', '')}/.config"
        excludes = os.fsdecode(named or b"").removesuffix("\n") or f"{home}/git/ignore"
        around = Path(os.fsdecode(top).removesuffix("\n"))
        above = [each for each in Path(self._root).parents if each.is_relative_to(around)]
        return [excludes, *(f"{each}/.gitignore" for each in above[:ABOVE])]

    def stop(self) -> None:
        """Have the listening end, without waiting for it."""
        self._ears.stop()

    async def close(self) -> None:
        """Listen no more."""
        self._watched = frozenset()
        await self._ears.close()

    def _find(self, places: list[str]) -> frozenset[str]:
        """List the folders to listen to."""
        if len(places) != 2:  # none, or one with a newline in its path
            return frozenset()
        git_dir = places[0]
        common = os.path.normpath(Path(self._root, places[1]))
        self._refs = f"{common}/refs"
        found = [path for path in {git_dir, common, f"{common}/info"} if Path(path).is_dir()]
        for folder, _, _ in os.walk(self._refs):
            if len(found) > REFS:
                break
            found.append(folder)
        return frozenset(path for path in found if _is_text(path))

    def _hear(self, hinted: Hinted) -> None:
        sign: Sign | None = None
        for _, path in hinted:
            name = path.rpartition("/")[2]
            if name in RULES or path.endswith("/info"):
                sign = "rules"
                break
            if name == "index" or (path.startswith(self._refs) and "." not in name):
                sign = "tracked"  # a ref may be a folder of refs: it is listened to then
            elif sign is None and _is_sign(name):
                sign = "standing"
        if sign is not None:
            self._changed(sign)

    def _deaf(self, folders: Collection[str]) -> None:
        """Begin anew: a ref has a name that is no UTF-8."""
        del folders
        self._watched = frozenset()
        self._changed("tracked")


def _stamps(paths: Collection[str]) -> dict[str, tuple[int, int, int] | None]:
    """Look at files, by what changes with them."""
    found: dict[str, tuple[int, int, int] | None] = {}
    for path in paths:
        try:
            seen = Path(path).stat()
        except (OSError, ValueError):
            found[path] = None
        else:
            found[path] = seen.st_ino, seen.st_size, seen.st_mtime_ns
    return found


def _is_sign(name: str) -> bool:
    return name not in APART and not name.endswith(".lock")


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
