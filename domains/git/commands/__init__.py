"""What can be asked of git, one file for operations that belong together."""

from __future__ import annotations

from domains.git.commands import (
    branching,
    combining,
    history,
    listing,
    looking,
    making,
    pull_requests,
    remotes,
    running,
    staging,
    stashing,
    submodules,
    worktrees,
)

__all__ = [
    "branching",
    "combining",
    "history",
    "listing",
    "looking",
    "making",
    "pull_requests",
    "remotes",
    "running",
    "staging",
    "stashing",
    "submodules",
    "worktrees",
]
