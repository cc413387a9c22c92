"""Writes files, makes folders, renames both."""

from __future__ import annotations

import asyncio

from daemon.core.commands import Caller, handles
from daemon.core.errors import TooLarge
from domains.file.commands.changing import (
    FolderMade,
    MakeFolder,
    Renamed,
    RenameFile,
    WriteFile,
    Written,
)
from domains.file.disk import moving, writing
from domains.file.ground import Ground
from domains.file.names import parts_of
from domains.file.texts import encoded


class Changing:
    """What changes files."""

    def __init__(self, ground: Ground) -> None:
        """Change them here."""
        self._ground = ground

    @handles(WriteFile)
    async def write(self, command: WriteFile, _: Caller) -> Written:
        """Write a file."""
        parts = parts_of(command.path)
        data = encoded(command.content, command.encoding)
        most = self._ground.settings.write_bytes
        if len(data) > most:
            raise TooLarge(
                f"the content has {len(data)} bytes, more than the {most} of [file] write_bytes"
            )
        async with self._ground.changing(command.project_id) as root:
            return await asyncio.to_thread(writing.write, root, parts, command, data)

    @handles(MakeFolder)
    async def make_folder(self, command: MakeFolder, _: Caller) -> FolderMade:
        """Make a folder."""
        parts = parts_of(command.path)
        async with self._ground.changing(command.project_id) as root:
            return await asyncio.to_thread(writing.make_folder, root, parts, command)

    @handles(RenameFile)
    async def rename(self, command: RenameFile, _: Caller) -> Renamed:
        """Rename a file or folder."""
        parts, to = parts_of(command.path), parts_of(command.to)
        async with self._ground.changing(command.project_id) as root:
            return await asyncio.to_thread(moving.rename, root, parts, to, command)
