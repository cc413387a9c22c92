"""How many runs with one key are under way: further ones wait, take their place, or are refused."""

from __future__ import annotations

from collections.abc import Collection

from daemon.core.errors import Conflict
from domains.workflow.definition import Concurrency
from domains.workflow.failures import RunFailure
from domains.workflow.live import LiveRun

Key = tuple[str, str, str]
"""Project, workflow, and what its `concurrency: key` came to."""


class Lanes:
    """A lane for each key, as long as anybody is in it; the first of it are under way."""

    def __init__(self) -> None:
        """Have nobody in any."""
        self._lanes: dict[Key, list[LiveRun]] = {}
        self._rules: dict[Key, Concurrency] = {}  # of the last to enter: the file's as it is now

    def require_place(self, key: Key, rule: Concurrency, around: Collection[str]) -> None:
        """Raise Conflict where one more would be refused, or wait for one that it is a step of."""
        lane = self._lanes.get(key, ())
        if rule.on_conflict == "replace" or len(lane) < rule.limit:
            return
        about = f"{len(lane)} runs of {key[1]} with the key {key[2]!r} are under way"
        if rule.on_conflict == "reject":
            raise Conflict(f"{about}, and it allows {rule.limit}")
        if outer := next((each for each in lane if each.run.id in around), None):
            raise Conflict(f"{about}, and {outer.run.id} among them would wait for this one")

    def enter(self, key: Key, rule: Concurrency, live: LiveRun) -> None:
        """Let a run begin, now or when those before it have ended."""
        lane = self._lanes.setdefault(key, [])
        if rule.on_conflict == "replace":
            under_way = [each for each in lane if not each.doomed]
            for older in under_way[: max(0, len(under_way) + 1 - rule.limit)]:
                older.fail(RunFailure("replaced", f"the run {live.run.id} takes its place"))
        lane.append(live)
        self._rules[key] = rule
        self._admit(lane, rule)
        live.over.add_done_callback(lambda _: self._leave(key, live))

    def _leave(self, key: Key, live: LiveRun) -> None:
        lane = self._lanes[key]
        lane.remove(live)
        if lane:
            self._admit(lane, self._rules[key])
        else:
            del self._lanes[key], self._rules[key]

    @staticmethod
    def _admit(lane: list[LiveRun], rule: Concurrency) -> None:
        for place, live in enumerate(lane):
            live.move(max(0, place - rule.limit + 1))
