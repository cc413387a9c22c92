"""What folders hold."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from heapq import merge
from itertools import islice
from typing import Literal, NamedTuple

from msgspec import structs

from daemon.core.errors import AgentcmdError
from domains.file.commands.looking import Entry
from domains.file.disk.containment import explained, open_folder, placed
from domains.file.names import is_decodable, is_hidden_name, shown

MANY = 5000
"""Names in folders below the one that was asked for."""

PIECE = 2000
"""Names that are sorted at once; takes a millisecond."""

FOLDER, FILE = "0", "1"
"""How keys begin."""

Kind = Literal["file", "dir", "symlink", "other"]


class Listing(NamedTuple):
    """Names in a folder as keys in order, and whether there are more behind them.

    `parts` are the folder's path with all symlinks resolved.
    """

    parts: tuple[str, ...]
    keys: list[str]
    more: bool

    @property
    def names(self) -> list[str]:
        """Give the names."""
        return [name_of(key) for key in self.keys]


def key_of(name: str, *, folder: bool) -> str:
    """Give what a name is sorted by: folders first, then without regard to case, then exactly."""
    return f"{FOLDER if folder else FILE}{name.casefold()}\0{name}"


def name_of(key: str) -> str:
    """Give the name of a key."""
    return key.rpartition("\0")[2]


def listing(
    root: str, parts: Sequence[str], *, hidden: bool, after: str = "", most: int = MANY
) -> Listing:
    """List the first names in a folder, or those after a key.

    They are sorted in pieces: to sort very many at once would hold up all other threads.
    """
    pieces: list[list[str]] = [[]]
    with placed(root, parts) as place, explained(parts):
        folder = open_folder(place, root)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    name = entry.name
                    if is_hidden_name(name) or (name[0] == "." and not hidden):
                        continue
                    key = key_of(name, folder=entry.is_dir(follow_symlinks=False))
                    if key > after:
                        pieces[-1].append(key)
                    if len(pieces[-1]) == PIECE:
                        pieces[-1].sort()
                        pieces.append([])
        finally:
            os.close(folder)
    pieces[-1].sort()
    keys = list(islice(merge(*pieces), most + 1))
    return Listing(place.parts, keys[:most], len(keys) > most)


def listings(root: str, folders: Iterable[Sequence[str]], *, hidden: bool) -> list[Listing]:
    """List several folders as a whole, until they hold many names; those that are gone are not."""
    found: list[Listing] = []
    left = MANY
    for parts in folders:
        with contextlib.suppress(AgentcmdError):
            one = listing(root, parts, hidden=hidden, most=left)
            if one.more:
                break
            found.append(one)
            left -= len(one.keys)
    return found


def described(root: str, parts: Sequence[str], names: Iterable[str]) -> list[Entry]:
    """Describe what a folder holds under some names; what is gone by now is left out."""
    entries = []
    with placed(root, parts, follow=False) as place, explained(parts):
        folder = open_folder(place, root)
        try:
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    entries.append(_entry(root, (*parts, name), found))
        finally:
            os.close(folder)
    return entries


def kind_of(found: os.stat_result) -> Kind:
    """Tell what something is, by lstat(2)."""
    kinds: dict[int, Kind] = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink"}
    return kinds.get(stat.S_IFMT(found.st_mode), "other")


def _entry(root: str, parts: tuple[str, ...], found: os.stat_result) -> Entry:
    kind = kind_of(found)
    entry = Entry(
        name=shown(parts[-1:]),
        path=shown(parts),
        type=kind,
        size=found.st_size if kind == "file" else 0,
        modified_at=found.st_mtime,
        executable=kind == "file" and bool(found.st_mode & stat.S_IXUSR),
        undecodable=not all(map(is_decodable, parts)),
    )
    return _led(root, parts, entry) if kind == "symlink" else entry


def _led(root: str, parts: tuple[str, ...], entry: Entry) -> Entry:
    """Say where a symlink leads to, unless that is outside."""
    try:
        with placed(root, parts) as place:
            if place.found is None:
                return structs.replace(entry, broken=True)
            kind = kind_of(place.found)
            return structs.replace(
                entry,
                target=shown(place.parts) or ".",
                target_type=kind if kind != "symlink" else "other",
            )
    except AgentcmdError as error:
        gone = error.code == "not_found"
        return structs.replace(entry, broken=gone, outside=not gone)
