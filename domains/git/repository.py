"""A repository as its files say, looked at in a thread: where it is, what is under way in it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import NamedTuple

from daemon.core.errors import Conflict


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


async def look_up(root: str) -> Repository:
    """Find the repository whose work tree a folder is; Conflict says why it is none."""
    return await asyncio.to_thread(_look_up, root)


def _look_up(root: str) -> Repository:
    from git import InvalidGitRepositoryError, NoSuchPathError, Repo  # noqa: PLC0415  # 20 MB

    try:
        with Repo(root, expand_vars=False) as repo:
            git_dir, common_dir = os.fspath(repo.git_dir), os.fspath(repo.common_dir)
            bare = repo.bare
    except NoSuchPathError:
        raise Conflict(f"the folder {root} is gone") from None
    except (InvalidGitRepositoryError, OSError, ValueError):
        raise _none(root) from None
    if bare:
        raise Conflict(f"{root} is a bare repository: there is no work tree to work in")
    found = Repository(root, os.path.realpath(git_dir), os.path.realpath(common_dir))
    if not _belongs(found):
        raise Conflict(
            f"the repository of {root} is {found.git_dir}, which does not name it as its work "
            "tree; 'git worktree repair' mends that where it is meant"
        )
    return found


def _none(root: str) -> Conflict:
    around = next((p for p in Path(root).parents if (p / ".git").exists()), None)
    if around is not None:
        return Conflict(
            f"{root} lies inside the repository {around}; add that as a project, and use git there"
        )
    return Conflict(f"{root} is no git repository; make it one with operation init")


def _belongs(found: Repository) -> bool:
    """Tell whether a git dir elsewhere says that this is its work tree, as this one says of it.

    Without that a file `.git` in a folder from somewhere would open any repository of ours.
    """
    if Path(found.git_dir).parent == Path(found.root):
        return True
    pointer = Path(found.git_dir) / "gitdir"
    if pointer.is_file():  # a linked worktree
        named = Path(found.git_dir) / pointer.read_text().strip()
        return os.path.realpath(named.parent) == found.root
    from git import GitConfigParser  # noqa: PLC0415

    with GitConfigParser(
        str(Path(found.git_dir) / "config"), read_only=True, merge_includes=False
    ) as config:  # a submodule, or --separate-git-dir
        tree = str(config.get_value("core", "worktree", default=""))
    return bool(tree) and os.path.realpath(Path(found.git_dir) / tree) == found.root


def stamp(path: str) -> Stamp | None:
    """Look at a file; None where there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns)
