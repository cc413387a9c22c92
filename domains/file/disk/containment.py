"""Finds a path below a folder, step by step from descriptor to descriptor; runs in a thread.

No name is looked up twice, and none by a path of more than one part: what is swapped for a symlink
meanwhile is either seen as one or not followed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from daemon.core.errors import AgentcmdError, BadRequest, Conflict, NotFound, Unavailable
from domains.file.names import require_free, shown

LINKS = 40
"""Symlinks on the way to one thing, as Linux has it."""

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

_GETPATH = 50
"""F_GETPATH of macOS, which the module fcntl of 3.11 has only there."""

_KNOWN: tuple[tuple[frozenset[int], type[AgentcmdError], str], ...] = (
    (
        frozenset({errno.ELOOP, errno.ENOTDIR, errno.ESTALE}),
        Conflict,
        "{what} has become something else meanwhile; try again",
    ),
    (frozenset({errno.ENOENT}), NotFound, "{what} is gone; look at the folder again"),
    (
        frozenset({errno.ENOSPC, errno.EDQUOT}),
        Unavailable,
        "the disk is full, {what} stays as it was; make room, and try again",
    ),
    (
        frozenset({errno.EACCES, errno.EPERM, errno.EROFS}),
        Conflict,
        "the system refuses that to the daemon's user at {what}: {why}",
    ),
    (
        frozenset({errno.ENAMETOOLONG}),
        BadRequest,
        "the name of {what} is too long for that file system",
    ),
    (frozenset({errno.EFBIG}), Unavailable, "{what} is larger than the system allows"),
    (
        frozenset({errno.EMFILE, errno.ENFILE}),
        Unavailable,
        "the system has no more descriptors; try again later",
    ),
)
"""What the system says, and what that means for a client."""


class Place(NamedTuple):
    """Where something is or may be made: under a `name` in an open folder.

    `parts` are its path from the project's folder with all symlinks resolved; `found` is what is
    there, by lstat(2). The project's own folder is its own parent, as the name `.`.
    """

    folder: int
    name: str
    parts: tuple[str, ...]
    found: os.stat_result | None

    def required(self) -> os.stat_result:
        """Give what is there; NotFound where nothing is."""
        if self.found is None:
            raise NotFound(f"there is no {shown(self.parts)} in the project")
        return self.found

    def is_folder(self) -> bool:
        """Tell whether it is a folder."""
        return self.found is not None and stat.S_ISDIR(self.found.st_mode)


@contextmanager
def placed(
    root: str, parts: Sequence[str], *, follow: bool = True, make: bool = False
) -> Iterator[Place]:
    """Find where a path leads; `follow` the last part too, `make` folders that are not there.

    BadRequest where it leads out of the folder, or into what is not for clients.
    """
    walk = _Walk(root, parts, follow=follow, make=make)
    try:
        with explained(parts):
            place = walk.go()
        require_inside(place.folder, root, place.parts[:-1])
        yield place
    finally:
        os.close(walk.folder)


def open_folder(place: Place, root: str) -> int:
    """Open the folder that is at a place, to be closed by the caller."""
    if not place.is_folder():
        place.required()
        raise BadRequest(f"{shown(place.parts)} is no folder")
    opened = os.open(place.name, FOLDER, dir_fd=place.folder)
    try:
        require_inside(opened, root, place.parts)
    except BaseException:
        os.close(opened)
        raise
    return opened


def require_inside(folder: int, root: str, parts: Sequence[str]) -> None:
    """Look where an open folder really is; Conflict where it was moved out of the project."""
    where = _where(folder)
    if where is None:
        path = os.path.realpath(os.path.join(root, *parts))  # noqa: PTH118
        inside = _below(path, root) and os.path.samestat(os.fstat(folder), os.stat(path))  # noqa: PTH116
    else:
        inside = _below(where, root)
    if not inside:
        raise Conflict(f"{shown(parts) or 'the project'} has been moved meanwhile; try again")


@contextmanager
def explained(parts: Sequence[str]) -> Iterator[None]:
    """Turn what the system refuses into an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise _of(error, shown(parts) or "the project's folder") from None


class _Walk:
    """The way to one thing: an open folder, its names from the project's folder, and what is left.

    The folder is held open by whoever has the walk; `close` it, or take it over.
    """

    def __init__(self, root: str, parts: Sequence[str], *, follow: bool, make: bool) -> None:
        self.folder = open_root(root)
        self._root = root
        self._asked = parts
        self._follow = follow
        self._make = make
        self._way: list[str] = []
        self._left = deque(parts)
        self._links = 0

    def go(self) -> Place:
        """Go to the end."""
        while self._left:
            name = self._left.popleft()
            if name == "..":
                self._up()
            elif name not in ("", "."):
                place = self._step(name)
                if place is not None:
                    return place
        if not self._way:
            return Place(self.folder, ".", (), os.fstat(self.folder))
        way = tuple(self._way)  # it ended in a folder, as a symlink to `..` does: back to its name
        self._restart(way)
        self._follow = False
        return self.go()

    def _step(self, name: str) -> Place | None:
        """Go into one folder, or along one symlink; gives the place where it is the last."""
        here = (*self._way, name)
        require_free(here)
        last = not any(part not in ("", ".") for part in self._left)
        found = _look(self.folder, name)
        if found is not None and stat.S_ISLNK(found.st_mode) and (self._follow or not last):
            self._along(os.readlink(name, dir_fd=self.folder))
        elif last:
            return Place(self.folder, name, here, found)
        else:
            self._enter(name, found, here)
        return None

    def _up(self) -> None:
        """Go up, as symlinks may say: from the top again, by names that are known."""
        if not self._way:
            raise _outside(self._asked)
        self._restart((*self._way[:-1], *self._left))

    def _along(self, target: str) -> None:
        """Go along a symlink."""
        self._links += 1
        if self._links > LINKS:
            raise BadRequest(f"{shown(self._asked)} leads through too many symlinks")
        if target.startswith("/"):
            self._restart((*_relative(target, self._root, self._asked), *self._left))
        else:
            self._left.extendleft(reversed(target.split("/")))

    def _enter(self, name: str, found: os.stat_result | None, here: Sequence[str]) -> None:
        if found is None and not self._make:
            raise NotFound(f"there is no folder {shown(here)} in the project")
        if found is None:
            _make(self.folder, name)
        elif not stat.S_ISDIR(found.st_mode):
            raise BadRequest(f"{shown(here)} is no folder")
        self._change_to(os.open(name, FOLDER, dir_fd=self.folder))
        self._way.append(name)

    def _restart(self, left: Sequence[str]) -> None:
        self._change_to(open_root(self._root))
        self._way.clear()
        self._left = deque(left)

    def _change_to(self, folder: int) -> None:
        os.close(self.folder)
        self.folder = folder


def open_root(root: str) -> int:
    """Open a project's folder, to be closed by the caller; NotFound where it is gone."""
    try:
        return os.open(root, FOLDER)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise NotFound(f"the folder {root} of the project is gone") from None
        raise _of(error, root) from None


def _look(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _make(folder: int, name: str) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=folder)
    except FileExistsError:
        return  # somebody else was faster; what it is shows when it is opened


def _relative(target: str, root: str, asked: Sequence[str]) -> list[str]:
    """Give an absolute target from the project's folder on."""
    real = os.path.realpath(target)
    if not _below(real, root):
        raise _outside(asked)
    return [part for part in real[len(root) :].split("/") if part]


def _below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _where(folder: int) -> str | None:
    """Ask the system for the path of an open folder; None where it does not say."""
    try:
        if sys.platform == "darwin":
            said = fcntl.fcntl(folder, _GETPATH, b"\0" * 1024)
            return os.fsdecode(said.rstrip(b"\0"))
        return os.readlink(f"/proc/self/fd/{folder}")  # noqa: PTH115
    except OSError:
        return None


def _outside(parts: Sequence[str]) -> BadRequest:
    return BadRequest(f"{shown(parts)} leads out of the project, through a symlink")


def _of(error: OSError, what: str) -> AgentcmdError:
    for numbers, kind, sentence in _KNOWN:
        if error.errno in numbers:
            return kind(sentence.format(what=what, why=error.strerror))
    return Unavailable(f"{what}: {error.strerror}")
