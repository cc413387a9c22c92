"""Where the viewers of a terminal are who are in a terminal of ours themselves."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Protocol

ARRIVAL = 10.0
"""Seconds within which one that has said where it is begins to view."""

MOST = 1000
"""Viewers that are remembered."""


class Viewer(Protocol):
    """A view, as far as it matters here."""

    id: str


class Places:
    """The terminal that each viewer is in, by the id of its connection."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._of: dict[str, tuple[str, float]] = {}

    def note(self, viewer: str, within: str, views: Iterable[Viewer]) -> None:
        """Record the terminal that a viewer is in; without a connection nothing is recorded."""
        if viewer:
            current = set(self._current(views))
            self._of = {each: self._of[each] for each in current}
            if len(self._of) < MOST or viewer in self._of:
                self._of[viewer] = (within, time.monotonic())

    def of(self, views: Iterable[Viewer]) -> list[str]:
        """Return the terminals in which this one is seen, or is about to be."""
        return [self._of[each][0] for each in self._current(views)]

    def _current(self, views: Iterable[Viewer]) -> Iterator[str]:
        known, now = {view.id for view in views}, time.monotonic()
        for each, (_, at) in self._of.items():
            if each in known or now - at < ARRIVAL:
                yield each
