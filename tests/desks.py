"""A desk for tests that work with repositories below the commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from daemon.core.bus import EventBus
from daemon.core.calendar import open_calendar
from daemon.core.errand import Errands
from daemon.core.launcher import Launcher
from daemon.core.registry import Registry
from daemon.core.task import Tasks, TaskSettings
from domains.git.desk import Desk
from domains.git.programs import KIND


class Folders:
    """Projects whose ids are their folders."""

    def knows(self, _: str) -> bool:
        return True

    def root(self, project_id: str) -> str:
        return project_id

    def trusts(self, _: str) -> bool:
        return False


@asynccontextmanager
async def open_desk(open_core: Any, state_dir: Path) -> AsyncIterator[Desk]:
    """Open a desk whose projects are folders, none of them trusted."""
    core = await open_core()
    async with (
        Launcher() as launcher,
        Tasks(core.supervisor, launcher, core.journal.gate, limit=1) as tasks,
    ):
        yield Desk(
            bus=EventBus(Registry((), ()), core.journal, core.supervisor),
            journal=core.journal,
            errands=Errands(tasks, TaskSettings(), KIND),
            projects=Folders(),
            calendar=await open_calendar(core.store, core.journal),
            state_dir=state_dir,
        )
