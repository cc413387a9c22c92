"""The system service: stops the daemon on request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from daemon.core.commands import Caller, handles
from daemon.core.task import Tasks
from domains.system.commands import StopDaemon, Stopping

log = structlog.get_logger(__name__)


class SystemService:
    """Passes the wish to stop on to whoever runs the daemon."""

    def __init__(self, *, tasks: Tasks, request_stop: Callable[[], None]) -> None:
        """Stop with `request_stop`."""
        self._tasks = tasks
        self._request_stop = request_stop

    @handles(StopDaemon)
    def stop(self, _: StopDaemon, caller: Caller) -> Stopping:
        """Begin to drain."""
        log.info("stop.requested", user=caller.sub)
        self._request_stop()
        return Stopping(tasks=len(self._tasks))


@asynccontextmanager
async def open_service(
    *, tasks: Tasks, request_stop: Callable[[], None]
) -> AsyncIterator[SystemService]:
    """Open the system service."""
    yield SystemService(tasks=tasks, request_stop=request_stop)
