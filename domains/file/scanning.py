"""A folder read as it is: a mark for each name, which is another one when the file was changed."""

from __future__ import annotations

import errno
import os
import stat
import time
from array import array
from collections.abc import Collection, Mapping
from typing import NamedTuple

from domains.file.names import is_git, is_temporary

TICK_NS = 20_000_000
"""Ext4 and others stamp files with a clock that stands still for up to 10 ms (CONFIG_HZ=100)."""

IGNORED_FOLDER = 1
OWN = 2
"""Marks below are of what is ignored: nothing is known of it but that it is there. Odd ones are of
folders."""


class Scan(NamedTuple):
    """A folder as it is now: a mark for each name, and the names whose marks are racy.

    Such a file was stamped so lately that a write right after the scan may leave the same stamp:
    its mark being the same proves nothing then. `plain`: every name is UTF-8, all could be read.
    """

    marks: dict[str, int]
    racy: frozenset[str]
    plain: bool = True


class Folder:
    """A folder as it was: 8 bytes for each entry beside its name."""

    __slots__ = ("_marks", "_names", "racy")

    def __init__(self, marks: Mapping[str, int], racy: frozenset[str]) -> None:
        """Pack the marks of the names."""
        self._names = "\0".join(marks)
        self._marks = array("Q", marks.values())
        self.racy = racy

    def __len__(self) -> int:
        """Count its entries."""
        return len(self._marks)

    def marks(self) -> dict[str, int]:
        """Unpack the mark of each name."""
        if not self._marks:
            return {}
        return dict(zip(self._names.split("\0"), self._marks, strict=True))


def scanned(path: str) -> Scan | None:
    """Read a folder; None where there is none."""
    marks: dict[str, int] = {}
    racy = []
    recent = time.time_ns() - TICK_NS
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _GONE:
            return None
        if error.errno in _UNREADABLE:
            return Scan(marks, frozenset(), plain=False)
        raise
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                name = entry.name
                if _is_hidden(name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    marks[name] = _mark((entry.inode(),)) | 1
                    continue
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:  # gone since
                    continue
                marks[name] = _file_mark(found)
                if found.st_ctime_ns >= recent:
                    racy.append(name)
    finally:
        os.close(descriptor)
    return Scan(marks, frozenset(racy), is_text("\0".join(marks)))


def glanced(path: str, old: Folder, names: Collection[str]) -> Scan | None:
    """Look at some names of a large folder only; the others are taken to be as they were."""
    recent = time.time_ns() - TICK_NS
    marks = old.marks()
    racy = set(old.racy).difference(names)
    if not os.path.lexists(path):
        return None
    for name in names:
        if _is_hidden(name):
            continue
        try:
            found = os.lstat(f"{path}/{name}")
        except OSError:
            marks.pop(name, None)
            continue
        if stat.S_ISDIR(found.st_mode):
            marks[name] = _mark((found.st_ino,)) | 1
        else:
            marks[name] = _file_mark(found)
            if found.st_ctime_ns >= recent:
                racy.add(name)
    return Scan(marks, frozenset(racy), is_text("\0".join(marks)))


def _is_hidden(name: str) -> bool:
    """Tell whether a name is git's, or our own; few are looked at closely."""
    return (name[0] in ".gG" or not name.isascii()) and (is_git(name) or is_temporary(name))


def _file_mark(found: os.stat_result) -> int:
    return (
        _mark(
            (
                found.st_ino,
                found.st_size,
                found.st_mtime_ns,
                found.st_ctime_ns,
                found.st_mode,
            )
        )
        & ~1
    )


def _mark(facts: tuple[int, ...]) -> int:
    """Make 64 bits of some facts, more than the marks of what is ignored."""
    return (hash(facts) & 0xFFFF_FFFF_FFFF_FFFF) | OWN


def joined(folder: str, name: str) -> str:
    """Put a path together."""
    return f"{folder}/{name}" if folder else name


def is_text(name: str) -> bool:
    """Tell whether a name from the file system is UTF-8."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_UNREADABLE = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
