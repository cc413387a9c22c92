"""A look at some folders: finds what differs from the snapshot of them, and puts it in there."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from daemon.core.errors import TooLarge
from domains.file.scanning import (
    IGNORED_FOLDER,
    OWN,
    Folder,
    Scan,
    glanced,
    is_text,
    joined,
    scanned,
)
from domains.file.snapshot import Changes, Hints, RootGone, Snapshot

SPECULATION = 5000
"""Entries that a look goes ahead by before it asks what git ignores: few questions, and little
that is read in vain where they lie in a folder that is ignored as a whole."""

LARGE = 1000
"""Entries from which a folder is not read as a whole for a few names in it."""


class Look:
    """One look at some folders of a snapshot, and at what is new below them.

    `go` is called, in a thread, until it asks nothing more: it gives paths, those of folders with a
    slash at the end, and is then told which of them git ignores.
    """

    def __init__(self, snapshot: Snapshot, hints: Hints, *, doubtful: bool = False) -> None:
        """Look at these; a `doubtful` look takes what is racy for modified."""
        self.changes = Changes()
        self._snapshot = snapshot
        self._hints = hints
        self._doubtful = doubtful
        self._queue = deque(hints)
        self._seen: set[str] = set()
        self._pending: dict[str, tuple[Scan, bool]] = {}
        self._new_folders = {""}
        self._unjudged: list[str] = []
        self._refused: set[str] = set()
        self._held = 0

    def go(self, ignored: Collection[str] = ()) -> list[str]:
        """Take what was answered to the last question, and look on until the next."""
        while True:
            self._settle(ignored)
            ignored = ()
            while self._queue and self._held < SPECULATION:
                self._scan(self._queue.popleft())
            if self._unjudged or not (self._pending or self._queue):
                asked, self._unjudged = self._unjudged, []
                return asked

    def _scan(self, folder: str) -> None:
        snapshot = self._snapshot
        old = snapshot.folders.get(folder)
        if folder in self._seen or (old is None and not self._expected(folder)):
            return
        self._seen.add(folder)
        if not folder:
            snapshot.check()
        names = self._hints.get(folder)
        if old is not None and names and len(old) > LARGE and len(names) * 8 < len(old):
            scan = glanced(snapshot.path(folder), old, names)
        else:
            scan = scanned(snapshot.path(folder))
        if scan is None:
            if not folder:
                raise RootGone(snapshot.root)
            if old is not None:  # the one around it tells what has become of it
                self._again(folder.rpartition("/")[0])
            return
        self._pending[folder] = scan, old is not None
        self._held += len(scan.marks) + 1
        known = old.marks() if old is not None else {}
        for name, mark in scan.marks.items():
            was = known.get(name)
            if was is None or (was ^ mark) & 1:
                path = joined(folder, name)
                self._unjudged.append(f"{path}/" if mark & 1 else path)
                if mark & 1:
                    self._queue.append(path)

    def _settle(self, ignored: Collection[str]) -> None:
        """Put what was scanned into the snapshot, and note what differs."""
        snapshot = self._snapshot
        pending, self._pending, self._held = self._pending, {}, 0
        self._refused.update(path for path in ignored if path[-1] == "/")
        for folder, (scan, was_known) in pending.items():
            known = snapshot.folders.get(folder)
            if known is None and folder not in self._new_folders:
                self._seen.discard(folder)  # ignored, or gone since
            elif known is None and was_known:  # gone and made anew: its names were not judged
                self._again(folder)
            else:
                self._compare(folder, scan, known, ignored)
        if snapshot.entries > snapshot.limit:
            raise TooLarge(
                f"the project has more than {snapshot.limit} files and folders that git does not "
                "ignore; have it ignore more, or raise [file] watch_entries"
            )

    def _expected(self, folder: str) -> bool:
        """Tell whether a new folder may come in, as far as is known before it is its turn."""
        around = folder.rpartition("/")[0]
        return not folder or (
            f"{folder}/" not in self._refused
            and (around in self._snapshot.folders or around in self._pending)
        )

    def _again(self, folder: str) -> None:
        self._seen.discard(folder)
        self._queue.append(folder)

    def _compare(
        self, folder: str, scan: Scan, record: Folder | None, ignored: Collection[str]
    ) -> None:
        snapshot = self._snapshot
        was = record.marks() if record is not None else {}
        doubted = self._doubted(folder, record)
        for name, mark in scan.marks.items():
            old = was.pop(name, None)
            path = joined(folder, name)
            if old is None or (old ^ mark) & 1:
                scan.marks[name] = self._new(path, mark, old, ignored)
            elif old < OWN:
                scan.marks[name] = old
            elif mark & 1:
                self._still_a_folder(path, same=old == mark)
            elif old != mark or name in doubted:
                self.changes.note(path, "modified")
        for name, old in was.items():
            self._gone(joined(folder, name), old)
        odd = not (scan.plain and is_text(folder))
        if record is None or (folder in snapshot.odd and not odd):
            snapshot.fresh.add(folder)
        snapshot.entries += len(scan.marks) - (len(record) if record is not None else 0)
        snapshot.folders[folder] = Folder(scan.marks, scan.racy)
        if odd:
            snapshot.odd.add(folder)
        else:
            snapshot.odd.discard(folder)

    def _new(self, path: str, mark: int, old: int | None, ignored: Collection[str]) -> int:
        """Take in what was not there, or was a file and is a folder now; gives its mark."""
        if old is not None:
            self._gone(path, old)
        if (f"{path}/" if mark & 1 else path) in ignored:
            return mark & IGNORED_FOLDER
        if mark & 1:
            self._new_folders.add(path)
        self.changes.note(path, "added")
        return mark

    def _doubted(self, folder: str, record: Folder | None) -> Collection[str]:
        """Give the names whose marks prove nothing where they are the same."""
        if record is None or not record.racy or self._doubtful:
            return record.racy if record is not None else ()
        return record.racy.intersection(self._hints.get(folder) or ())

    def _still_a_folder(self, path: str, *, same: bool) -> None:
        snapshot = self._snapshot
        if path not in snapshot.folders:  # it was gone when it was its turn
            self._new_folders.add(path)
            self._again(path)
        elif not same:  # another one under the same name
            for known in list(snapshot.below(path)):
                snapshot.fresh.add(known)
                self._again(known)

    def _gone(self, path: str, mark: int) -> None:
        """Note that something is no more, and all that was in it; not of what was ignored."""
        snapshot = self._snapshot
        stack = [(path, mark)]
        while stack:
            path, mark = stack.pop()
            if mark < OWN:
                continue
            self.changes.note(path, "deleted")
            if not mark & 1:
                continue
            self._new_folders.discard(path)
            self._seen.discard(path)
            record = snapshot.folders.pop(path, None)
            if record is not None:
                snapshot.odd.discard(path)
                snapshot.fresh.discard(path)
                snapshot.entries -= len(record)
                marks = record.marks().items()
                stack += [(joined(path, name), each) for name, each in marks]
