"""A repository as its files say, looked at in a thread: where it is, what is under way in it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from pathlib import Path
from typing import NamedTuple

from daemon.core.errors import Conflict

POINTER_BYTES = 8192
"""Longest file that names a folder, as `.git` of a linked worktree does."""

CONFIG_BYTES = 1 << 20
"""Longest configuration that is read."""

_LINE = re.compile(
    rb"^[ \t]*(?:(?P<section>\[[^\n]*)|worktree[ \t]*=(?P<value>[^\n]*))",
    re.MULTILINE | re.IGNORECASE,
)
"""What tells `core.worktree`; foreign text is searched in linear time."""


class Repository(NamedTuple):
    """Where a work tree and its repository are: absolute, with links resolved.

    `common_dir` is the repository itself where `git_dir` is that of one linked worktree of it.
    """

    root: str
    git_dir: str
    common_dir: str


class Stamp(NamedTuple):
    """What tells whether a file is still the same."""

    inode: int
    size: int
    mtime_ns: int


async def look_up(root: str, *, trusted: bool = False) -> Repository:
    """Find the repository whose work tree a folder is; Conflict says why it is none.

    One that is elsewhere has to name the folder as its work tree, unless the project is `trusted`:
    a link `.git`, or a git dir made by `--separate-git-dir`, does not.

    It is looked for before anybody knows whether the repository is to be trusted. So only file
    names and the files that name a folder are read here: no configuration (GitPython's `Repo`
    reads it, and what it includes) and nothing that may block.
    """
    return await asyncio.to_thread(_look_up, root, trusted=trusted)


async def look_around(root: str, *, trusted: bool = False) -> Repository:
    """Find the repository that a folder is in, at its top or deeper; Conflict says why none.

    One above it counts for those who only read, as it does for git: on the same file system, and
    owned by the daemon's user, so that nobody else's folder above says anything.
    """
    return await asyncio.to_thread(_look_around, root, trusted=trusted)


def _look_around(root: str, *, trusted: bool) -> Repository:
    if not os.path.isdir(root) or os.path.lexists(Path(root, ".git")):  # noqa: PTH112
        return _look_up(root, trusted=trusted)
    device = Path(root).stat().st_dev
    for place in Path(root).parents:
        found = place.stat()
        if place.name == ".git" or found.st_dev != device:
            break
        if os.path.lexists(place / ".git"):
            repository = _look_up(str(place), trusted=trusted)
            owners = {found.st_uid, Path(repository.git_dir).stat().st_uid}
            if owners != {os.geteuid()}:
                break
            return repository
    return _look_up(root, trusted=trusted)


def _look_up(root: str, *, trusted: bool) -> Repository:
    if not Path(root).is_dir():
        raise Conflict(f"the folder {root} is gone")
    git_dir = git_dir_of(root)
    if git_dir is None:
        if common_dir_of(root) is not None:
            raise Conflict(f"{root} is a bare repository: there is no work tree to work in")
        raise _none(root)
    common_dir = common_dir_of(git_dir)
    if common_dir is None:
        raise _none(root)
    found = Repository(root, git_dir, common_dir)
    if not trusted and not _belongs(found):
        linked = git_dir != common_dir
        mends = "'git worktree repair' mends that, or " if linked else ""
        raise Conflict(
            f"the repository of {root} is {git_dir}, which does not name it as its work tree: "
            f"where that is meant, {mends}trust the project: 'agentcmd project trust ID'"
        )
    return found


async def begun(root: str) -> bool:
    """Tell whether git would find anything of a repository in a folder, a sound one or not."""
    return await asyncio.to_thread(_begun, root)


def _begun(root: str) -> bool:
    path = Path(root, ".git")
    if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
        return False
    return os.path.lexists(path) or common_dir_of(root) is not None


def git_dir_of(tree: str) -> str | None:
    """Give the git dir that a folder's `.git` is, or names; None where it has none."""
    path = os.path.join(tree, ".git")  # noqa: PTH118  # of thousands of folders
    if os.path.isdir(path):  # noqa: PTH112
        return os.path.realpath(path)
    said = _named_in(path)
    if said is None or not said.startswith("gitdir: "):
        return None
    return os.path.realpath(Path(tree) / said.removeprefix("gitdir: "))


def common_dir_of(git_dir: str) -> str | None:
    """Give the repository itself that a git dir is of; None for what is no git dir."""
    place = Path(git_dir)
    named = _named_in(place / "commondir")
    common = Path(os.path.realpath(place / named)) if named else place
    whole = os.path.lexists(place / "HEAD") and (common / "objects").is_dir()
    return str(common) if whole and (common / "refs").is_dir() else None


def _named_in(path: str | Path) -> str | None:
    """Read a small file that names a folder; None where there is none, or something else."""
    with contextlib.suppress(OSError, ValueError):
        found = os.stat(path)  # noqa: PTH116
        if os.path.isfile(path) and found.st_size <= POINTER_BYTES:  # noqa: PTH113  # no FIFO
            return os.fsdecode(Path(path).read_bytes()).rstrip("\r\n")
    return None


def _none(root: str) -> Conflict:
    around = next((p for p in Path(root).parents if (p / ".git").exists()), None)
    if around is not None:
        return Conflict(
            f"{root} lies inside the repository {around}; add that as a project, and use git there"
        )
    return Conflict(f"{root} is no git repository; make it one with operation init")


def _belongs(found: Repository) -> bool:
    """Tell whether a git dir elsewhere says that this is its work tree, as this one says of it.

    Without that a file `.git` or `commondir` in a folder from somewhere would open any repository
    of ours.
    """
    git_dir, root = Path(found.git_dir), os.path.realpath(found.root)
    if found.git_dir != found.common_dir:  # a linked worktree
        pointer = _named_in(git_dir / "gitdir")
        registered = git_dir.parent == Path(found.common_dir) / "worktrees"
        if pointer is None or not registered:
            return False
        return os.path.realpath((git_dir / pointer).parent) == root
    if str(git_dir.parent) == root and git_dir.name == ".git":
        return True
    tree = _work_tree(git_dir / "config")  # a submodule, or --separate-git-dir
    return bool(tree) and os.path.realpath(git_dir / tree) == root


def _work_tree(config: Path) -> str:
    """Read `core.worktree`, without what the configuration includes.

    Only what git itself writes is understood: one line, a value of at most a path's length.
    """
    found, section = "", b""
    try:
        if not config.is_file() or config.stat().st_size > CONFIG_BYTES:
            return ""
        for line in _LINE.finditer(config.read_bytes()):
            if line["section"] is not None:
                section = line["section"].strip().lower()
            elif section == b"[core]":
                found = os.fsdecode(_unquoted(line["value"].strip()))
    except OSError:
        return ""
    return "" if "\0" in found else found


def _unquoted(value: bytes) -> bytes:
    """Read a value of git-config(1) as git writes one: in quotes where it has to be."""
    if len(value) > 1 and value[:1] == value[-1:] == b'"':
        value = value[1:-1]
    return value.replace(b'\\"', b'"').replace(b"\\\\", b"\\")


def stamp(path: str) -> Stamp | None:
    """Look at a file; None where there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns)
