"""Runs of workflows in Python: a process of its own for each, as many as there is room for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from daemon.core.errors import AgentcmdError
from daemon.core.supervisor import Slots
from daemon.core.task import KindSettings, Tasks, TaskSettings
from domains.workflow.definition import Json
from domains.workflow.interpreter import Effects
from domains.workflow.live import LiveRun
from domains.workflow.python_conversation import KIND, Conversation

PROCESSES = 200
"""Runs that have a process, some 25 MB each; further ones wait, but for those inside of others."""

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
        goes_on: Callable[[str], bool],
    ) -> None:
        """Do steps by these effects, and run processes as these tasks, as long as they like.

        `goes_on` tells whether a run is under way; what is inside of one does not wait for a place.
        """
        self._effects = effects
        self._tasks = tasks
        self._goes_on = goes_on
        own = settings.kinds.get(KIND, KindSettings())
        self._slots = Slots(PROCESSES)
        self._limits = replace(
            settings.of(KIND),
            run_timeout=max(own.run_timeout, 0.0),
            silence_timeout=max(own.silence_timeout, 0.0),
        )

    async def run(self, live: LiveRun) -> Json:
        """Run a workflow to its end, and give what it returns; RunFailure where it failed."""
        parent = live.run.parent
        if parent is not None and self._goes_on(parent):  # who waits for it has a place already
            return await self._hold(live)
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
