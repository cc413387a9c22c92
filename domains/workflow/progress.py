"""How far the steps of a run are: told at once, and then no more than a few times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from domains.workflow.commands import StepProgress

PACE = 0.2
"""Seconds between two events of one step; what is said meanwhile is told after them."""


def progress_of(current: float, total: float | None = None) -> StepProgress:
    """Give both with the percentage, which is at most 100 whatever is said."""
    share = min(100.0, round(100.0 * current / total, 1)) if total else None
    return StepProgress(current=current, total=total, percentage=share)


class Progress:
    """What is to be told of one run; one timer for all of its steps."""

    def __init__(self, tell: Callable[[str, StepProgress], None]) -> None:
        """Tell by this, which is given the step's id."""
        self._tell = tell
        self._waiting: dict[str, StepProgress] = {}
        self._timer: asyncio.TimerHandle | None = None

    def note(self, step_id: str, progress: StepProgress) -> None:
        """Tell it, now or soon; what has not been told of this step before is out of date."""
        self._waiting[step_id] = progress
        if self._timer is None:
            self._next()

    def flush(self, step_id: str) -> None:
        """Tell what waits of a step, which is about to end."""
        if (last := self._waiting.pop(step_id, None)) is not None:
            self._tell(step_id, last)

    def close(self) -> None:
        """Tell no more."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for step_id, progress in waiting.items():
            self._tell(step_id, progress)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(PACE, self._next) if waiting else None
