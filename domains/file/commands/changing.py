"""Files written, folders made, both renamed."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from daemon.core.events import Answer, Command, command
from domains.file.commands.looking import CHANNEL, Encoding

Expected = Annotated[str, Meta(pattern=r"^(absent|sha256:[0-9a-f]{64})$")]


class Written(Answer):
    """A file as it has been written; `created` where there was none."""

    project_id: str
    path: Annotated[str, Meta(description="The file, relative to the project.")]
    hash: Annotated[str, Meta(description="What it holds now, for the next `expected`.")]
    size: Annotated[int, Meta(description="Its bytes.")]
    created: bool


class FolderMade(Answer):
    """A folder; not `created` where it was there already."""

    project_id: str
    path: Annotated[str, Meta(description="The folder, relative to the project.")]
    created: bool


class Renamed(Answer):
    """What has another name now; `replaced` where something had that name."""

    project_id: str
    path: Annotated[str, Meta(description="What it was called.")]
    to: Annotated[str, Meta(description="What it is called now.")]
    replaced: bool = False


@command("file.write", action="write", channel=CHANNEL, answer=Written)
class WriteFile(Command):
    """Write a file of a project, as a whole: others see all of it or nothing.

    `content` becomes bytes by `encoding`, any that `file.read` answers with. `expected` is the
    `hash` that was read, or `absent` for a new file: a file that is otherwise now is not written,
    and the conflict has the present `hash`. `parents` makes the folders on the way. `executable`
    sets or takes the permission to run it; without, the file keeps what it has.
    """

    project_id: str
    path: Annotated[str, Meta(description="The file, relative to the project.")]
    content: str
    encoding: Encoding = "utf-8"
    expected: Expected | None = None
    parents: bool = False
    executable: bool | None = None


@command("file.make_folder", action="write", channel=CHANNEL, answer=FolderMade)
class MakeFolder(Command):
    """Make a folder in a project; with `parents` those on the way as well."""

    project_id: str
    path: Annotated[str, Meta(description="The folder, relative to the project.")]
    parents: bool = False


@command("file.rename", action="write", channel=CHANNEL, answer=Renamed)
class RenameFile(Command):
    """Give a file or folder of a project another name, in another folder too.

    What has the name `to` already is replaced only with `overwrite`; a folder that holds something
    never is. Of a symlink it is the link that is renamed.
    """

    project_id: str
    path: Annotated[str, Meta(description="What is renamed, relative to the project.")]
    to: str
    overwrite: bool = False
