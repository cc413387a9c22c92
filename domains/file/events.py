"""What happens to the files of projects."""

from __future__ import annotations

from typing import Literal

import msgspec

from daemon.core.events import Event, event


class FileChange(msgspec.Struct, frozen=True, rename="camel"):
    """What became of one file or folder: `path` is relative to the project, `change` says what."""

    path: str
    change: Literal["added", "modified", "deleted"]


@event("file.changed", "file:project:{project_id}")
class FileChanged(Event):
    """Files of a project have changed; told while somebody watches.

    `changes` are what differs from what was told before, each path once. With `overflow` there was
    more than could be told: look at the tree again.
    """

    project_id: str
    changes: list[FileChange]
    overflow: bool = False


@event("file.watch.ended", "file:project:{project_id}")
class WatchEnded(Event):
    """A watch cannot go on and has ended; `code` and `message` say why, as an error does."""

    project_id: str
    code: str
    message: str
