"""A reply on its way into events while it is written: a few bytes at a time become few pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from domains.session.agents.facts import Delta

PACE = 0.03
"""Seconds between two pieces of one block; the first leaves at once."""


class Pieces:
    """Collects the deltas of one block at a time."""

    def __init__(self, tell: Callable[[Delta], None]) -> None:
        """Hand each piece to `tell`."""
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._block: Delta | None = None
        self._texts: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, delta: Delta) -> None:
        """Take a delta; one of another block has what waits told first."""
        if self._block is not None and replace(self._block, text="") != replace(delta, text=""):
            self._give()
        self._block = delta
        self._texts.append(delta.text)
        if self._timer is None:
            self._give()
            self._timer = self._loop.call_later(PACE, self._due)

    def flush(self) -> None:
        """Tell what waits, because something after it is about to be told."""
        self._give()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        if self._block is not None:
            self._give()
            self._timer = self._loop.call_later(PACE, self._due)

    def _give(self) -> None:
        block, self._block = self._block, None
        texts, self._texts = self._texts, []
        if block is not None:
            self._tell(replace(block, text="".join(texts)))
