"""Everything of a work tree added to a copied index, also what git refuses to convert.

A file that is not in the encoding that its attributes say, or whose filter fails or is not
installed, would keep all others from a snapshot.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from daemon.core.errand import Finished
from domains.git.raw_files import Run, Settings, by_content, hashed

ONE_BY_ONE = 50
"""Files that git is asked to add alone; more of them are taken as they are."""

_ALL = ("add", "--all", "--ignore-errors")
_FROM_STDIN = ("--pathspec-from-file=-", "--pathspec-file-nul")
_FATAL = 128


class _Doubtful(NamedTuple):
    path: bytes
    executable: bool


async def add_all(run: Run, root: str, configured: Settings) -> bool:
    """Bring an index up to date; tell whether there is a file that git cannot convert.

    What cannot be read, and a repository without a commit inside this one, are left out.
    """
    await _show_hidden(run, root)
    said = await run(*_ALL, ok=(0, 1, _FATAL))
    if said.code != _FATAL:
        return False
    doubtful = await _doubtful(run, root, configured)
    rest = b"".join(b":(exclude,literal)%s\0" % each.path for each in doubtful)
    await run(*_ALL, *_FROM_STDIN, stdin=b".\0" + rest)
    refused = [
        each
        for at, each in enumerate(doubtful)
        if at >= ONE_BY_ONE or (await _added(run, each.path)).code
    ]
    blobs = await hashed(run, [each.path for each in refused])
    said_of = b"".join(
        b"%s %s\t%s\0" % (b"100755" if each.executable else b"100644", blobs[each.path], each.path)
        for each in refused
        if each.path in blobs
    )
    await run("update-index", "-z", "--index-info", stdin=said_of)
    return True


async def _show_hidden(run: Run, root: str) -> None:
    """Have git look at files that it was told to take as unchanged, or to leave alone.

    They are what somebody has changed here and will never commit. What a sparse checkout leaves
    out is not there, and stays so.
    """
    listed = (await run("ls-files", "-z", "-v")).stdout.split(b"\0")[:-1]
    hidden = [each[2:] for each in listed if each[:1].islower() or each[:1] == b"S"]
    there = await asyncio.to_thread(_there, root, hidden)
    for flag in ("--no-assume-unchanged", "--no-skip-worktree"):
        if there:
            said = b"".join(path + b"\0" for path in there)
            await run("update-index", flag, "-z", "--stdin", stdin=said)


def _there(root: str, paths: Sequence[bytes]) -> list[bytes]:
    folder = os.fsencode(root)
    return [path for path in paths if os.path.lexists(os.path.join(folder, path))]  # noqa: PTH118  # bytes


async def _added(run: Run, path: bytes) -> Finished:
    said = b":(literal)%s\0" % path
    return await run("add", *_FROM_STDIN, stdin=said, ok=(0, 1, _FATAL))


async def _doubtful(run: Run, root: str, configured: Settings) -> list[_Doubtful]:
    """List the files that are new or changed, and converted by more than their line endings."""
    new = await run("ls-files", "-z", "--others", "--exclude-standard")
    touched = ("diff-files", "-z", "--name-only", "--ignore-submodules=all")
    changed = await run(*configured.unfiltered(), *touched)  # by their times, whatever they hold
    paths = list(dict.fromkeys((new.stdout + changed.stdout).split(b"\0")[:-1]))
    found = await by_content(run, paths, configured)
    return await asyncio.to_thread(_regular, root, found)


def _regular(root: str, paths: Sequence[bytes]) -> list[_Doubtful]:
    found = []
    for path in paths:
        try:
            mode = os.lstat(os.path.join(os.fsencode(root), path)).st_mode  # noqa: PTH118  # bytes
        except OSError:
            continue
        if stat.S_ISREG(mode):
            found.append(_Doubtful(path, bool(mode & stat.S_IXUSR)))
    return found
