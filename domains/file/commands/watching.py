"""Projects watched for changes of their files."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from daemon.core.events import Answer, Command, command

CHANNEL = "file:project:{project_id}"


class WatchState(Answer):
    """Whether a project is watched now, and by what rules.

    `watching` says that somebody watches it. `by_git` says that what git ignores is not watched;
    without a repository that may be used all is. `entries` are the files and folders that are
    known, `folders` those that are listened to.
    """

    project_id: str
    watching: bool
    by_git: bool = False
    entries: int = 0
    folders: int = 0


@command("file.watch", action="read", channel=CHANNEL, answer=WatchState)
class WatchFiles(Command):
    """Watch a project: every change of its files after the answer is told as `file.changed`.

    There is one watch for all who ask. It ends when the last has called `file.unwatch` or its
    connection has ended; asked for over HTTP it lasts for `[file] watch_hold` after the last call,
    and as long as anybody follows the channel. What git ignores is not told, nor git's own folder.
    """

    project_id: Annotated[str, Meta(description="The project to watch.")]


@command("file.unwatch", action="read", channel=CHANNEL, answer=WatchState)
class UnwatchFiles(Command):
    """Watch a project no longer; `watching` says whether others still do."""

    project_id: Annotated[str, Meta(description="The project that was watched.")]
