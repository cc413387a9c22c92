"""Settings of the journal: how much stays in memory, and how much on disk for how long."""

from __future__ import annotations

from typing import Annotated

from daemon.core.section import Bytes, Section, described


class JournalSettings(Section):
    """The event log: memory, disk, retention."""

    ring_bytes: Annotated[Bytes, described("Newest events of one channel kept in memory")] = 1 << 20
    ring_bytes_total: Annotated[Bytes, described("The same for all channels together")] = 64 << 20
    pending_bytes: Annotated[
        Bytes, described("Bytes not yet on disk at which children are no longer read")
    ] = 1 << 20
    reserve_bytes: Annotated[
        Bytes, described("Bytes not yet on disk at which commands answer unavailable")
    ] = 16 << 20
    event_bytes: Annotated[Bytes, described("Largest event; more is cut and kept whole aside")] = (
        1 << 20
    )
    keep_bytes: Annotated[Bytes, described("Disk for all events; 0: no limit")] = 4 << 30
    keep_events: Annotated[int, described("Events of one channel; 0: no limit", ge=0)] = 1_000_000
    keep_days: Annotated[
        float,
        described(
            "Days that an event is kept, and what ended, as a whole, after its end; 0: no limit",
            ge=0,
        ),
    ] = 30.0
    prune_interval: Annotated[float, described("Seconds between two clean-ups", ge=0.05)] = 30.0
