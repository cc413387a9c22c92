"""What of a repository's files leads out of it, or waits to be run: looked at in a thread.

A clone has nothing of this. A folder that came from somewhere may have links in the place of files
that git reads or writes, another repository's objects, other repositories as submodules, and a
rebase under way whose next step is a command.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from daemon.core.errors import Conflict
from domains.git.repository import Repository, common_dir_of, git_dir_of

NOT_GITS = frozenset({"hooks", "lfs", "annex"})
"""What git does not read there, hooks because they are switched off; links in it are usual."""

WAITING = " (exec)"
"""How a command is told that waits in the list of a rebase; no look runs it."""

FOLDERS = 100_000
"""Folders of a repository that are remembered as looked at; then it begins anew."""

INDEX_BYTES = 256 << 20
"""Longest index that is looked through for submodules."""

TODO_BYTES = 16 << 20
"""Longest list of what a rebase has still to do."""

_GITLINK = b"\x00\x00\xe0\x00"
"""The mode of a submodule as an index entry has it (gitformat-index(5))."""

_EXEC = re.compile(rb"\n[ \t\r\f\v]*(?:exec|x)\s")
"""A command, at the beginning of a line of the list."""

PIECE = 64 << 10
"""Bytes of a list that are searched at once: a search holds up all other threads."""

Seen = tuple[int, int, tuple[str, ...]]


class Layouts:
    """Looks through the folders of repositories; one that has not changed is not read again."""

    def __init__(self) -> None:
        """Know no folder yet."""
        self._seen: dict[str, Seen] = {}

    def faults(self, repository: Repository) -> list[str]:
        """List what leads out of a repository, or is run by it, relative to the repository."""
        places = [repository.common_dir]
        if not _inside(repository.git_dir, repository.common_dir):
            places.append(repository.git_dir)
        found = [fault for place in places for fault in self._links(place, places)]
        for name in ("objects/info/alternates", "objects/info/http-alternates"):
            with contextlib.suppress(FileNotFoundError):
                if Path(repository.common_dir, name).stat().st_size:
                    found.append(name)
        for name in ("rebase-merge/git-rebase-todo", "sequencer/todo"):
            path = Path(repository.git_dir, name)
            if path.is_file() and _runs(path):
                found.append(f"{name}{WAITING}")
        return found

    def _links(self, place: str, places: list[str]) -> Iterator[str]:
        """Yield links that lead out of a git dir, and what would block who opens it."""
        folders = [place]
        while folders:
            folder = folders.pop()
            try:
                now = os.stat(folder)  # noqa: PTH116  # of hundreds
            except FileNotFoundError:
                continue
            seen = self._seen.get(folder)
            if seen is None or seen[:2] != (now.st_ino, now.st_mtime_ns):
                below, wrong = _scanned(folder, places, skip=NOT_GITS if folder == place else ())
                yield from (os.path.relpath(path, place) for path in wrong)
                if wrong:
                    self._seen.pop(folder, None)  # so it is said again
                    folders.extend(below)
                    continue
                if len(self._seen) >= FOLDERS:
                    self._seen.clear()
                seen = self._seen[folder] = (now.st_ino, now.st_mtime_ns, tuple(below))
            folders.extend(seen[2])


def _runs(todo: Path) -> bool:
    """Tell whether the rest of a rebase has commands; one that is too long may have."""
    if todo.stat().st_size > TODO_BYTES:
        return True
    rest = b"\n"
    with todo.open("rb") as lines:
        while piece := lines.read(PIECE):
            text = rest + piece
            rest = text[text.rfind(b"\n") :]
            if _EXEC.search(text):
                return True
            if len(rest) > PIECE:
                if not rest.strip():
                    return True  # so many blanks are nobody's honest indentation
                rest = b"\n#"  # of a line only its first word counts
    return _EXEC.search(rest + b"\n") is not None


def _scanned(folder: str, places: list[str], *, skip: Iterable[str]) -> tuple[list[str], list[str]]:
    below, wrong = [], []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in skip:
                continue
            if entry.is_symlink():
                target = os.path.realpath(entry.path)
                if not any(_inside(target, place) for place in places):
                    wrong.append(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                below.append(entry.path)
            elif not entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):
                    if not stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                        wrong.append(entry.path)
    return below, wrong


def nested(repository: Repository, *, everywhere: bool) -> Iterator[Repository]:
    """Yield the repositories in a work tree that git may run itself in: those of submodules.

    What only looks runs git in those that the index names. What changes the index may name any that
    lies there: then `everywhere` is looked for them. Conflict for one that is not its own.
    """
    root = repository.root
    folders = _everywhere(root) if everywhere else _in_index(repository)
    for folder in folders:
        if not os.path.lexists(os.path.join(folder, ".git")):  # noqa: PTH118
            continue
        git_dir = git_dir_of(folder)
        common_dir = git_dir and common_dir_of(git_dir)
        if not git_dir or not common_dir:
            continue  # git does not take it for a repository either
        for place in (git_dir, common_dir):
            if not _inside(place, repository.common_dir) and not _inside(place, root):
                raise Conflict(
                    f"{os.path.relpath(folder, root)} has the repository {place}, which is not in "
                    "this project; if that is meant, trust the project: 'agentcmd project trust ID'"
                )
        found = Repository(folder, git_dir, common_dir)
        yield found
        if not everywhere:
            yield from nested(found, everywhere=False)


def _everywhere(root: str) -> Iterator[str]:
    """Yield the folders below a work tree that have a `.git`."""
    folders = [root]
    while folders:
        folder = folders.pop()
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.lower() == ".git":
                    if folder != root:
                        yield folder
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def _in_index(repository: Repository) -> Iterator[str]:
    """Yield the folders that an index may have as submodules; more than has them is no harm."""
    for path in (
        Path(repository.git_dir, "index"),
        *Path(repository.git_dir).glob("sharedindex.*"),
    ):
        with contextlib.suppress(FileNotFoundError):
            if not path.is_file():
                continue  # nor does git read it
            if path.stat().st_size > INDEX_BYTES:
                raise Conflict(f"{path} is too large to be looked through; trust the project")
            content = path.read_bytes()
            if _GITLINK not in content:
                continue
            if content[4:8] == b"\0\0\0\4":  # names are shortened in this version
                yield from _everywhere(repository.root)
                continue
            for name in _names(content):
                yield os.path.join(repository.root, os.fsdecode(name))  # noqa: PTH118


def _names(content: bytes) -> Iterator[bytes]:
    """Yield what stands where the name of a submodule would, behind its mode.

    An entry is 24 bytes, the mode, 12 bytes, an id of 20 or 32 bytes, flags of 2 or 4, the name.
    """
    at = content.find(_GITLINK)
    while at >= 0:
        for length in (20, 22, 32, 34):
            begin = at + 16 + length + 2
            name = content[begin : content.find(b"\0", begin)]
            if name and not name.startswith(b"/") and b".." not in name.split(b"/"):
                yield name
        at = content.find(_GITLINK, at + 1)


def _inside(path: str, place: str) -> bool:
    return path == place or path.startswith(place + "/")
