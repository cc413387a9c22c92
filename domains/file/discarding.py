"""Moves files to the trash and back, and empties it of what is old."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import structlog

from daemon.core.calendar import Calendar
from daemon.core.commands import Caller, handles
from daemon.core.errors import AgentcmdError
from daemon.core.supervisor import Supervisor
from domains.file.commands.discarding import (
    Deleted,
    DeleteFile,
    ListTrash,
    Restored,
    RestoreFile,
    Trash,
)
from domains.file.disk import trash
from domains.file.disk.trash import Bin
from domains.file.ground import Ground
from domains.file.names import parts_of

log = structlog.get_logger(__name__)

PURGED_EVERY = 3600.0
"""Seconds between two looks for what is old in one trash."""

DAY = 86_400.0

FOLDER = "trash"
"""The folder of the state directory that has the trash of each project."""


class Discarding:
    """What takes files away, and gives them back."""

    def __init__(
        self, ground: Ground, supervisor: Supervisor, calendar: Calendar, state_dir: Path
    ) -> None:
        """Keep the trash of projects in the state directory."""
        self._ground = ground
        self._calendar = calendar
        self._all = str(state_dir.resolve() / FOLDER)
        self._supervisor = supervisor
        self._purged: dict[str, float] = {}

    @handles(DeleteFile)
    async def delete(self, command: DeleteFile, caller: Caller) -> Deleted:
        """Move something to the trash."""
        parts = parts_of(command.path)
        async with self._ground.changing(command.project_id) as root:
            done = await asyncio.to_thread(
                trash.delete, self._bin(root), parts, recursive=command.recursive, user=caller.sub
            )
        self._purge(command.project_id)
        return Deleted(project_id=command.project_id, discarded=done)

    @handles(RestoreFile)
    async def restore(self, command: RestoreFile, _: Caller) -> Restored:
        """Take something out of the trash."""
        to = None if command.to is None else parts_of(command.to)
        async with self._ground.changing(command.project_id) as root:
            path = await asyncio.to_thread(trash.restore, self._bin(root), command.trash_id, to)
        return Restored(project_id=command.project_id, path=path)

    @handles(ListTrash)
    async def trash_list(self, command: ListTrash, _: Caller) -> Trash:
        """List the trash."""
        root = self._ground.projects.root(command.project_id)
        found = await asyncio.to_thread(trash.discarded, self._bin(root))
        self._purge(command.project_id)
        if command.cursor is not None:
            found = [each for each in found if each.trash_id < command.cursor]
        page = found[: command.limit]
        return Trash(
            project_id=command.project_id,
            discarded=page,
            next_cursor=page[-1].trash_id if len(found) > len(page) else None,
        )

    def forget(self, project_id: str) -> None:
        """Forget a project that is no more; its trash stays, as its files do."""
        self._purged.pop(project_id, None)

    def _bin(self, root: str) -> Bin:
        return Bin(self._all, root)

    def _purge(self, project_id: str) -> None:
        """Let what is old in any trash go, once in a while and beside what was asked for."""
        days, now = self._ground.settings.trash_days, time.monotonic()
        if not days or now - self._purged.get(project_id, -PURGED_EVERY) < PURGED_EVERY:
            return
        self._purged[project_id] = now
        self._supervisor.start(
            self._purge_of(project_id, self._calendar.now() - days * DAY),
            name=f"file.purge:{project_id}",
        )

    async def _purge_of(self, project_id: str, before: float) -> None:
        try:
            count = await asyncio.to_thread(trash.purge, self._all, before)
        except AgentcmdError as error:
            log.info("file.unpurged", project=project_id, why=error.message)
            return
        if count:
            log.info("file.purged", project=project_id, count=count)
