"""The daemon's state as one structure."""

from __future__ import annotations

import msgspec

from daemon.core.health import Health


def test_health_is_told_in_camel_case_and_whole():
    health = Health(
        status="ok",
        version="1",
        pid=1,
        uptime=2.5,
        started_at=3.5,
        tasks=0,
        queued=0,
        connections=0,
        journal="ok",
        guard="ok",
    )
    told = msgspec.json.decode(msgspec.json.encode(health))
    assert told["startedAt"] == 3.5
    assert set(told) == set(Health.__struct_encode_fields__)
