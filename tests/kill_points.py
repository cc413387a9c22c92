"""A daemon that dies at a named point: `KILL_AT=result:committed:3 python tests/kill_points.py`.

A point is what is about to happen, or has: `before`, `after` (done, but not on disk yet where it is
to be there) or `committed`; the number says at which time it dies. The engine knows nothing of it.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from daemon.cli.main import main
from daemon.core.bus import EventBus
from daemon.core.launcher import Launcher
from daemon.core.store import Store
from domains.git.once import Once, changes
from domains.git.work import Work
from domains.workflow.engine import Engine
from domains.workflow.events import StepCompleted
from domains.workflow.inbox import Inbox
from domains.workflow.live import LiveRun
from domains.workflow.records import RunRecords
from domains.workflow.steps.command import Commands, _Owner
from domains.workflow.timeline import Timeline
from domains.workflow.workspaces import Workspaces

POINTS: dict[str, tuple[type, str]] = {
    "start-row": (RunRecords, "add"),
    "step-row": (Timeline, "start"),
    "effect": (Commands, "run"),
    "spawn": (Launcher, "launch"),
    "pid-row": (_Owner, "started"),
    "result": (Timeline, "complete"),
    "event": (EventBus, "emit"),
    "retry": (Timeline, "retry"),
    "sent": (Inbox, "put"),
    "final-row": (LiveRun, "_end"),
}
"""What is about to happen, and where."""

WORKSPACES: dict[str, tuple[type, str]] = {
    "worktree": (Workspaces, "_worktree"),
    "branch": (Workspaces, "_branch"),
    "release": (Workspaces, "release"),
}
"""The same, of runs that do not stay where the project is."""

GIT: dict[str, tuple[type, str]] = {
    "git-begun": (Once, "begins"),
    "git-result": (Once, "ended"),
    "git-process": (Work, "_run"),
}
"""When a git process is about to change something, and when nobody has written down that it has."""


RETRIES: dict[str, tuple[type, str]] = {
    "retry-row": (Engine, "_retry"),
    "take-up": (Engine, "take_up"),
}
"""When a run is retried, and when one inside of it is."""


class Death:
    """Comes at one point, once the number of times is over."""

    def __init__(self, at: str) -> None:
        self.point, self.when, times = at.split(":")
        self.left = int(times)
        self.armed = False

    def install(self) -> None:
        owner, name = {**POINTS, **WORKSPACES, **GIT, **RETRIES}[self.point]
        setattr(owner, name, self._around(getattr(owner, name)))
        Store._commit = self._commit(Store._commit)

    def comes(self, args: tuple[Any, ...]) -> bool:
        """Count this time, where it is one."""
        if self.point == "event" and not isinstance(args[1], StepCompleted):
            return False
        if self.point in GIT and not changes(args[1]):
            return False
        self.left -= 1
        return self.left == 0

    def _around(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def begin(args: tuple[Any, ...]) -> bool:
            due = self.comes(args)
            if due and self.when == "before":
                die()
            return due

        def finish(due: bool) -> None:
            if due and self.when == "after":
                die()
            self.armed = self.armed or due

        if inspect.iscoroutinefunction(original):

            async def waited(*args: Any, **named: Any) -> Any:
                due = begin(args)
                given = await original(*args, **named)
                finish(due)
                return given

            return waited

        def called(*args: Any, **named: Any) -> Any:
            due = begin(args)
            given = original(*args, **named)
            finish(due)
            return given

        return called

    def _commit(self, original: Callable[..., None]) -> Callable[..., None]:
        def commit(*args: Any) -> None:
            due = self.armed  # what has come meanwhile is of a later one
            original(*args)
            if due:
                die()

        return commit


def die() -> None:
    """End as by `kill -9`: nothing is tidied up."""
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


if __name__ == "__main__":
    if os.environ.get("KILL_AT"):
        Death(os.environ["KILL_AT"]).install()
    sys.exit(main(["serve"]))
