"""Files that clients have sent ahead, to be named by their ids: bounded, and no program reads them.

They are larger than a message may be. What is kept has a bound, not an age: the oldest make room.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Self

import msgspec

from daemon.core.commands import Caller
from daemon.core.errors import BadRequest, Forbidden, NotFound, RateLimited, TooLarge
from daemon.core.ids import new_id
from daemon.core.section import Section, described

PNG, JPEG, GIF, WEBP = "image/png", "image/jpeg", "image/gif", "image/webp"
IMAGE_TYPES = (PNG, JPEG, GIF, WEBP)
"""Images that models take and browsers show, without a program in them."""

OTHER = "application/octet-stream"

AT_ONCE = 8
"""Uploads that are taken at once."""

MAX_CHANNELS = 64
"""Channels whose readers may read one upload beside the user whose it is."""

HEAD_BYTES = 12
"""Bytes at the beginning that tell what a file is."""


class UploadSettings(Section):
    """Files that clients send ahead, as images for agents."""

    file_bytes: Annotated[int, described("Largest file of `POST /api/uploads`", ge=1)] = 16 << 20
    total_bytes: Annotated[
        int, described("Bytes of all that is kept; the oldest make room", ge=1)
    ] = 512 << 20
    max_files: Annotated[int, described("Files that are kept; the oldest make room", ge=1)] = 10_000


class Upload(msgspec.Struct, frozen=True, rename="camel"):
    """A file that is kept: what it is, whose, and on whose channels it has been told of."""

    id: str
    media_type: str
    size: int
    user: str
    channels: tuple[str, ...] = ()

    def readable_by(self, caller: Caller) -> bool:
        """Return whether a caller has sent it, or follows what it was sent for."""
        if caller.sub == self.user or caller.may("admin", "global"):
            return True
        return any(caller.may("read", channel) for channel in self.channels)


class Uploads:
    """The kept files, each with a note beside it, in a folder that is ours alone."""

    def __init__(self, folder: Path, settings: UploadSettings, *, base_path: str = "") -> None:
        """Keep them in this folder; `base_path` stands before their paths over HTTP."""
        self._folder = folder
        self._settings = settings
        self._base_path = base_path
        self._kept: dict[str, Upload] = {}
        self._size = 0
        self._under_way = 0

    async def __aenter__(self) -> Self:
        """Read which files are kept, and make room."""
        self._kept = await asyncio.to_thread(self._look)
        self._size = sum(each.size for each in self._kept.values())
        await self._make_room()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave everything where it is."""

    def href(self, id_: str) -> str:
        """Return the path of an upload over HTTP."""
        return f"{self._base_path}/api/uploads/{id_}"

    async def keep(self, caller: Caller, pieces: AsyncIterator[bytes]) -> Upload:
        """Keep a file; what it is is seen by its beginning, whatever its sender says.

        Forbidden for a token that grants no `write`; TooLarge, RateLimited, and BadRequest for an
        empty file.
        """
        if not any(action == "write" for action, _ in caller.grants):
            raise Forbidden("this token grants no write; ask for one with --scope 'write:*'")
        if self._under_way >= AT_ONCE:
            raise RateLimited(f"{AT_ONCE} uploads are under way; try again later")
        id_ = new_id()
        self._under_way += 1
        try:
            media_type, size = await self._written(self._folder / f"{id_}.part", pieces)
            upload = Upload(id_, media_type, size, caller.sub)
            await asyncio.to_thread(self._finish, upload)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self._remove, id_))
            raise
        finally:
            self._under_way -= 1
        self._kept[id_] = upload
        self._size += size
        await self._make_room()
        return upload

    def find(self, id_: str, caller: Caller) -> Upload:
        """Return an upload that a caller may read; else NotFound, whether there is one or not."""
        upload = self._kept.get(id_)
        if upload is None or not upload.readable_by(caller):
            raise NotFound(f"there is no upload {id_[:80]!r}, or it has made room for newer ones")
        return upload

    def path(self, upload: Upload) -> Path:
        """Return where the file is."""
        return self._folder / upload.id

    async def read(self, upload: Upload) -> bytes:
        """Read a file whole; NotFound where it has just made room."""
        try:
            return await asyncio.to_thread(self.path(upload).read_bytes)
        except FileNotFoundError:
            raise NotFound(f"the upload {upload.id} has made room for newer ones") from None

    async def share(self, upload: Upload, channel: str) -> None:
        """Let who may read a channel read an upload that is told of there."""
        upload = self._kept.get(upload.id, upload)
        if channel in upload.channels or upload.id not in self._kept:
            return
        channels = (*upload.channels, channel)[-MAX_CHANNELS:]
        self._kept[upload.id] = shared = msgspec.structs.replace(upload, channels=channels)
        await asyncio.to_thread(self._note, shared)

    async def _written(self, path: Path, pieces: AsyncIterator[bytes]) -> tuple[str, int]:
        """Write the pieces as they come; gives what they are, and how many bytes."""
        head, size = b"", 0
        descriptor = await asyncio.to_thread(_made, path)
        try:
            async for piece in pieces:
                size += len(piece)
                if size > self._settings.file_bytes:
                    raise TooLarge(
                        f"an upload has {self._settings.file_bytes} bytes at most; the limit is "
                        "[upload] file_bytes"
                    )
                if len(head) < HEAD_BYTES:
                    head = (head + piece)[:HEAD_BYTES]
                await asyncio.to_thread(_write, descriptor, piece)
        finally:
            os.close(descriptor)
        if not size:
            raise BadRequest("the upload is empty: send the file's bytes as the body")
        return media_type_of(head), size

    async def _make_room(self) -> None:
        settings = self._settings
        while len(self._kept) > settings.max_files or (
            self._size > settings.total_bytes and len(self._kept) > 1
        ):
            oldest = next(iter(self._kept))
            self._size -= self._kept.pop(oldest).size
            await asyncio.to_thread(self._remove, oldest)

    # On disk, in a thread

    def _look(self) -> dict[str, Upload]:
        """Read the notes, oldest first, and remove what has none."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found: dict[str, Upload] = {}
        names = sorted(each.name for each in self._folder.iterdir())
        for name in names:
            if name.endswith(".json"):
                with suppress(OSError, msgspec.DecodeError):
                    note = (self._folder / name).read_bytes()
                    upload = msgspec.json.decode(note, type=Upload)
                    if f"{upload.id}.json" == name and self.path(upload).is_file():
                        found[upload.id] = upload
        for name in names:
            if name.partition(".")[0] not in found:
                self._remove(name.partition(".")[0])
        return found

    def _finish(self, upload: Upload) -> None:
        self.path(upload).with_suffix(".part").rename(self.path(upload))
        self._note(upload)

    def _note(self, upload: Upload) -> None:
        made = self._folder / f"{upload.id}.note"
        descriptor = _made(made)
        try:
            _write(descriptor, msgspec.json.encode(upload))
        finally:
            os.close(descriptor)
        made.rename(self._folder / f"{upload.id}.json")

    def _remove(self, id_: str) -> None:
        for ending in (".json", ".part", ".note", ""):
            with suppress(FileNotFoundError):
                (self._folder / f"{id_}{ending}").unlink()


def media_type_of(head: bytes) -> str:
    """Return the media type by the first bytes: an image's, else that of any bytes."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if head.startswith(b"\xff\xd8\xff"):
        return JPEG
    if head.startswith((b"GIF87a", b"GIF89a")):
        return GIF
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return WEBP
    return OTHER


def _made(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
