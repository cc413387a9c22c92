"""Repositories made, and locks that were left in them."""

from __future__ import annotations

from daemon.core.events import Answer, command
from domains.git.answers import Summary
from domains.git.desk import GitCommand

CHANNEL = "git:project:{project_id}"


class RepositoryMade(Answer):
    """A new repository."""

    project_id: str
    summary: Summary


class LocksRemoved(Answer):
    """The lock files that were `removed`, named relative to the repository."""

    removed: list[str]


@command("git.init", action="write", channel=CHANNEL, answer=RepositoryMade)
class InitRepository(GitCommand):
    """Make the project's folder a repository; `branch` is its first branch."""

    branch: str = "main"


@command("git.unlock", action="write", channel=CHANNEL, answer=LocksRemoved)
class UnlockRepository(GitCommand):
    """Remove the lock files that a git left behind that was killed; refused while one runs."""
