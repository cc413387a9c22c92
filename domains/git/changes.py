"""Tells `git.status.changed`: looks after each sign of a change, once it is quiet for a moment."""

from __future__ import annotations

import asyncio

import structlog

from daemon.core.errors import AgentcmdError
from daemon.core.supervisor import Supervisor
from domains.git.answers import Summary
from domains.git.desk import Desk
from domains.git.events import StatusChanged
from domains.git.standing import summarise

log = structlog.get_logger(__name__)

QUIET = 0.3
"""Seconds after a sign before one looks, in which further signs are no reason for another look."""

REST = 10.0
"""How many times as long as a look has taken one rests before the next, in a large repository."""


class Changes:
    """Looks where repositories stand, one look at a time for each project."""

    def __init__(self, desk: Desk, supervisor: Supervisor) -> None:
        """Look from this desk."""
        self._desk = desk
        self._supervisor = supervisor
        self._known: dict[str, Summary] = {}
        self._waiting: dict[str, bool] = {}

    def sign(self, project_id: str) -> None:
        """Learn that something may have changed; the look follows by itself."""
        if project_id in self._waiting:
            self._waiting[project_id] = True
            return
        self._waiting[project_id] = True
        self._supervisor.start(self._attend(project_id), name=f"git.status:{project_id}")

    def forget(self, project_id: str) -> None:
        """Forget a project that is no more."""
        self._known.pop(project_id, None)

    async def _attend(self, project_id: str) -> None:
        try:
            while self._waiting[project_id]:
                self._waiting[project_id] = False
                await asyncio.sleep(QUIET)
                loop = asyncio.get_running_loop()
                began = loop.time()
                self._waiting[project_id] = False  # the look sees what the signs were of
                await self._look(project_id)
                if self._waiting[project_id]:
                    await asyncio.sleep(min(REST * (loop.time() - began), REST) - QUIET)
        finally:
            del self._waiting[project_id]

    async def _look(self, project_id: str) -> None:
        try:
            work = self._desk.look(project_id)
            await self._desk.open(work)
            summary = await summarise(work)
        except AgentcmdError as error:  # removed, no repository any more, or the daemon stops
            log.debug("git.unseen", project=project_id, why=error.message)
            return
        if self._known.get(project_id) != summary:
            self._known[project_id] = summary
            self._desk.bus.emit(StatusChanged(project_id=project_id, summary=summary))
