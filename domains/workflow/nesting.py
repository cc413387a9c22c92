"""Runs inside of one another: which run waits for which, as a step of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from domains.workflow.live import LiveRun
from domains.workflow.records import Stored


class Nesting:
    """The run around each run that is a step of another one, while both are under way."""

    def __init__(self, live: Mapping[str, LiveRun]) -> None:
        """Have none yet; `live` are the runs that have not ended, by id."""
        self._live = live
        self._outer: dict[str, str] = {}

    def recover(self, unended: Sequence[Stored]) -> None:
        """Load from disk which runs are steps of others."""
        ids = {each.run.id for each in unended}
        self._outer = {
            step.child: each.run.id
            for each in unended
            for step in each.steps
            if step.child in ids and step.state == "running"
        }

    def put(self, run_id: str, outer: str | None) -> None:
        """Record the run that waits for this one, if any."""
        if outer is not None:
            self._outer[run_id] = outer

    def drop(self, run_id: str) -> None:
        """Forget a run that has ended."""
        self._outer.pop(run_id, None)

    def around(self, run_id: str) -> list[str]:
        """Return the runs that wait for one, which is a step of theirs; the nearest first."""
        found: list[str] = []
        outer = self._outer.get(run_id)
        while outer is not None:
            found.append(outer)
            outer = self._outer.get(outer)
        return found

    def within(self, outer: str | None) -> list[str]:
        """Return the runs that a run has around it which begins inside of another one, if any."""
        return [] if outer is None else [outer, *self.around(outer)]

    def inside(self, run_id: str) -> list[LiveRun]:
        """Return the runs that have not ended and are steps of one, or of such a run."""
        return [live for id_, live in self._live.items() if run_id in self.around(id_)]
