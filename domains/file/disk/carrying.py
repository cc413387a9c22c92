"""Moves something between a project and the trash, by a copy where they are on two disks."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat

from daemon.core.errors import Conflict
from domains.file.disk.containment import FOLDER, Place
from domains.file.disk.moving import OtherDisk, move
from domains.file.disk.writing import copy_attributes
from domains.file.names import shown

DEPTH = 200
"""Folders within folders that are copied: each is held open until those in it are done."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def carry(source: Place, target: Place) -> None:
    """Move from one place to another; Conflict where the name is taken.

    A copy gets its name once it is complete. The source is renamed before it is deleted: where that
    is refused it is whole, and the copy goes.
    """
    try:
        move(source, target)
    except OtherDisk:
        pass
    else:
        return
    name = f".agentcmd-{secrets.token_hex(16)}.tmp"
    copied = Place(target.folder, target.name, target.parts, None)
    leaving = Place(source.folder, name, (*source.parts[:-1], name), None)
    unfinished = Place(target.folder, name, (*target.parts[:-1], name), None)
    try:
        _copy(source.folder, target.folder, source.name, name)
        move(unfinished, target)
    except BaseException:
        delete(unfinished)
        raise
    try:
        os.rename(source.name, name, src_dir_fd=source.folder, dst_dir_fd=source.folder)
    except BaseException:
        delete(copied)
        raise
    delete(leaving)


def _copy(source: int, target: int, name: str, to: str, depth: int = 0) -> None:
    found = os.stat(name, dir_fd=source, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), to, dir_fd=target)
    elif stat.S_ISREG(found.st_mode):
        _copy_file(source, target, name, to)
    elif not stat.S_ISDIR(found.st_mode):
        raise Conflict(f"{shown((name,))} is no file, and cannot be moved to another disk")
    elif depth >= DEPTH:
        raise Conflict(f"folders lie more than {DEPTH} deep, and are not moved to another disk")
    else:
        os.mkdir(to, 0o700, dir_fd=target)
        _copy_folder(source, target, name, to, depth)
    with contextlib.suppress(OSError):
        os.utime(
            to, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=target, follow_symlinks=False
        )


def _copy_folder(source: int, target: int, name: str, to: str, depth: int) -> None:
    inner = os.open(name, FOLDER, dir_fd=source)
    try:
        into = os.open(to, FOLDER, dir_fd=target)
        try:
            for each in os.listdir(inner):  # noqa: PTH208
                _copy(inner, into, each, each, depth + 1)
            os.fchmod(into, stat.S_IMODE(os.fstat(inner).st_mode))
        finally:
            os.close(into)
    finally:
        os.close(inner)


def _copy_file(source: int, target: int, name: str, to: str) -> None:
    with (
        os.fdopen(os.open(name, _READ, dir_fd=source), "rb") as old,
        os.fdopen(os.open(to, _NEW, 0o600, dir_fd=target), "wb") as new,
    ):
        shutil.copyfileobj(old, new, 1 << 20)
        new.flush()
        copy_attributes(old.fileno(), new.fileno())
        os.fchmod(new.fileno(), stat.S_IMODE(os.fstat(old.fileno()).st_mode))
        os.fsync(new.fileno())


def delete(place: Place) -> None:
    """Delete a file or a folder with all in it, folders that cannot be written too."""
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(place.name, dir_fd=place.folder)
            return
        for _, _, _, folder in os.fwalk(place.name, dir_fd=place.folder):
            with contextlib.suppress(OSError):
                os.fchmod(folder, 0o700)
        shutil.rmtree(place.name, dir_fd=place.folder)
