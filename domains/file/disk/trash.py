"""The trash of a project: each thing in a folder of its own, beside a note of where it was."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from daemon.core.errors import BadRequest, Conflict, NotFound
from domains.file.commands.discarding import Discarded
from domains.file.disk.containment import (
    FOLDER,
    Place,
    explained,
    open_root,
    placed,
    require_inside,
)
from domains.file.disk.listing import kind_of
from domains.file.disk.moving import move, require_movable
from domains.file.disk.writing import sync
from domains.file.names import TRASH, is_decodable, parts_of, shown

NOTE_BYTES = 64 << 10

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def delete(root: str, parts: Sequence[str], *, recursive: bool, user: str) -> Discarded:
    """Move something to the trash."""
    with placed(root, parts, follow=False) as place, explained(parts):
        require_movable(place)
        if place.is_folder() and not recursive and not _is_empty(place):
            raise Conflict(f"{shown(parts)} is a folder that holds something; say recursive")
        now = time.time()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
        id_ = f"{stamp}-{secrets.token_hex(4)}"
        note = Discarded(
            trash_id=id_,
            trash_path="/".join((*TRASH, id_, place.name)),
            path=shown(place.parts),
            type=kind_of(place.required()),
            deleted_at=now,
            user=user,
        )
        with _opened(root, make=True) as trash:
            _write(trash, f"{id_}.json", msgspec.json.encode(note))
            try:
                os.mkdir(id_, 0o700, dir_fd=trash)
                folder = os.open(id_, FOLDER, dir_fd=trash)
                try:
                    require_inside(place.folder, root, place.parts[:-1])
                    require_inside(folder, root, (*TRASH, id_))
                    target = (*TRASH, id_, place.name)
                    move(place, Place(folder, place.name, target, None))
                    sync(folder)
                finally:
                    os.close(folder)
            except BaseException:
                _drop(trash, id_)
                raise
        sync(place.folder)
    return note


def restore(root: str, id_: str, to: Sequence[str] | None) -> str:
    """Move something back to where it was, or to another path; gives the path."""
    with _opened(root) as trash, explained((*TRASH, id_)):
        note = _read(trash, id_)
        if note is None:
            raise NotFound(f"there is no {id_} in the trash; look at file.trash_list")
        parts = to if to is not None else parts_of(note.path)
        folder = os.open(id_, FOLDER, dir_fd=trash)
        try:
            name = next(iter(os.listdir(folder)), None)  # noqa: PTH208
            if name is None:
                raise NotFound(f"what {id_} was is gone")
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if to is None and not is_decodable(name):
                raise BadRequest("its name is no UTF-8; say to which path with `to`")
            source = Place(folder, name, (*TRASH, id_, name), found)
            with placed(root, parts, follow=False, make=True) as target:
                require_inside(target.folder, root, target.parts[:-1])
                move(source, target)
                sync(target.folder)
        finally:
            os.close(folder)
        _drop(trash, id_)
    return shown(parts)


def discarded(root: str) -> list[Discarded]:
    """List what can be restored, the newest first."""
    try:
        with _opened(root) as trash:
            names = sorted(os.listdir(trash), reverse=True)  # noqa: PTH208
            notes = (_read(trash, name[:-5]) for name in names if name.endswith(".json"))
            return [note for note in notes if note is not None]
    except NotFound:
        return []


def purge(root: str, before: float) -> int:
    """Remove for good what was deleted before a time; gives how many that were."""
    count = 0
    try:
        with _opened(root) as trash, explained(TRASH):
            for name in os.listdir(trash):  # noqa: PTH208
                note = _read(trash, name[:-5]) if name.endswith(".json") else None
                if note is not None and note.deleted_at < before:
                    with contextlib.suppress(FileNotFoundError):
                        shutil.rmtree(note.trash_id, dir_fd=trash)
                    _drop(trash, note.trash_id)
                    count += 1
    except NotFound:
        return 0
    return count


@contextmanager
def _opened(root: str, *, make: bool = False) -> Iterator[int]:
    """Open the trash; Conflict where a symlink stands in its place, NotFound without one."""
    opened = open_root(root)
    try:
        for name in TRASH:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o755 if name != TRASH[-1] else 0o700, dir_fd=opened)
            try:
                inner = os.open(name, FOLDER, dir_fd=opened)
            except FileNotFoundError:
                raise NotFound("the project has no trash") from None
            except OSError:
                raise Conflict(
                    f"{'/'.join(TRASH)} in the project is not a folder but something else, maybe a "
                    "symlink: take it away, and nothing is lost"
                ) from None
            os.close(opened)
            opened = inner
        require_inside(opened, root, TRASH)
        if make:
            with contextlib.suppress(FileExistsError):
                _write(opened, ".gitignore", b"*\n")
        yield opened
    finally:
        os.close(opened)


def _is_empty(place: Place) -> bool:
    opened = os.open(place.name, FOLDER, dir_fd=place.folder)
    try:
        with os.scandir(opened) as entries:
            return next(entries, None) is None
    finally:
        os.close(opened)


def _write(trash: int, name: str, data: bytes) -> None:
    file = os.open(name, _NEW, 0o600, dir_fd=trash)
    try:
        os.write(file, data)
        os.fsync(file)
    finally:
        os.close(file)


def _read(trash: int, id_: str) -> Discarded | None:
    """Read a note; None for what is none of ours, or whose thing is gone."""
    try:
        file = os.open(
            f"{id_}.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=trash
        )
    except OSError:
        return None
    try:
        note = msgspec.json.decode(os.read(file, NOTE_BYTES), type=Discarded)
    except (OSError, ValueError):  # ValueError is what msgspec's errors are
        return None
    finally:
        os.close(file)
    return note if note.trash_id == id_ and "/" not in id_ else None


def _drop(trash: int, id_: str) -> None:
    """Remove the empty folder and the note of something."""
    with contextlib.suppress(OSError):
        os.rmdir(id_, dir_fd=trash)
    with contextlib.suppress(OSError):
        os.unlink(f"{id_}.json", dir_fd=trash)
