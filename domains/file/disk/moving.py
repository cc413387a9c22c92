"""Files and folders renamed, without replacing what nobody has spoken of."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Callable, Sequence
from functools import cache

from daemon.core.errors import BadRequest, Conflict
from domains.file.commands.changing import Renamed, RenameFile
from domains.file.disk.containment import Place, explained, placed, require_inside
from domains.file.disk.writing import sync
from domains.file.names import shown

_CALLS = {"linux": ("renameat2", 1), "darwin": ("renameatx_np", 4)}
"""What renames only to a free name: RENAME_NOREPLACE, RENAME_EXCL."""

_UNABLE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


class OtherDisk(Conflict):
    """The source and the target are on two file systems, between which nothing is renamed."""


def rename(root: str, parts: Sequence[str], to: Sequence[str], asked: RenameFile) -> Renamed:
    """Rename something in a project."""
    with (
        placed(root, parts, follow=False) as source,
        placed(root, to, follow=False) as target,
        explained(parts),
    ):
        require_movable(source)
        if target.parts[: len(source.parts)] == source.parts and target.parts != source.parts:
            raise BadRequest(f"{shown(parts)} cannot be moved into itself")
        if target.is_folder() and not asked.overwrite and not _same_name(source, target):
            raise _taken(target)
        require_inside(source.folder, root, source.parts[:-1])
        require_inside(target.folder, root, target.parts[:-1])
        replaced = target.found is not None and not _same_name(source, target)
        move(source, target, overwrite=asked.overwrite)
        sync(source.folder)
        sync(target.folder)
    return Renamed(project_id=asked.project_id, path=shown(parts), to=shown(to), replaced=replaced)


def require_movable(place: Place) -> None:
    """Raise for what does not exist, and for the project itself."""
    place.required()
    if not place.parts:
        raise BadRequest("that is the project's folder itself; name something in it")


def move(source: Place, target: Place, *, overwrite: bool = False) -> None:
    """Rename from one place to another; Conflict where the name is taken, unless `overwrite`."""
    try:
        if overwrite and _are_hard_links(source, target):  # rename(2) leaves both then
            os.unlink(source.name, dir_fd=source.folder)
        elif overwrite or _same_name(source, target):
            os.rename(source.name, target.name, src_dir_fd=source.folder, dst_dir_fd=target.folder)
        else:
            _rename_to_free(source, target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR):
            raise _taken(target) from None
        if error.errno == errno.EXDEV:
            raise OtherDisk(
                f"{shown(target.parts)} would be on another disk than {shown(source.parts)}; copy "
                "it in a terminal"
            ) from None
        if error.errno == errno.EBUSY:
            raise Conflict(f"{shown(source.parts)} is where a disk is mounted") from None
        raise


def _taken(target: Place) -> Conflict:
    how = "is a folder, which is not replaced" if target.is_folder() else "is there already"
    return Conflict(f"{shown(target.parts)} {how}; choose another name")


def _same_name(source: Place, target: Place) -> bool:
    """Tell whether both are one thing whose name only changes its case, where case is the same."""
    if source.found is None or target.found is None or source.parts[:-1] != target.parts[:-1]:
        return False
    if not os.path.samestat(source.found, target.found):
        return False
    return source.name == target.name or not {source.name, target.name} <= set(
        os.listdir(source.folder)  # noqa: PTH208
    )


def _are_hard_links(source: Place, target: Place) -> bool:
    """Return whether both names are there, of one file."""
    if source.found is None or target.found is None or stat.S_ISDIR(source.found.st_mode):
        return False
    old = os.stat(source.name, dir_fd=source.folder, follow_symlinks=False)
    new = os.stat(target.name, dir_fd=target.folder, follow_symlinks=False)
    if not os.path.samestat(old, new):
        return False
    if not os.path.samestat(os.fstat(source.folder), os.fstat(target.folder)):
        return True
    names = {source.name, target.name}
    return len(names) == 2 and names <= set(os.listdir(source.folder))  # noqa: PTH208


def _rename_to_free(source: Place, target: Place) -> None:
    call = _exclusive()
    if call is not None:
        try:
            call(source, target)
        except OSError as error:
            if error.errno not in _UNABLE:
                raise
        else:
            return
    try:  # a moment in which somebody may take the name is left here
        os.stat(target.name, dir_fd=target.folder, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(source.name, target.name, src_dir_fd=source.folder, dst_dir_fd=target.folder)
    else:
        raise _taken(target)


@cache
def _exclusive() -> Callable[[Place, Place], None] | None:
    """Find the system's call that renames only to a free name; None where it has none."""
    name, flag = _CALLS.get(sys.platform, ("", 0))
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None) if name else None
    if function is None:
        return None
    function.argtypes = (
        ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint,
    )  # fmt: skip

    def call(source: Place, target: Place) -> None:
        old, new = os.fsencode(source.name), os.fsencode(target.name)
        if function(source.folder, old, target.folder, new, flag):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), target.name)

    return call
