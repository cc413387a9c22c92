"""Submodules: filled with the commits that the repository names."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from daemon.core.events import Answer, command
from domains.git.commands.staging import Paths
from domains.git.desk import GitCommand

CHANNEL = "git:project:{project_id}"


class Submodule(Answer):
    """A submodule: `path` relative to the project, and the `commit` that is checked out in it.

    `before` is the one that was checked out there, absent where it was empty. `commit` is absent
    where git is told to leave the submodule alone (`update = none`).
    """

    path: str
    commit: Annotated[str | None, Meta(description="The commit in it now.")] = None
    before: str | None = None


class SubmodulesUpdated(Answer):
    """The `submodules` that were looked after: at most 1000 of the `count` that there are.

    `warnings` name links that nothing can fill, as those without an address in .gitmodules.
    """

    submodules: list[Submodule]
    count: int
    warnings: list[str] = field(default_factory=list)


@command(
    "git.submodule_update", action="write", channel=CHANNEL, answer=SubmodulesUpdated, cost=1.0
)
class UpdateSubmodules(GitCommand):
    """Check out in submodules the commits that the index names, and clone those that are empty.

    Without `paths` it is all of them; with `recurse` theirs too. What is not committed in one is
    never overwritten. Folders of this machine are cloned only where the user's own configuration
    has `protocol.file.allow=always`, and the token is for write:project:*.
    """

    paths: Paths | None = None
    recurse: bool = False
