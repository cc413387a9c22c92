"""The journal: a channel is a log with offsets; what is on disk may be seen, nothing before.

`append` gives an event its offset and puts the framed bytes into the channel's ring. Events of
durable channels become visible (`ChannelLog.committed`) when SQLite has them; those of ephemeral
channels at once. Whoever delivers listens with `on_visible` and reads from the ring, or, when the
ring has moved on, from disk with `page`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import structlog

from daemon.core import frames
from daemon.core.channel_log import ChannelLog
from daemon.core.channels import GLOBAL
from daemon.core.errors import Unavailable
from daemon.core.gate import Gate
from daemon.core.histogram import Histogram
from daemon.core.journal_settings import JournalSettings
from daemon.core.shortening import shortened
from daemon.core.store import OFFSET_BITS, Batch, Store

__all__ = ["Journal", "JournalSettings"]

log = structlog.get_logger(__name__)

SETTLE_TIMEOUT = 5.0
STALLED_TIMEOUT = 0.5
"""Seconds for the last commit, and where the disk has refused the last one already."""

FLUSH_TIMEOUT = 30.0
READABLE_TIMEOUT = 5.0
"""Seconds that a command waits for its commit, and a read for the commits before it."""

COMMIT_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Seconds; a commit takes 0.1 ms on an idle disk, and seconds on one that is overloaded."""


class Journal:
    """All channels of the daemon over one store."""

    def __init__(
        self,
        store: Store,
        settings: JournalSettings,
        durable: Callable[[str], bool],
        *,
        base_path: str = "",
    ) -> None:
        """Keep logs; `durable` tells which channels go to disk, `base_path` begins every href."""
        self.base_path = base_path
        self.settings = settings
        self.store = store
        self.events = 0
        self.bytes = 0
        self.commit_seconds = Histogram(*COMMIT_BOUNDS)
        self.stalled: str | None = None
        self._durable = durable
        self._logs: dict[str, ChannelLog] = {}
        self._next_id = 1
        self._pending = Batch()
        self._pending_logs: dict[ChannelLog, int] = {}
        self._pending_size = 0
        self._writing_size = 0
        self._writing: dict[ChannelLog, int] | None = None
        self._submitted = 0.0
        self._scheduled = False
        self._fresh: dict[ChannelLog, None] = {}
        self._visible: Callable[[], None] = self._skip
        self._filled: Callable[[ChannelLog], None] = self._fill
        self._recent: OrderedDict[ChannelLog, None] = OrderedDict()
        self._ring_total = 0
        self._stalling: asyncio.Future[None] | None = None
        self._barriers: list[asyncio.Future[None]] = []
        self._writing_barriers: list[asyncio.Future[None]] = []
        self.gate = Gate(lambda: self.pending, settings.pending_bytes)
        self._stall_listeners: list[Callable[[str | None], None]] = []
        self._gone: Callable[[ChannelLog], None] = lambda _: None
        self._forget_listeners: list[Callable[[str], None]] = []
        self._vouchers: dict[str, Callable[[str], bool]] = {}
        self.kept: set[str] = set()

    async def __aenter__(self) -> Self:
        """Learn where every channel stands."""
        self._loop = asyncio.get_running_loop()
        for head in await self.store.heads():
            self._add(ChannelLog(head.id, head.name, head.epoch, head.head, head.oldest))
            self._next_id = max(self._next_id, head.id + 1)
        self._add(ChannelLog(0, GLOBAL, secrets.token_hex(8), 0, 1))
        self.store.on_stall(self._stall)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Commit what is left, as `settle` does."""
        await self.settle()

    # Writing

    def append(self, channel: str, type_: str, data: bytes) -> ChannelLog:
        """Write one event, given its encoded data; its offset is the log's new `head`."""
        where = self._logs.get(channel) or self._create(channel)
        offset = where.head + 1
        ts = time.time()
        body = frames.body(where.head_of(type_), data, offset, ts)
        if len(body) > self.settings.event_bytes:
            body = self._cut(where, type_, data, offset, ts, body)
        framed = frames.frame(body)
        size = len(framed)
        where.head = offset
        where.frames.append(framed)
        where.ring_bytes += size
        if not where.adopted:
            self._ring_total += size
        self.events += 1
        self.bytes += size
        if where.durable:
            self._pending.events.append((where.id << OFFSET_BITS | offset, ts, body))
            self._pending_logs[where] = offset
            self._pending_size += size
        else:
            where.committed = offset
            self._fresh[where] = None
        self._schedule()
        return where

    def adopt(self, where: ChannelLog) -> None:
        """Take in a log that a domain fills itself and says so by `filled`.

        It is ephemeral, and has a budget of its own for its ring.
        """
        where.adopted = True
        self._add(where)

    def filled(self, where: ChannelLog, size: int) -> None:
        """Deliver at once what an adopted log has appended to itself: somebody waits for a key."""
        where.committed = where.head
        self.events += 1
        self.bytes += size
        self._filled(where)
        where.trim()

    def execute(self, sql: str, **values: Any) -> None:
        """Write a domain's row, in the same commit as the events around it."""
        self._pending.statements.append((sql, values))
        sizes = (len(each) for each in values.values() if type(each) in (bytes, str))
        self._pending_size += sum(sizes)
        self._schedule()

    async def durable(self) -> None:
        """Wait until everything written so far is on disk, however long a full disk lasts."""
        barrier = self._barrier()
        if barrier is not None:
            await barrier

    async def flushed(self) -> None:
        """Wait until everything written so far is on disk; Unavailable if that takes too long.

        It is written all the same, as soon as the disk takes it.
        """
        if not await self._waited(FLUSH_TIMEOUT):
            raise Unavailable(
                f"it is done, but not on disk yet ({self.stalled or 'the disk is slow'}); it is "
                "lost if the daemon ends before the disk takes it"
            )

    async def readable(self) -> None:
        """Wait until a read shows what was written so far, if the disk takes that soon.

        Where it does not, a read tells what is committed.
        """
        await self._waited(READABLE_TIMEOUT)

    async def _waited(self, seconds: float) -> bool:
        """Wait for what is written so far; False when the disk refuses it, or it takes too long."""
        barrier = self._barrier()
        if barrier is None:
            return True
        if self.stalled is None:
            stall = self._stalling = self._stalling or self._loop.create_future()
            await asyncio.wait(
                [barrier, stall], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        if not barrier.done() and self.stalled is not None:
            await asyncio.wait([barrier], timeout=STALLED_TIMEOUT)  # it may be over at once
        if barrier.done():
            return True
        for waiting in (self._barriers, self._writing_barriers):
            if barrier in waiting:
                waiting.remove(barrier)
        return False

    def _barrier(self) -> asyncio.Future[None] | None:
        """Return what is done when everything written so far is on disk; None when it is."""
        if not self._pending and self._writing is None:
            return None
        barrier: asyncio.Future[None] = self._loop.create_future()
        (self._barriers if self._pending else self._writing_barriers).append(barrier)
        return barrier

    async def settle(self) -> None:
        """Commit what is left; bounded, and said aloud where the disk does not take it."""
        try:
            async with asyncio.timeout(STALLED_TIMEOUT if self.stalled else SETTLE_TIMEOUT):
                await self.durable()
        except TimeoutError:
            log.error("journal.unwritten", bytes=self.pending, reason=self.stalled)

    # Reading

    def get(self, channel: str) -> ChannelLog | None:
        """Find a channel's log; None when nothing was told on it and nobody vouches for it."""
        found = self._logs.get(channel)
        if found is None and self._exists(channel):
            found = self._create(channel)
            self._schedule()
        return found

    def vouch(self, prefix: str, exists: Callable[[str], bool], *, keeps: bool = False) -> None:
        """Let `prefix:ID` be followed while ID exists; with `keeps` its history does not age."""
        self._vouchers[prefix] = exists
        self.kept |= {prefix} if keeps else set()

    def keeps(self, where: ChannelLog) -> bool:
        """Return whether what a channel is about lives, so that its history is kept."""
        return where.name.rpartition(":")[0] in self.kept and self._exists(where.name)

    def _exists(self, channel: str) -> bool:
        prefix, _, id_ = channel.rpartition(":")
        exists = self._vouchers.get(prefix)
        return exists is not None and exists(id_)

    def __iter__(self) -> Iterator[ChannelLog]:
        """Go over every channel's log."""
        return iter(self._logs.values())

    def forget(self, where: ChannelLog) -> None:
        """Drop a channel of which nothing is kept; if it speaks again, it has another epoch."""
        del self._logs[where.name]
        self._recent.pop(where, None)
        dropped = where.drop(0)
        self._gone(where)
        if where.adopted:
            return
        self._ring_total -= dropped
        self.execute("DELETE FROM channel WHERE id = :id", id=where.id)
        for listener in self._forget_listeners:
            listener(where.name)

    def on_forget(self, *listeners: Callable[[str], None]) -> None:
        """Tell listeners the name of each channel that is forgotten, in the same commit."""
        self._forget_listeners += listeners

    def on_visible(
        self,
        listener: Callable[[], None],
        gone: Callable[[ChannelLog], None] = lambda _: None,
        filled: Callable[[ChannelLog], None] | None = None,
    ) -> None:
        """Have one listener called whenever `take_fresh` has something to deliver.

        `gone` is told each log that is forgotten, so that nobody holds on to it, and `filled` each
        that is to be delivered at once.
        """
        self._visible, self._gone = listener, gone
        self._filled = filled or self._fill

    def take_fresh(self) -> dict[ChannelLog, None]:
        """Hand over the logs whose `committed` has moved since the last call, in that order."""
        fresh, self._fresh = self._fresh, {}
        return fresh

    async def page(self, where: ChannelLog, after: int, limit: int = 256 << 10) -> list[bytes]:
        """Read frames after an offset, from the ring or from disk, about `limit` bytes.

        Empty means that nothing is kept right after `after`: retention or the ring moved on.
        """
        if after >= where.base:
            return where.ring(after, where.page_end(after, limit))
        if not where.durable:
            return []
        # What is not committed is not on disk either, so the read needs no upper bound but this.
        bodies = await self.store.page(where.id, after, where.committed, limit)
        return [frames.frame(body) for body in bodies]

    async def whole(self, where: ChannelLog, offset: int) -> bytes | None:
        """Read the uncut body of one event that was too large to send."""
        row = await self.store.read(
            lambda db: db.execute(
                "SELECT body FROM whole WHERE id = ?", (where.id << OFFSET_BITS | offset,)
            ).fetchone()
        )
        return row[0] if row else None

    # Back-pressure

    @property
    def pending(self) -> int:
        """Bytes that are written but not yet on disk."""
        return self._pending_size + self._writing_size

    def require_room(self) -> None:
        """Refuse new work while the disk does not take what there is."""
        if self.stalled is not None:
            raise Unavailable(f"the journal cannot be written ({self.stalled}); free the disk")
        if self.pending > self.settings.reserve_bytes:
            raise Unavailable("the disk is too far behind; try again in a moment")

    def on_stall(self, listener: Callable[[str | None], None]) -> None:
        """Tell a listener why commits fail, and None when they work again."""
        self._stall_listeners.append(listener)

    # Inside

    def _add(self, where: ChannelLog) -> ChannelLog:
        self._logs[where.name] = where
        return where

    def _create(self, channel: str) -> ChannelLog:
        epoch = secrets.token_hex(8)
        if not self._durable(channel):
            return self._add(ChannelLog(0, channel, epoch, 0, 1))
        id_, self._next_id = self._next_id, self._next_id + 1
        self._pending.channels.append((id_, channel, epoch))
        return self._add(ChannelLog(id_, channel, epoch, 0, 1))

    def _cut(
        self, where: ChannelLog, type_: str, data: bytes, offset: int, ts: float, body: bytes
    ) -> bytes:
        """Shorten an event over the limit; the whole one stays readable at its `href`."""
        if where.durable:
            self._pending.wholes.append((where.id << OFFSET_BITS | offset, body))
        href = f"{self.base_path}/api/channels/{where.name}/events/{offset}"
        return shortened(
            data,
            self.settings.event_bytes,
            lambda short: frames.body(where.head_of(type_), short, offset, ts),
            href=href if where.durable else None,
        )

    def _schedule(self) -> None:
        """One hand-off a loop turn, so that what one step writes is committed together."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._hand_off)

    def _hand_off(self) -> None:
        self._scheduled = False
        if self._writing is None and self._pending:
            batch, self._pending = self._pending, Batch()
            self._writing, self._pending_logs = self._pending_logs, {}
            self._writing_size, self._pending_size = self._pending_size, 0
            self._writing_barriers, self._barriers = self._barriers, []
            self._submitted = self._loop.time()
            self.store.submit(batch, self._committed)
        if self._fresh:
            written = list(self._fresh)
            self._visible()
            self._trim(written)

    def _committed(self, _: Batch) -> None:
        for where, offset in (self._writing or {}).items():
            where.committed = offset
            self._fresh[where] = None
        self.commit_seconds.add(self._loop.time() - self._submitted)
        barriers, self._writing_barriers = self._writing_barriers, []
        self._writing, self._writing_size = None, 0
        self._hand_off()  # the writer goes on while the loop delivers
        for barrier in barriers:
            if not barrier.done():
                barrier.set_result(None)
        self.gate.open()

    def _stall(self, reason: str | None) -> None:
        self.stalled = reason
        if reason is None:
            log.info("journal.recovered")
        else:
            log.error("journal.stalled", reason=reason, pending=self.pending)
            if self._stalling is not None:
                self._stalling.set_result(None)
                self._stalling = None
        for listener in self._stall_listeners:
            listener(reason)

    def _trim(self, written: Iterable[ChannelLog]) -> None:
        """Keep each ring and all rings together within their budgets."""
        limit = self.settings.ring_bytes
        for where in written:
            if where.adopted:
                where.trim()
                continue
            self._recent[where] = None
            self._recent.move_to_end(where)
            if where.ring_bytes > limit + limit // 4:  # in larger steps: a list is cut in front
                self._ring_total -= where.drop(limit)
        undelivered: list[ChannelLog] = []
        while self._ring_total > self.settings.ring_bytes_total and self._recent:
            where, _ = self._recent.popitem(last=False)
            self._ring_total -= where.drop(0)
            if where.frames:
                undelivered.append(where)  # its turn comes, though it may never speak again
        for where in undelivered:
            self._recent[where] = None

    def _fill(self, where: ChannelLog) -> None:
        self._fresh[where] = None
        self._visible()

    def _skip(self) -> None:
        for where in self.take_fresh():
            where.flushed = where.committed
