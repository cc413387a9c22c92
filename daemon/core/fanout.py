"""Subscriptions as cursors: one flush a loop turn carries visible events to every subscriber.

A subscriber that keeps up stands at `ChannelLog.flushed` and costs one set entry; all of them get
the same bytes. One that has no room, or asked for history, stands somewhere behind: its position
is kept in `Subscriber.behind` and one supervised task reads pages, from the ring or from disk, at
the pace of its socket until it has caught up. Replay, live delivery, batching and slow readers are
this one mechanism.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable

import structlog

from daemon.core.channel_log import Batch, ChannelLog, FramedBatch, Subscribed
from daemon.core.channels import matches
from daemon.core.errors import Unavailable
from daemon.core.journal import Journal
from daemon.core.supervisor import Supervisor

log = structlog.get_logger(__name__)

FLUSH_BYTES = 1 << 20
FLUSH_EVENTS = 1000
"""What one loop turn delivers at the most, so that one commit is not one long callback."""

PAGE_BYTES = 256 << 10
"""What a subscriber that is behind is given at a time."""

ENDED = 4096
"""Connections that are remembered once they have ended; a loop turn sees fewer of them end."""


class Subscriber(ABC):
    """One client's subscriptions; a door (WebSocket, SSE) fills in how bytes leave."""

    def __init__(self) -> None:
        """Begin with no subscription."""
        self.id = secrets.token_hex(6)
        self.channels: dict[ChannelLog, int] = {}
        self.patterns: frozenset[str] = frozenset()
        self.behind: dict[ChannelLog, int] = {}
        self.chasing = False

    @abstractmethod
    def has_room(self) -> bool:
        """Tell whether the socket takes more now."""

    @abstractmethod
    def take(self, batch: Batch) -> None:
        """Note a batch for the next `push`; called with room only, never blocks."""

    @abstractmethod
    def push(self) -> None:
        """Write what was taken."""

    def give(self, batch: Batch) -> None:
        """Write one batch now: what most flushes come to."""
        self.take(batch)
        self.push()

    @abstractmethod
    async def room(self) -> bool:
        """Wait until the socket takes more; False when it is gone."""

    @abstractmethod
    def overtaken(self, where: ChannelLog) -> None:
        """Learn that what should come next is no longer kept: an honest end, never a gap."""

    def resynced(self, told: Subscribed) -> None:  # noqa: B027  # who only counts needs no word
        """Learn that a channel goes on later, because what should come next is gone there."""

    def may_write(self, channel: str) -> bool:  # noqa: ARG002
        """Tell whether it may change what the channel is about."""
        return False

    def wants(self, where: ChannelLog) -> bool:
        """Tell whether a subscription of any form covers this channel."""
        return where in self.channels or any(matches(p, where.name) for p in self.patterns)


class Fanout:
    """Delivers what the journal has made visible."""

    def __init__(self, journal: Journal, supervisor: Supervisor) -> None:
        """Become the journal's one deliverer."""
        self.delivered = 0
        self._journal = journal
        self._supervisor = supervisor
        self._wild: set[Subscriber] = set()
        self._matching: dict[ChannelLog, list[Subscriber]] = {}
        self._unfinished: dict[ChannelLog, None] = {}
        self._scheduled = False
        self._subscribed: dict[ChannelLog, set[Subscriber]] = {}
        self._gone_listeners: list[Callable[[str], None]] = []
        self._ended: dict[str, None] = {}
        journal.on_visible(self.flush, self._forget, self._deliver_now)

    # Subscriptions

    def subscribe(
        self,
        who: Subscriber,
        where: ChannelLog,
        *,
        since: int | None = None,
        epoch: str | None = None,
        binary: bool = False,
    ) -> Subscribed:
        """Follow a channel, after an offset or from now on. A second time changes nothing."""
        started = who.channels.get(where)
        if started is not None:
            recovered = where.again(who, started, since=since, epoch=epoch, binary=binary)
            return where.told(who, recovered=recovered)
        position, recovered = where.stand(who, since=since, epoch=epoch, binary=binary)
        answer = where.told(who, recovered=recovered)
        who.channels[where] = position
        self._subscribed.setdefault(where, set()).add(who)
        self._matching.pop(where, None)
        if position < where.flushed:
            # What a wildcard has delivered of this channel so far is asked for once more here.
            who.behind[where] = position
            self._chase(who)
        elif where not in who.behind:
            where.followers.add(who)
        return answer

    def unsubscribe(self, who: Subscriber, where: ChannelLog) -> None:
        """Stop following; a wildcard that covers the channel goes on from the same place."""
        who.channels.pop(where, None)
        self._matching.pop(where, None)
        self._leave(who, where)
        if not who.wants(where):
            who.behind.pop(where, None)

    def follow_pattern(self, who: Subscriber, pattern: str) -> None:
        """Follow every channel that matches, live only."""
        who.patterns |= {pattern}
        self._wild.add(who)
        self._matching.clear()

    def unfollow_pattern(self, who: Subscriber, pattern: str) -> None:
        """Stop following by this pattern."""
        who.patterns -= {pattern}
        self._matching.clear()
        if not who.patterns:
            self._wild.discard(who)
        for where in [where for where in who.behind if not who.wants(where)]:
            del who.behind[where]

    def leave(self, who: Subscriber) -> None:
        """Forget a subscriber whose connection has ended."""
        for where in who.channels:
            self._leave(who, where)
        who.channels.clear()
        who.behind.clear()
        who.patterns = frozenset()
        if who in self._wild:
            self._wild.discard(who)
            self._matching.clear()
        self._ended[who.id] = None
        if len(self._ended) > ENDED:
            del self._ended[next(iter(self._ended))]
        for listener in self._gone_listeners:
            try:
                listener(who.id)
            except Exception:  # the end of a connection is the same for all others
                log.exception("fanout.listener_failed", connection=who.id)

    def on_gone(self, listener: Callable[[str], None]) -> None:
        """Tell a listener the id of each subscriber whose connection has ended."""
        self._gone_listeners.append(listener)

    def ended(self, connection: str) -> bool:
        """Tell whether a connection has ended of late: what it has just asked for comes too late.

        A command that is a coroutine begins a loop turn after its message was taken.
        """
        return connection in self._ended

    def followed(self, channel: str) -> bool:
        """Tell whether anybody follows a channel, by its name or by a pattern."""
        where = self._journal.get(channel)
        return where is not None and (
            where in self._subscribed or any(who.wants(where) for who in self._wild)
        )

    def _leave(self, who: Subscriber, where: ChannelLog) -> None:
        where.followers.discard(who)
        where.left(who)
        subscribed = self._subscribed.get(where, set())
        subscribed.discard(who)
        if not subscribed:
            self._subscribed.pop(where, None)

    def _forget(self, where: ChannelLog) -> None:
        """Let go of a log that is no more; who is behind on it learns of that in its turn."""
        self._matching.pop(where, None)
        for who in list(self._subscribed.get(where, ())):
            if where not in who.behind:
                del who.channels[where]
                self._leave(who, where)

    def finish(self) -> None:
        """Deliver all that is visible now, however long the turn: the daemon is about to end."""
        while self._unfinished:
            self.flush()

    # Delivery

    def flush(self) -> None:
        """Deliver what is visible, up to the limit of one loop turn."""
        self._unfinished |= self._journal.take_fresh()
        # Whoever follows several of the channels gets one write for all of them.
        touched: dict[Subscriber, None] | None = {} if len(self._unfinished) > 1 else None
        room, count = FLUSH_BYTES, FLUSH_EVENTS
        for where in list(self._unfinished):
            start, end = where.flushed, where.committed
            stop = start
            while stop < end and room > 0 and count > 0:
                room -= len(where.frames[stop - where.base])
                count -= 1
                stop += 1
            if stop > start:
                self._deliver(where, start, stop, touched)
                where.flushed = stop
            if stop == end:
                del self._unfinished[where]
            else:
                del self._unfinished[where]
                self._unfinished[where] = None  # to the end: a flood does not hold up the others
                break
        for who in touched or ():
            who.push()
        if self._unfinished and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush_rest)

    def _deliver_now(self, where: ChannelLog) -> None:
        """Deliver what one log has just been filled with, unless more of it waits for its turn."""
        if where in self._unfinished or where.committed - where.flushed > 1:
            self._unfinished[where] = None
            self.flush()
        else:
            self._deliver(where, where.flushed, where.committed, None)
            where.flushed = where.committed

    def _flush_rest(self) -> None:
        self._scheduled = False
        self.flush()

    def _deliver(
        self, where: ChannelLog, start: int, stop: int, touched: dict[Subscriber, None] | None
    ) -> None:
        if not where.followers and not self._wild:
            return
        batch = where.batch(start, stop)
        audience = list(where.followers)
        if self._wild:
            audience += self._by_pattern(where)
        lagging: list[Subscriber] = []
        for who in audience:
            if not who.has_room():
                lagging.append(who)
            elif touched is None:
                who.give(batch)
            else:
                who.take(batch)
                touched[who] = None
        self.delivered += (stop - start) * (len(audience) - len(lagging))
        for who in lagging:
            where.followers.discard(who)
            who.behind[where] = start
            self._chase(who)

    def _by_pattern(self, where: ChannelLog) -> list[Subscriber]:
        """Give who follows a channel by pattern alone, and is not behind on it."""
        found = self._matching.get(where)
        if found is None:
            found = [who for who in self._wild if where not in who.channels and who.wants(where)]
            self._matching[where] = found
        return [who for who in found if where not in who.behind]

    # Behind

    def _chase(self, who: Subscriber) -> None:
        if not who.chasing:
            who.chasing = True
            self._supervisor.start(self._catch_up(who), name="fanout.catch_up")

    async def _catch_up(self, who: Subscriber) -> None:
        """Bring one subscriber up to date on every channel where it is behind."""
        try:
            while who.behind and await who.room():
                for where, position in list(who.behind.items()):
                    if who.behind.get(where) == position and not await self._step(
                        who, where, position
                    ):
                        return
        finally:
            who.chasing = False

    async def _step(self, who: Subscriber, where: ChannelLog, position: int) -> bool:
        """Give the next page of one channel; False when the subscriber cannot go on."""
        if self._journal.get(where.name) is not where:
            who.overtaken(where)  # retention forgot it: if it speaks again, it has another log
            return False
        if position >= where.flushed:
            # Caught up: leaving the chase and joining the live set happen in one loop step.
            del who.behind[where]
            if where in who.channels:
                where.followers.add(who)
            return True
        if position >= where.base:
            batch = where.page(who, position, PAGE_BYTES)
        elif (further := where.resync(who)) is not None:
            who.behind[where] = further
            if where in who.channels:
                who.resynced(where.told(who, recovered=False, after=further))
            return True
        else:
            try:
                framed = await self._journal.page(where, position, PAGE_BYTES)
            except (sqlite3.Error, Unavailable) as error:
                log.error("fanout.page_failed", channel=where.name, error=str(error))
                framed = []
            if who.behind.get(where) != position:
                return True  # unsubscribed, or placed anew, while the page was read
            if not framed:
                who.overtaken(where)
                return False
            batch = FramedBatch(where, position + 1, framed[: where.flushed - position])
        who.take(batch)
        who.push()
        who.behind[where] = position + len(batch)
        return await who.room()
