"""Events that a run was sent, for steps that wait for them now or later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from daemon.core.errors import Conflict
from domains.workflow.definition import Json
from domains.workflow.records import RunRecords

KEPT = 1000
KEPT_BYTES = 8 << 20
"""Events that wait in one run, and what they may have together; more are refused."""


class Inbox:
    """Holds them in memory as on disk: one that was taken is gone with the commit of its step."""

    def __init__(
        self, run_id: str, records: RunRecords, kept: Iterable[tuple[int, str, bytes]]
    ) -> None:
        """Hold what the disk holds."""
        self._run_id = run_id
        self._records = records
        self._kept: dict[int, tuple[str, Json, int]] = {
            number: (name, msgspec.json.decode(data), len(data)) for number, name, data in kept
        }
        self._last = max(self._kept, default=0)
        self._arrived = asyncio.Event()

    def put(self, name: str, data: Json) -> None:
        """Take an event; Conflict where too much waits already."""
        body = msgspec.json.encode(data)
        if len(self._kept) >= KEPT:
            raise Conflict(f"{KEPT} events wait in this run already")
        if sum(size for _, _, size in self._kept.values()) + len(body) > KEPT_BYTES:
            raise Conflict(f"the events that wait in this run would have over {KEPT_BYTES:,} bytes")
        self._last += 1
        self._records.add_event(self._run_id, self._last, name, body)
        self._kept[self._last] = (name, data, len(body))
        self._arrived.set()

    async def take(self, name: str, fits: Callable[[Json], bool]) -> Json:
        """Wait for an event of a name that fits; what does not stays for other steps.

        Whoever has it settles its step without an `await` in between, so that both are one commit.
        """
        seen = 0
        while True:
            for number in [each for each in self._kept if each > seen]:
                kept, data, _ = self._kept[number]
                seen = number
                if kept == name and fits(data):
                    del self._kept[number]
                    self._records.take_event(self._run_id, number)
                    return data
            self._arrived.clear()
            await self._arrived.wait()
