"""How fast a program may write: as its slowest viewer shows it, for those that say so."""

from __future__ import annotations

import math

STALL = 5.0
"""Seconds without progress after which a viewer no longer holds the program up."""

FIRST_WINDOW = 256 << 10
LEAST_WINDOW = 128 << 10
MOST_WINDOW = 4 << 20
"""Bytes between what is shown and what may be written."""

DEPTH = 0.04
"""Seconds of output that may be under way besides the journey: what Ctrl-C has to wait for."""

INTERVAL = 0.02
"""Seconds, at least, over which a viewer's speed is measured."""


class Viewer:
    """One viewer that says what it has shown."""

    __slots__ = (
        "_head",
        "_limited",
        "_measured",
        "_measured_at",
        "_probe",
        "_rtt",
        "heard",
        "past",
        "shown",
        "window",
    )

    def __init__(self, shown: int, past: int, now: float) -> None:
        """Begin with a window that suits a fast one."""
        self.shown = shown
        self.past = past
        self.heard = now
        self._head = shown
        self.window = FIRST_WINDOW
        self._rtt = math.inf
        self._probe: tuple[int, float] | None = None
        self._measured, self._measured_at = shown, now
        self._limited = False

    def wrote(self, head: int, now: float) -> None:
        """Learn that output was written up to a byte."""
        if self.shown >= self._head:
            self.heard = now  # it had nothing to show until now
        self._head = head
        if self._probe is None:
            self._probe = (head, now)

    def holds(self, head: int) -> bool:
        """Tell whether the program has to wait for this one."""
        held = self.shown >= self.past and head - self.shown >= self.window
        self._limited |= held
        return held

    def ack(self, shown: int, now: float) -> None:
        """Learn what it has shown, and fit the window to its speed.

        The window is what it shows in the shortest journey seen plus DEPTH: one that is far away
        gets a larger window, one that is slow a smaller one, and neither waits for long after
        Ctrl-C.
        """
        if shown > self.shown:
            self.shown = shown
            self.heard = now
        if self._probe is not None and self.shown >= self._probe[0]:
            self._rtt = min(self._rtt, now - self._probe[1])
            self._probe = None
        passed = now - self._measured_at
        if not math.isfinite(self._rtt) or passed < max(INTERVAL, self._rtt):
            return  # within one journey there are bursts and pauses
        if self._limited:
            speed = (self.shown - self._measured) / passed
            wanted = int(speed * (self._rtt + DEPTH))
            self.window = max(LEAST_WINDOW, min(MOST_WINDOW, 2 * self.window, wanted))
        self._measured, self._measured_at = self.shown, now
        self._limited = False


class Pace:
    """The viewers of one terminal that say what they have shown."""

    def __init__(self) -> None:
        """Wait for nobody."""
        self._viewers: dict[str, Viewer] = {}

    def ack(self, viewer: str, shown: int, head: int, now: float, *, past: int = 0) -> None:
        """Learn what a viewer has shown of `head` bytes.

        It counts from when it has shown the `past`: what was written before it came.
        """
        known = self._viewers.get(viewer)
        if known is None:
            self._viewers[viewer] = Viewer(min(shown, head), past, now)
        else:
            known.ack(min(shown, head), now)

    def leave(self, viewer: str) -> None:
        """Wait no longer for one that has left, or is hidden."""
        self._viewers.pop(viewer, None)

    def wrote(self, head: int, now: float) -> None:
        """Learn that output was written up to a byte."""
        for viewer in self._viewers.values():
            viewer.wrote(head, now)

    def holds(self, head: int) -> bool:
        """Tell whether the program has to wait."""
        return any(viewer.holds(head) for viewer in self._viewers.values())

    def give_up(self, head: int, now: float) -> float | None:
        """Stop waiting for whoever has shown nothing more for STALL.

        Gives the seconds to the next time, None when nobody is waited for any more. For one that
        was given up all that was written until then is past.
        """
        waits = []
        for viewer in self._viewers.values():
            if viewer.holds(head):
                left = viewer.heard + STALL - now
                if left > 0:
                    waits.append(left)
                else:
                    viewer.past = head
        return min(waits) if waits else None
