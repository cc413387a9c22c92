"""A tree as it was when it was last looked at, and what became of it since."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from typing import Literal

from domains.file.scanning import OWN, Folder, joined

Change = Literal["added", "modified", "deleted"]

Hints = dict[str, set[str] | None]
"""Folders to look at, and which of their names are said to differ; None: any of them."""

MODIFIED = 2
"""What watchfiles calls a change of what was there before and after (`Change.modified`)."""

_NET: dict[tuple[Change, Change], Change | None] = {
    ("added", "modified"): "added",
    ("added", "deleted"): None,
    ("modified", "added"): "modified",
    ("modified", "deleted"): "deleted",
    ("deleted", "added"): "modified",
    ("deleted", "modified"): "modified",
}


class RootGone(Exception):
    """The folder of the whole tree is gone, or another one is in its place."""


class Changes(dict[str, Change]):
    """What became of each path, as the net of all that was noted."""

    def note(self, path: str, change: Change) -> None:
        """Add one more change of a path to what is known of it."""
        before = self.get(path)
        if before is None or before == change:
            self[path] = change
            return
        net = _NET[before, change]
        if net is None:
            del self[path]
        else:
            self[path] = net

    def add(self, later: Changes) -> None:
        """Add what happened after all this."""
        for path, change in later.items():
            self.note(path, change)


class Snapshot:
    """What is known of a tree: its folders by their paths, relative to its root, which is empty.

    A folder that is `fresh` has no watch yet that could be relied on; one that is `odd` can have
    none, because of names that are no UTF-8 or because it cannot be read.
    """

    def __init__(self, root: str, limit: int) -> None:
        """Know nothing yet of the tree; more entries than `limit` are TooLarge."""
        self.root = root
        self.limit = limit
        self.folders: dict[str, Folder] = {}
        self.fresh: set[str] = set()
        self.odd: set[str] = set()
        self.entries = 0
        found = os.lstat(root)
        self._identity = (found.st_dev, found.st_ino)

    def check(self) -> None:
        """Raise RootGone unless the root is the folder that it was."""
        try:
            found = os.lstat(self.root)
        except OSError as error:
            raise RootGone(self.root) from error
        if (found.st_dev, found.st_ino) != self._identity or not stat.S_ISDIR(found.st_mode):
            raise RootGone(self.root)

    def path(self, folder: str) -> str:
        """Give the whole path of a folder."""
        return f"{self.root}/{folder}" if folder else self.root

    def all(self) -> Hints:
        """Give hints for a look at everything."""
        return dict.fromkeys(self.folders or ("",))

    def below(self, folder: str) -> Iterator[str]:
        """Go over a folder and the known folders below it."""
        stack = [folder]
        while stack:
            around = stack.pop()
            record = self.folders.get(around)
            if record is not None:
                yield around
                marks = record.marks().items()
                stack += [joined(around, name) for name, mark in marks if mark > OWN and mark & 1]

    def place(self, hinted: Collection[tuple[int, str]], hints: Hints) -> set[str]:
        """Turn what watchfiles says into hints; gives the names that it named.

        Where a folder was made, removed or renamed, its watch may have gone with the one before.
        """
        named = set()
        skip = len(self.root) + 1
        for kind, path in hinted:
            relative = path[skip:]
            folder, _, name = relative.rpartition("/")
            if relative and folder in self.folders:
                named.add(name)
                names = hints.setdefault(folder, set())
                if names is not None:
                    names.add(name)
            if relative in self.folders:
                hints[relative] = None
                if kind != MODIFIED:
                    self.fresh.add(relative)
        return named

    def differs(self, other: Snapshot) -> tuple[Changes, bool]:
        """Compare with a later one: what was modified, and whether one has what the other lacks."""
        changes = Changes()
        others = other.folders.keys() != self.folders.keys()
        for folder, record in self.folders.items():
            later = other.folders.get(folder)
            if later is None:
                continue
            was, is_ = record.marks(), later.marks()
            for name in was.keys() | is_.keys():
                old, new = was.get(name, 0), is_.get(name, 0)
                if (old < OWN) != (new < OWN):
                    others = True
                elif old != new and old >= OWN and not old & 1:
                    changes.note(joined(folder, name), "modified")
        return changes, others
