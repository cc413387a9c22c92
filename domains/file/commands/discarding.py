"""Files deleted, and taken out of the trash again."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from daemon.core.events import Answer, Command, command
from domains.file.commands.looking import CHANNEL

TrashId = Annotated[str, Meta(pattern=r"^[0-9]{8}T[0-9]{6}-[0-9a-f]{8}$")]


class Discarded(Answer):
    """Something in the trash of a project: `trash_id` is what `file.restore` asks for.

    `trash_path` is where it lies now, an absolute path; `path` is where it was in the project.
    """

    trash_id: TrashId
    trash_path: str
    path: str
    type: Annotated[Literal["file", "dir", "symlink", "other"], Meta(description="What it is.")]
    deleted_at: Annotated[float, Meta(description="When that was, in Unix seconds.")]
    user: str = ""


class Deleted(Answer):
    """What is in the trash now: `discarded`."""

    project_id: str
    discarded: Discarded


class Trash(Answer):
    """What can be restored, the newest first."""

    project_id: str
    discarded: Annotated[list[Discarded], Meta(description="What lies in the trash.")]
    next_cursor: str | None = None


class Restored(Answer):
    """What is back at its `path`."""

    project_id: str
    path: str


@command("file.delete", action="write", channel=CHANNEL, answer=Deleted)
class DeleteFile(Command):
    """Move a file or folder of a project to the project's trash, in the state directory.

    A folder that holds something needs `recursive`. Of a symlink it is the link that goes.
    """

    project_id: str
    path: Annotated[str, Meta(description="What is deleted, relative to the project.")]
    recursive: bool = False


@command("file.restore", action="write", channel=CHANNEL, answer=Restored)
class RestoreFile(Command):
    """Take something out of the trash: back to where it was, or `to` another path.

    Nothing that is there is replaced; folders on the way are made.
    """

    project_id: str
    trash_id: Annotated[TrashId, Meta(description="As `file.delete` and `file.trash_list` say.")]
    to: str | None = None


@command("file.trash_list", action="read", channel=CHANNEL, answer=Trash)
class ListTrash(Command):
    """List what lies in the trash of a project; it goes for good after `[file] trash_days`."""

    project_id: str
    cursor: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
