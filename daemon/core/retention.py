"""Retention: old events leave the disk by count, age and size; the oldest go first.

What lives does not age: the history of a live session or run, and of a project, is bounded by
count and size alone, and by size only where nothing else is left to delete.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable

import structlog

from daemon.core.channel_log import ChannelLog
from daemon.core.errors import Unavailable
from daemon.core.journal import Journal, JournalSettings
from daemon.core.store import OFFSET_BITS, Prune

log = structlog.get_logger(__name__)

DAY = 86_400.0


class Retention:
    """Deletes in small steps between the commits, so that no event waits for it."""

    def __init__(
        self,
        journal: Journal,
        settings: JournalSettings,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Keep a journal's disk within the settings; ages are counted back from `now`."""
        self._now = now
        self._journal = journal
        self._settings = settings

    async def run(self) -> None:
        """Prune now and then until cancelled."""
        while True:
            await asyncio.sleep(self._settings.prune_interval)
            try:
                await self.prune()
            except Unavailable as error:  # a file that cannot be read now may be later
                log.warning("retention.failed", error=error.message)

    async def prune(self) -> None:
        """Bring every channel, and all together, within the settings once."""
        durable = [log for log in self._journal if log.durable]
        if self._settings.keep_events:
            for log in durable:
                await self._down_to(log, log.committed - self._settings.keep_events)
        if self._settings.keep_days:
            cutoff = self._now() - self._settings.keep_days * DAY
            mortal = [log for log in durable if not self._journal.keeps(log)]
            for log in await self._by_age(mortal):
                if not await self._older_than(log, cutoff):
                    break  # the next channels begin later still
        if self._settings.keep_bytes:
            await self._by_size(durable)
        for log in durable:
            emptied = log.oldest > log.head == log.flushed and not log.followers
            if emptied and not self._journal.keeps(log):  # asked now: it may have begun meanwhile
                self._journal.forget(log)

    async def _down_to(self, log: ChannelLog, upto: int) -> None:
        while log.oldest <= upto:
            before = log.oldest
            await self._delete(log, upto)
            if log.oldest == before:
                return

    async def _older_than(self, log: ChannelLog, cutoff: float) -> bool:
        """Delete what is older; False when nothing was."""
        deleted = False
        while log.oldest <= log.committed:
            before = log.oldest
            await self._delete(log, log.committed, older_than=cutoff)
            if log.oldest == before:
                return deleted
            deleted = True
        return deleted

    async def _by_size(self, durable: list[ChannelLog]) -> None:
        while await self._journal.store.read(used_bytes) > self._settings.keep_bytes:
            mortal = [log for log in durable if not self._journal.keeps(log)]
            ordered = await self._by_age(mortal) or await self._by_age(durable)
            first = next(iter(ordered), None)
            if first is None:
                return
            before = first.oldest
            await self._delete(first, first.committed)
            if first.oldest == before:
                return

    async def _by_age(self, logs: list[ChannelLog]) -> list[ChannelLog]:
        """Order channels by their oldest event."""
        by_id = {log.id: log for log in logs}
        places = [(log.id, log.oldest) for log in logs]
        order = await self._journal.store.read(lambda db: oldest_first(db, places))
        return [by_id[id_] for id_ in order]

    async def _delete(self, log: ChannelLog, upto: int, older_than: float | None = None) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()

        def pruned(_: Prune, oldest: int) -> None:
            log.oldest_on_disk = oldest
            if not done.done():
                done.set_result(oldest)

        what = Prune(log.id, log.oldest_on_disk, upto, older_than)
        self._journal.store.prune(what, pruned)
        await done


def oldest_first(db: sqlite3.Connection, channels: Iterable[tuple[int, int]]) -> list[int]:
    """Order channels by the time of their oldest event, for retention by size."""
    stamps = []
    for id_, oldest in channels:
        row = db.execute(
            "SELECT ts FROM event WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
            ((id_ << OFFSET_BITS) + oldest, (id_ + 1) << OFFSET_BITS),
        ).fetchone()
        if row is not None:
            stamps.append((row[0], id_))
    return [id_ for _, id_ in sorted(stamps)]


def used_bytes(db: sqlite3.Connection) -> int:
    """Return how many bytes of the file are in use."""
    count, free, size = (
        db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((count - free) * size)
