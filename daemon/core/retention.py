"""Retention: old events leave the disk by count, age and size; the oldest go first.

What lives does not age: the history of a live session or run, and of a project, is bounded by
count and size alone, and by size only where nothing else is left to delete. What has ended ages as
a whole, from its last event on: a long conversation does not lose its beginning when it ends.
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
            for log, stamp in await self._by_age(mortal, self._ages_from):
                if stamp >= cutoff:
                    break  # the next channels are younger still
                if not self._journal.keeps(log):  # asked now: it may live again
                    await self._older_than(log, cutoff)
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

    def _ages_from(self, log: ChannelLog) -> int:
        """Return the offset of the event whose age decides: the last of what once lived."""
        lived = log.name.rpartition(":")[0] in self._journal.kept
        return log.committed if lived else log.oldest

    async def _older_than(self, log: ChannelLog, cutoff: float) -> None:
        """Delete what is older."""
        while log.oldest <= log.committed:
            before = log.oldest
            await self._delete(log, log.committed, older_than=cutoff)
            if log.oldest == before:
                return

    async def _by_size(self, durable: list[ChannelLog]) -> None:
        while await self._journal.store.read(used_bytes) > self._settings.keep_bytes:
            mortal = [log for log in durable if not self._journal.keeps(log)]
            ordered = await self._by_age(mortal, first_offset)
            ordered = ordered or await self._by_age(durable, first_offset)
            if not ordered:
                return
            first, _ = ordered[0]
            before = first.oldest
            await self._delete(first, first.committed)
            if first.oldest == before:
                return

    async def _by_age(
        self, logs: list[ChannelLog], place: Callable[[ChannelLog], int]
    ) -> list[tuple[ChannelLog, float]]:
        """Order channels by the time of one event of each, and return that too."""
        by_id = {log.id: log for log in logs}
        places = [(log.id, place(log)) for log in logs]
        order = await self._journal.store.read(lambda db: oldest_first(db, places))
        return [(by_id[id_], stamp) for stamp, id_ in order]

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


def first_offset(log: ChannelLog) -> int:
    """Return the offset of a channel's oldest event."""
    return log.oldest


def oldest_first(
    db: sqlite3.Connection, channels: Iterable[tuple[int, int]]
) -> list[tuple[float, int]]:
    """Order channels, by id, by the time of their first event that is kept from an offset on."""
    stamps = []
    for id_, offset in channels:
        row = db.execute(
            "SELECT ts FROM event WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
            ((id_ << OFFSET_BITS) + offset, (id_ + 1) << OFFSET_BITS),
        ).fetchone()
        if row is not None:
            stamps.append((row[0], id_))
    return sorted(stamps)


def used_bytes(db: sqlite3.Connection) -> int:
    """Return how many bytes of the file are in use."""
    count, free, size = (
        db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((count - free) * size)
