"""The trash of projects: each thing in a folder of its own, beside a note of where it was.

It is kept in the state directory, one folder for each project's path. A folder of the project would
not do: a clone may bring one along, with notes that somebody else has written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from daemon.core.errors import BadRequest, Conflict, NotFound
from domains.file.commands.discarding import Discarded
from domains.file.disk.carrying import carry
from domains.file.disk.carrying import delete as delete_for_good
from domains.file.disk.containment import (
    FOLDER,
    Place,
    explained,
    placed,
    require_inside,
)
from domains.file.disk.listing import kind_of
from domains.file.disk.moving import require_movable
from domains.file.disk.writing import sync
from domains.file.names import is_decodable, parts_of, shown

NOTE_BYTES = 64 << 10
"""Longest note that is read; the longest that is written has two paths of 4096 bytes, escaped."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_NOTE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Bin(NamedTuple):
    """The trash of one project: its folder `root`, and the folder `all` of all trash."""

    all: str
    root: str

    @property
    def path(self) -> str:
        """Return the folder of this project's trash."""
        return f"{self.all}/{hashlib.sha256(os.fsencode(self.root)).hexdigest()[:32]}"


def delete(bin_: Bin, parts: Sequence[str], *, recursive: bool, user: str) -> Discarded:
    """Move something to the trash."""
    root = bin_.root
    with placed(root, parts, follow=False) as place, explained(parts):
        require_movable(place)
        if place.is_folder() and not recursive and not _is_empty(place):
            raise Conflict(f"{shown(parts)} is a folder that holds something; say recursive")
        now = time.time()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
        id_ = f"{stamp}-{secrets.token_hex(4)}"
        note = Discarded(
            trash_id=id_,
            trash_path=shown((bin_.path, id_, place.name)),
            path=shown(place.parts),
            type=kind_of(place.required()),
            deleted_at=now,
            user=user,
        )
        with _opened(bin_.path, make=True) as trash:
            _write(trash, f"{id_}.json", msgspec.json.encode(note))
            try:
                os.mkdir(id_, 0o700, dir_fd=trash)
                folder = os.open(id_, FOLDER, dir_fd=trash)
                try:
                    require_inside(place.folder, root, place.parts[:-1])
                    carry(place, Place(folder, place.name, (id_, place.name), None))
                    sync(folder)
                finally:
                    os.close(folder)
            except BaseException:
                _drop(trash, id_)
                raise
        sync(place.folder)
    return note


def restore(bin_: Bin, id_: str, to: Sequence[str] | None) -> str:
    """Move something back to where it was, or to another path; return the path."""
    with _opened(bin_.path) as trash, explained((id_,)):
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
            source = Place(folder, name, (id_, name), found)
            with placed(bin_.root, parts, follow=False, make=True) as target:
                require_inside(target.folder, bin_.root, target.parts[:-1])
                carry(source, target)
                sync(target.folder)
        finally:
            os.close(folder)
        _drop(trash, id_)
    return shown(parts)


def discarded(bin_: Bin) -> list[Discarded]:
    """List what can be restored, the newest first."""
    try:
        with _opened(bin_.path) as trash:
            names = sorted(os.listdir(trash), reverse=True)  # noqa: PTH208
            notes = (_read(trash, name[:-5]) for name in names if name.endswith(".json"))
            return [note for note in notes if note is not None]
    except NotFound:
        return []


def purge(all_: str, before: float) -> int:
    """Delete for good what was deleted before a time in any project; return how many that were."""
    count = 0
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(all_):  # noqa: PTH208
            with contextlib.suppress(NotFound, Conflict), _opened(f"{all_}/{name}") as trash:
                count += _purge(trash, before)
    return count


def _purge(trash: int, before: float) -> int:
    count = 0
    with explained(("trash",)):
        for name in os.listdir(trash):
            note = _read(trash, name[:-5]) if name.endswith(".json") else None
            if note is not None and note.deleted_at < before:
                try:
                    delete_for_good(Place(trash, note.trash_id, (note.trash_id,), None))
                except OSError:
                    continue  # so that it keeps no others from going
                _drop(trash, note.trash_id)
                count += 1
    return count


@contextmanager
def _opened(path: str, *, make: bool = False) -> Iterator[int]:
    """Open a trash folder; NotFound without one, Conflict where it is not a folder of ours."""
    if make:
        os.makedirs(path, 0o700, exist_ok=True)  # noqa: PTH103
    try:
        opened = os.open(path, FOLDER)
    except FileNotFoundError:
        raise NotFound("the project has no trash") from None
    except OSError as error:
        raise Conflict(f"the trash {path} cannot be opened: {error.strerror}") from None
    try:
        if os.fstat(opened).st_uid != os.geteuid():
            raise Conflict(f"the trash {path} belongs to another user; take it away")
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
    """Read a note; None where it is not one of ours, or cannot be read.

    Its id is checked here, whoever uses it: it names a folder that is moved or deleted.
    """
    try:
        file = os.open(f"{id_}.json", _NOTE, dir_fd=trash)
    except (OSError, ValueError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        note = msgspec.json.decode(os.read(file, NOTE_BYTES), type=Discarded)
    except (OSError, ValueError):  # ValueError is what msgspec's errors are
        return None
    finally:
        os.close(file)
    return note if note.trash_id == id_ else None


def _drop(trash: int, id_: str) -> None:
    """Remove the empty folder and the note of something."""
    with contextlib.suppress(OSError):
        os.rmdir(id_, dir_fd=trash)
    with contextlib.suppress(OSError):
        os.unlink(f"{id_}.json", dir_fd=trash)
