"""How the daemon is, in one structure: /health, `system.status` and `agentcmd status`."""

from __future__ import annotations

from daemon.core.events import Answer


class Health(Answer):
    """The daemon's state. `uptime` in seconds, `started_at` in Unix seconds.

    `status` is ok, starting, draining, or degraded: while the journal cannot be written, then
    `journal` is the reason, else ok; or while nothing new may be started, then `guard` is.
    """

    status: str
    version: str
    pid: int
    uptime: float
    started_at: float
    tasks: int
    queued: int
    connections: int
    journal: str
    guard: str
