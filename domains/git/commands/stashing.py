"""Work put aside, and taken up again."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from daemon.core.events import Answer, command
from domains.git.commands.staging import Paths
from domains.git.desk import GitCommand

CHANNEL = "git:project:{project_id}"

Place = Annotated[
    Annotated[int, Meta(ge=0, le=100_000)] | None,
    Meta(description="Which one, 0 is the newest; without it and `commit`, the newest."),
]

CommitId = Annotated[
    Annotated[str, Meta(pattern=r"^[0-9a-f]{7,64}$")] | None,
    Meta(description="Which one, by the id that it keeps while others come and go."),
]


class StashSaved(Answer):
    """Work that was put aside: the `commit` that holds it, and the `message` it is listed with."""

    commit: str
    message: str


class StashApplied(Answer):
    """Work that was taken up: `commit` holds it; `dropped`: it is on the list no more."""

    commit: str
    dropped: bool = False


class StashDropped(Answer):
    """Work taken from the list: by `commit` it can still be applied, for a while."""

    commit: str


@command("git.stash_save", action="write", channel=CHANNEL, answer=StashSaved)
class SaveStash(GitCommand):
    """Put changes aside: all of tracked files, or those of `paths`.

    `message` is what it is listed with. With `include_untracked` new files go too, with
    `keep_index` what is staged stays.
    """

    message: str | None = None
    include_untracked: bool = False
    keep_index: bool = False
    paths: Paths | None = None


@command("git.stash_apply", action="write", channel=CHANNEL, answer=StashApplied)
class ApplyStash(GitCommand):
    """Take work up again, and keep it on the list.

    With `restore_index` what was staged then is staged again. Conflicts are a conflict error with
    the files in its details; they are left to be resolved.
    """

    index: Place = None
    commit: CommitId = None
    restore_index: bool = False


@command("git.stash_pop", action="write", channel=CHANNEL, answer=StashApplied)
class PopStash(GitCommand):
    """Take work up again, and take it from the list, unless there are conflicts.

    With `restore_index` what was staged then is staged again.
    """

    index: Place = None
    commit: CommitId = None
    restore_index: bool = False


@command("git.stash_drop", action="write", channel=CHANNEL, answer=StashDropped)
class DropStash(GitCommand):
    """Take work from the list without taking it up."""

    index: Place = None
    commit: CommitId = None
