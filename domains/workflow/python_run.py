"""Runs of workflows in Python: a process of its own for each, as many as there is room for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from daemon.core.errors import AgentcmdError
from daemon.core.supervisor import Slots
from daemon.core.task import KindSettings, Tasks, TaskSettings
from domains.workflow.definition import Json
from domains.workflow.interpreter import Effects
from domains.workflow.live import LiveRun
from domains.workflow.python_conversation import KIND, Conversation

PROCESSES = 200
"""Runs that have a process, some 25 MB each; further ones wait, but for those inside of such."""

SHORT = 5.0
"""Seconds until it is looked again whether the machine has enough left for a process."""


class PythonRuns:
    """Does runs of workflows in Python."""

    def __init__(
        self,
        effects: Effects,
        tasks: Tasks,
        settings: TaskSettings,
        *,
        around: Callable[[str], Iterable[LiveRun]],
    ) -> None:
        """Do steps by these effects, and run processes as these tasks, as long as they like.

        `around` gives the runs that a run is inside of.
        """
        self._effects = effects
        self._tasks = tasks
        self._around = around
        own = settings.kinds.get(KIND, KindSettings())
        self._slots = Slots(PROCESSES)
        self._limits = replace(
            settings.of(KIND),
            run_timeout=max(own.run_timeout, 0.0),
            silence_timeout=max(own.silence_timeout, 0.0),
        )

    async def run(self, live: LiveRun) -> Json:
        """Run a workflow to its end, and give what it returns; RunFailure where it failed."""
        if any(each.definition.language == "python" for each in self._around(live.run.id)):
            return await self._hold(live)  # one that waits for it keeps its place meanwhile
        waiter = self._slots.request(live.run.user, lambda _: None)
        try:
            await asyncio.wait([waiter.granted])
            return await self._hold(live)
        finally:
            self._slots.withdraw(waiter)

    async def _hold(self, live: LiveRun) -> Json:
        told = False
        while (why := self._refused()) is not None:
            if live.stopping:
                await asyncio.get_running_loop().create_future()
            if not told:
                live.annotate(f"it waits: {why}", "warning")
                told = True
            await asyncio.sleep(SHORT)
        return await Conversation(live, self._effects).hold(self._tasks, self._limits)

    def _refused(self) -> str | None:
        """Say why no process may start now; a run that goes on is not to fail for that."""
        try:
            self._tasks.require_open()
        except AgentcmdError as error:
            return error.message
        return None
