"""Whose size a terminal has: that of the viewer who has typed last, or has taken it over."""

from __future__ import annotations

from daemon.core.program import Size


class Sizes:
    """What each viewer wants, in the order in which they were last active."""

    def __init__(self, size: Size) -> None:
        """Begin with the size of who has opened it."""
        self.size = size
        self._wanted: dict[str, Size] = {}
        self._active: list[str] = []

    def want(self, viewer: str, size: Size, *, take_over: bool = False) -> None:
        """Note the size of a viewer; it counts where nobody else has typed since it did."""
        self._wanted[viewer] = size
        if take_over or not self._active:
            self.typed(viewer)
        elif self._active[-1] == viewer:
            self.size = size

    def typed(self, viewer: str) -> None:
        """Note who is active; one that has told no size is content with the one that is."""
        if self._active[-1:] != [viewer]:
            if viewer in self._active:
                self._active.remove(viewer)
            self._active.append(viewer)
        self.size = self._wanted.setdefault(viewer, self.size)

    def leave(self, viewer: str) -> None:
        """Forget a viewer; the one before it is the active one again, or whoever is left."""
        self._wanted.pop(viewer, None)
        if viewer in self._active:
            self._active.remove(viewer)
            if self._active:
                self.size = self._wanted[self._active[-1]]
            elif self._wanted:
                self.typed(next(reversed(self._wanted)))
