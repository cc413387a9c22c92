"""What sessions need of git, as work trees and checkpoints, and of the settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class ChangedFile(Protocol):
    """One file, as git tells of it."""

    @property
    def path(self) -> str:
        """Give where it is."""

    @property
    def old_path(self) -> str | None:
        """Give where it was, when it was moved."""

    @property
    def status(self) -> str:
        """Give what became of it."""

    @property
    def additions(self) -> int | None:
        """Give how many lines were added, None in a binary file."""

    @property
    def deletions(self) -> int | None:
        """Give how many lines were removed."""


class Comparison(Protocol):
    """What has changed, as git tells it."""

    @property
    def older(self) -> str:
        """Give the commit of before."""

    @property
    def newer(self) -> str:
        """Give the commit of after."""

    @property
    def files(self) -> Sequence[ChangedFile]:
        """Give the files."""

    @property
    def patch(self) -> str | None:
        """Give the patch, None where it is too long."""


class Restored(Protocol):
    """What was put back, as git tells it."""

    @property
    def written_count(self) -> int:
        """Count the files that were written."""

    @property
    def removed_count(self) -> int:
        """Count the files that were removed."""


class Checkpoints(Protocol):
    """What turns need of git."""

    async def take(
        self, project_id: str, root: str | None, session_id: str, name: str
    ) -> str | None:
        """Note what the files are now; None where there is no repository for it."""

    async def compare(
        self,
        project_id: str,
        root: str | None,
        session_id: str,
        name: str,
        until: str,
        *,
        now: bool = True,
    ) -> Comparison:
        """Tell what has changed from one checkpoint to another, or to now if that may be."""

    async def restore(
        self, project_id: str, root: str | None, session_id: str, name: str
    ) -> Restored:
        """Make the files what they were."""


class Worktrees(Protocol):
    """Where sessions work that nobody else is to come across."""

    async def branch_for(self, project_id: str, branch: str) -> None:
        """Make a branch and switch the project's own work tree to it."""

    async def add_for(
        self, project_id: str, name: str, branch: str, start: str | None
    ) -> tuple[str, str]:
        """Make a branch and a work tree with it: `(path, branch)`."""

    async def remove_unneeded(self, project_id: str, path: str, branch: str) -> str | None:
        """Remove a work tree that is clean, merged and empty; else say why it was left."""


class Git(Protocol):
    """The part of git that sessions use."""

    @property
    def worktrees(self) -> Worktrees:
        """Give the work trees."""

    @property
    def checkpoints(self) -> Checkpoints:
        """Give the checkpoints."""


class SessionSettings(Protocol):
    """The part of the settings that a conversation needs."""

    @property
    def idle_timeout(self) -> float:
        """Return the seconds that an agent waits for the next message, 0 for ever."""

    @property
    def line_bytes(self) -> int:
        """Return the longest line."""

    @property
    def queued_messages(self) -> int:
        """Return how many messages may wait."""

    @property
    def open_questions(self) -> int:
        """Return how many permissions may wait for an answer."""
