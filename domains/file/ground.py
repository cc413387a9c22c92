"""What all parts of the file domain stand on: projects, their git, limits, and turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from daemon.core.errors import Conflict

QUEUED = 100
"""Changes that wait for one project; more are refused."""


class Projects(Protocol):
    """What files need of the projects."""

    def knows(self, project_id: str) -> bool:
        """Tell whether there is such a project."""

    def root(self, project_id: str) -> str:
        """Give the folder of a project; NotFound for an unknown one."""


class Git(Protocol):
    """What files need of git."""

    async def read(
        self,
        project_id: str,
        *args: str,
        stdin: bytes | None = None,
        ok: tuple[int, ...] = (0, 1),
        limit: int = 64 << 20,
        cut: bool = False,
    ) -> bytes | None:
        """Run a git that only looks; None where there is no repository that may be used."""

    def touched(self, project_id: str) -> None:
        """Learn that something in a project has changed."""


class FileSettings(Protocol):
    """The section of the settings for files."""

    @property
    def read_bytes(self) -> int:
        """Give how much of a file one answer carries."""

    @property
    def write_bytes(self) -> int:
        """Give the largest file that is written."""

    @property
    def hash_bytes(self) -> int:
        """Give the size up to which the hash of a file is told unasked."""

    @property
    def trash_days(self) -> float:
        """Give the days that what was deleted can be restored; 0: no limit."""

    @property
    def search_timeout(self) -> float:
        """Give the seconds that a search may take."""


class Ground:
    """What all parts share."""

    def __init__(self, *, projects: Projects, git: Git, settings: FileSettings) -> None:
        """Work in the folders of these projects."""
        self.projects = projects
        self.git = git
        self.settings = settings
        self._turns: dict[str, _Turn] = {}

    @asynccontextmanager
    async def changing(self, project_id: str) -> AsyncIterator[str]:
        """Change something in a project, one after the other; gives its folder."""
        root = self.projects.root(project_id)
        turn = self._turns.setdefault(project_id, _Turn())
        if turn.waiting >= QUEUED:
            raise Conflict(f"{turn.waiting} changes wait in this project; try again later")
        turn.waiting += 1
        try:
            async with turn.lock:
                yield root
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                self._turns.pop(project_id, None)
            self.git.touched(project_id)


class _Turn:
    """The queue of one project."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0
