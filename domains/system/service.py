"""The system service: tells how the daemon is, and stops it on request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from daemon.core.bus import EventBus
from daemon.core.commands import Caller, handles
from daemon.core.guard import Guard
from daemon.core.health import Health
from daemon.core.task import Tasks
from domains.system.commands import GetStatus, StopDaemon, Stopping
from domains.system.events import Guarded

log = structlog.get_logger(__name__)


class SystemService:
    """Looks at the daemon, and passes the wish to stop on to whoever runs it."""

    def __init__(
        self, *, tasks: Tasks, request_stop: Callable[[], None], health: Callable[[], Health]
    ) -> None:
        """Stop with `request_stop`, tell what `health` tells."""
        self._tasks = tasks
        self._health = health
        self._request_stop = request_stop

    @handles(GetStatus)
    def status(self, _: GetStatus, __: Caller) -> Health:
        """Tell how the daemon is."""
        return self._health()

    @handles(StopDaemon)
    def stop(self, _: StopDaemon, caller: Caller) -> Stopping:
        """Begin to drain."""
        log.info("stop.requested", user=caller.sub)
        self._request_stop()
        return Stopping(tasks=len(self._tasks))


@asynccontextmanager
async def open_service(
    *,
    bus: EventBus,
    tasks: Tasks,
    guard: Guard,
    request_stop: Callable[[], None],
    health: Callable[[], Health],
) -> AsyncIterator[SystemService]:
    """Open the system service, and tell what the guard sees."""

    def tell(reason: str | None) -> None:
        bus.emit(Guarded(reason=reason))

    guard.on_change = tell
    yield SystemService(tasks=tasks, request_stop=request_stop, health=health)
