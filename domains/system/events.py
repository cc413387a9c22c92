"""What happens to the daemon itself."""

from __future__ import annotations

from daemon.core.events import Event, event


@event("system.guarded", "global")
class Guarded(Event):
    """The machine has run short of something, or no longer: nothing new is started meanwhile.

    `reason` says of what; it is absent when all is well again.
    """

    reason: str | None = None
