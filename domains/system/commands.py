"""What can be asked of the daemon itself."""

from __future__ import annotations

from daemon.core.events import Answer, Command, command
from daemon.core.health import Health


class Stopping(Answer):
    """The daemon drains; `tasks` are stopped first, politely."""

    tasks: int


@command("system.status", action="read", channel="global", answer=Health)
class GetStatus(Command):
    """Tell how the daemon is."""


@command("system.stop", action="admin", channel="global", answer=Stopping)
class StopDaemon(Command):
    """Drain and stop the daemon, as SIGTERM does."""
