"""What a watch tells: changes in order, in events of some size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from domains.file.events import FileChange
from domains.file.names import shown
from domains.file.snapshot import Changes

EVENT_CHANGES = 2000
EVENT_CHARACTERS = 200_000
"""Changes of one event, and characters of their paths: it stays below `[journal] event_bytes`."""


class Told(NamedTuple):
    """One report: what changed, and whether that is not all."""

    changes: Sequence[FileChange]
    overflow: bool = False


def reports(found: Changes) -> list[tuple[FileChange, ...]]:
    """Put changes in order: what is gone from the inside out, then the rest from the outside in."""
    gone = sorted((path for path, what in found.items() if what == "deleted"), reverse=True)
    rest = sorted(path for path, what in found.items() if what != "deleted")
    told: list[tuple[FileChange, ...]] = []
    current: list[FileChange] = []
    size = 0
    for path in (*gone, *rest):
        current.append(FileChange(path=shown((path,)), change=found[path]))
        size += len(path)
        if len(current) >= EVENT_CHANGES or size > EVENT_CHARACTERS:
            told.append(tuple(current))
            current, size = [], 0
    if current:
        told.append(tuple(current))
    return told
