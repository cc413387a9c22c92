"""Files written back just as they were, past whatever git would make of them.

The way to each is opened folder by folder, so that no link leads out of the work tree, and a file
is there as a whole or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from daemon.core.errors import Conflict, Unavailable
from daemon.core.ids import new_id
from domains.git.work import Work

AT_ONCE = 16 << 20
"""Bytes of files that are held at a time; a larger file alone."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_EXISTING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class RawFile(NamedTuple):
    """A file, and the blob that holds its bytes."""

    path: bytes
    object_id: bytes
    executable: bool


async def write_back(git: Work, files: Sequence[RawFile]) -> None:
    """Write these files; Conflict where something else is in the place of one or its folders."""
    if not files:
        return
    sizes = await _sizes(git, {each.object_id for each in files})
    for some in _portions(files, sizes):
        ids = {each.object_id for each in some}
        total = sum(sizes[each] for each in ids)
        said = await git.run(
            *("cat-file", "--batch"),
            stdin=b"".join(each + b"\n" for each in ids),
            limit=total + 200 * len(ids),
        )
        await asyncio.to_thread(_write_all, git.root, some, said.stdout)


async def _sizes(git: Work, ids: Iterable[bytes]) -> dict[bytes, int]:
    said = await git.run(
        *("cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)"),
        stdin=b"".join(each + b"\n" for each in ids),
    )
    found = {}
    for line in said.stdout.splitlines():
        object_id, _, about = line.partition(b" ")
        kind, _, size = about.partition(b" ")
        if kind != b"blob":
            raise Unavailable(f"the snapshot lacks {object_id.decode()}: {about.decode()}")
        found[object_id] = int(size)
    return found


def _portions(files: Sequence[RawFile], sizes: Mapping[bytes, int]) -> Iterator[list[RawFile]]:
    some: list[RawFile] = []
    held = 0
    for each in files:
        size = sizes[each.object_id]
        if some and held + size > AT_ONCE:
            yield some
            some, held = [], 0
        some.append(each)
        held += size
    yield some


def _write_all(root: str, files: Sequence[RawFile], output: bytes) -> None:
    blobs = dict(_blobs(memoryview(output)))
    for each in files:
        try:
            _write(root, each, blobs[each.object_id])
        except OSError as error:
            name = each.path.decode(errors="replace")[:200]
            raise Conflict(f"{name!r} cannot be written: {error.strerror}") from None


def _blobs(output: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Read `cat-file --batch`: ID, `blob`, SIZE, newline, the bytes, newline."""
    at = 0
    while at < len(output):
        header = bytes(output[at : at + 200]).partition(b"\n")[0]
        object_id, _, size = header.split(b" ")
        begin = at + len(header) + 1
        yield object_id, output[begin : begin + int(size)]
        at = begin + int(size) + 1


def _write(root: str, file: RawFile, content: memoryview) -> None:
    *folders, name = file.path.split(b"/")
    if any(each in (b"", b".", b"..") or each.lower() == b".git" for each in (*folders, name)):
        raise Conflict(f"{file.path.decode(errors='replace')[:200]!r} is no name of a file")
    with _opened(root, folders) as folder:
        written = b".agentcmd-" + new_id().encode()
        mode = 0o777 if file.executable else 0o666
        try:
            with os.fdopen(os.open(written, _NEW, mode, dir_fd=folder), "wb") as target:
                _take_mode(folder, name, target.fileno(), executable=file.executable)
                target.write(content)
            os.replace(written, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(written, dir_fd=folder)
            raise


def _take_mode(folder: int, name: bytes, target: int, *, executable: bool) -> None:
    """Let a file that is replaced by one like it keep who may read it."""
    with contextlib.suppress(OSError):
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISREG(mode) and bool(mode & 0o100) == executable:
            os.fchmod(target, mode & 0o777)


def modes_of(root: str, paths: Iterable[bytes]) -> dict[bytes, int]:
    """Return the permissions of the regular files among these."""
    folder, found = os.fsencode(root), {}
    for path in paths:
        with contextlib.suppress(OSError):
            mode = os.lstat(os.path.join(folder, path)).st_mode  # noqa: PTH118  # bytes
            if stat.S_ISREG(mode):
                found[path] = mode & 0o777
    return found


def take_modes(root: str, modes: Mapping[bytes, int]) -> None:
    """Let files have the permissions of those that they replace, but for who may run them."""
    for path, before in modes.items():
        *folders, name = path.split(b"/")
        with contextlib.suppress(OSError), _opened(root, folders) as folder:
            file = os.open(name, _EXISTING, dir_fd=folder)
            try:
                now = os.fstat(file).st_mode
                wanted = before & 0o666 | ((before & 0o444) >> 2 if now & 0o100 else 0)
                if bool(before & 0o100) == bool(now & 0o100):
                    wanted = before
                if stat.S_ISREG(now) and now & 0o777 != wanted:
                    os.fchmod(file, wanted)
            finally:
                os.close(file)


@contextmanager
def _opened(root: str, folders: Sequence[bytes]) -> Iterator[int]:
    """Open a folder of the work tree, made where it is missing; no link is followed."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for each in folders:
            with contextlib.suppress(FileExistsError):
                os.mkdir(each, dir_fd=folder)
            inner = os.open(each, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)
