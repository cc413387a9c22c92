"""What git operations answer with, where more than one of them or an event does."""

from __future__ import annotations

from daemon.core.events import Answer


class Counts(Answer):
    """How many files are in which state; one may be both staged and changed again."""

    staged: int = 0
    unstaged: int = 0
    untracked: int = 0
    conflicted: int = 0


class Summary(Answer):
    """Where a repository stands.

    `head` is the commit, absent before the first one; `branch` is absent while the head is
    detached. `ahead` and `behind` count commits against the `upstream`, absent without one.
    `under_way` is what waits to be continued or aborted: a merge, rebase, cherry-pick, revert or
    bisect.
    """

    head: str | None = None
    branch: str | None = None
    upstream: str | None = None
    ahead: int | None = None
    behind: int | None = None
    under_way: str | None = None
    stashes: int = 0
    counts: Counts = Counts()
