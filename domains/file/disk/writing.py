"""Files written so that others see all of it or nothing, and folders made."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from daemon.core.errors import BadRequest, Conflict
from domains.file.commands.changing import FolderMade, MakeFolder, WriteFile, Written
from domains.file.disk.containment import Place, explained, placed, require_inside
from domains.file.disk.reading import hash_of, open_at, require_regular, sha256
from domains.file.names import shown

LEFT = 3600.0
"""Seconds after which a temporary file is one that a daemon which died has left."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write(root: str, parts: Sequence[str], asked: WriteFile, data: bytes) -> Written:
    """Write a file: into one beside it that then takes its name."""
    with placed(root, parts, make=asked.parents) as place, explained(parts):
        if not place.parts:
            raise BadRequest("that is the project's folder; name a file in it")
        if place.found is not None:
            require_regular(place.found, place.parts)
            _require_writable(place)
        _require_expected(place, asked.expected)
        with _temporary(place) as name:
            _fill(place, name, data, executable=asked.executable)
            require_inside(place.folder, root, place.parts[:-1])
            _require_same(place)
            if place.found is None:
                _take_free_name(place, name)
            else:
                os.replace(name, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
        sync(place.folder)
    return Written(
        project_id=asked.project_id,
        path=shown(parts),
        hash=sha256(data),
        size=len(data),
        created=place.found is None,
    )


def make_folder(root: str, parts: Sequence[str], asked: MakeFolder) -> FolderMade:
    """Make a folder; one that is there already is as good."""
    with placed(root, parts, make=asked.parents) as place, explained(parts):
        if place.found is not None and not place.is_folder():
            raise Conflict(f"{shown(parts)} is there already, and no folder")
        if place.found is None:
            with contextlib.suppress(FileExistsError):
                os.mkdir(place.name, 0o755, dir_fd=place.folder)
            sync(place.folder)
    return FolderMade(project_id=asked.project_id, path=shown(parts), created=place.found is None)


def sync(folder: int) -> None:
    """See that new names in a folder are on the disk, where its file system can."""
    with contextlib.suppress(OSError):
        os.fsync(folder)


def _require_writable(place: Place) -> None:
    """Raise Conflict for a file that is protected: to take its name only its folder counts."""
    own = os.access in os.supports_effective_ids
    if not os.access(place.name, os.W_OK, dir_fd=place.folder, effective_ids=own):
        raise Conflict(
            f"the system refuses that to the daemon's user: {shown(place.parts)} is protected from "
            "writing; give it write permission first"
        )


def _require_expected(place: Place, expected: str | None) -> None:
    if expected is None:
        return
    present = None
    if place.found is not None:
        file = open_at(place)
        try:
            present = hash_of(file, place.found.st_size)
        finally:
            os.close(file)
    if expected != (present or "absent"):
        what = "is not there" if present is None else "is not what you have read"
        raise Conflict(
            f"{shown(place.parts)} {what}; read it again, and see what of yours still fits",
            hash=present,
        )


def _require_same(place: Place) -> None:
    """See that nobody has changed the file since it was looked at."""
    try:
        now = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
    except FileNotFoundError:
        now = None
    if (now and _stamp(now)) != (place.found and _stamp(place.found)):
        raise Conflict(f"{shown(place.parts)} has been changed meanwhile; read it again")


def _stamp(found: os.stat_result) -> tuple[int, int, int, int]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


@contextmanager
def _temporary(place: Place) -> Iterator[str]:
    """Give the name of a file that is not there afterwards, unless it was renamed."""
    digest = hashlib.sha256(os.fsencode(place.name)).hexdigest()[:16]
    name = f".agentcmd-{digest}.tmp"  # the same for each write, so that what was left goes away
    try:
        left = os.stat(name, dir_fd=place.folder, follow_symlinks=False)
    except FileNotFoundError:
        left = None
    if left is not None and time.time() - left.st_mtime > LEFT:
        with contextlib.suppress(OSError):  # a folder, which is not ours
            os.unlink(name, dir_fd=place.folder)
            left = None
    if left is not None:
        name = f".agentcmd-{digest}{secrets.token_hex(8)}.tmp"
    try:
        yield name
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=place.folder)


def _fill(place: Place, name: str, data: bytes, *, executable: bool | None) -> None:
    """Write all of it and see that it is on the disk, with the mode that it is to have."""
    old = place.found
    mode = 0o600 if old is not None else 0o755 if executable else 0o644
    file = os.open(name, _NEW, mode, dir_fd=place.folder)
    try:
        if old is not None:
            _keep(file, place, old, executable=executable)
        left = memoryview(data)
        while left:
            left = left[os.write(file, left) :]
        os.fsync(file)
    finally:
        os.close(file)


def _keep(file: int, place: Place, old: os.stat_result, *, executable: bool | None) -> None:
    """Give a new file what the old one has: owner where that is allowed, mode, attributes."""
    mode = stat.S_IMODE(old.st_mode)
    try:
        os.fchown(file, old.st_uid, old.st_gid)
    except OSError:
        mode &= 0o777  # what runs as its owner must not run as another
        with contextlib.suppress(OSError):
            os.fchown(file, -1, old.st_gid)
    if executable is not None:
        readable = (mode & 0o444) >> 2
        mode = mode | readable if executable else mode & ~0o111
    if hasattr(os, "listxattr"):
        _copy_attributes(file, place)
    os.fchmod(file, mode)


def _copy_attributes(file: int, place: Place) -> None:
    with contextlib.suppress(OSError):
        old = open_at(place)
        try:
            copy_attributes(old, file)
        finally:
            os.close(old)


def copy_attributes(old: int, new: int) -> None:
    """Copy the extended attributes of an open file, as far as the system allows that."""
    for name in os.listxattr(old) if hasattr(os, "listxattr") else ():
        with contextlib.suppress(OSError):
            os.setxattr(new, name, os.getxattr(old, name))


def _take_free_name(place: Place, name: str) -> None:
    """Give a file its name unless somebody else was faster, where the file system can tell."""
    try:
        os.link(
            name,
            place.name,
            src_dir_fd=place.folder,
            dst_dir_fd=place.folder,
            follow_symlinks=False,
        )
    except FileExistsError:
        raise Conflict(
            f"{shown(place.parts)} has been made by somebody else meanwhile; read it"
        ) from None
    except (OSError, NotImplementedError):  # a file system without hard links
        os.rename(name, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
