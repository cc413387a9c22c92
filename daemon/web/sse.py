"""Server-Sent Events: the same cursors as /ws, for clients that only read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from aiohttp import web

from daemon.core import frames
from daemon.core.channel_log import Batch, ChannelLog, Subscribed
from daemon.core.channels import is_pattern, parse_channel
from daemon.core.commands import Caller
from daemon.core.errors import BadRequest, NotFound, RateLimited
from daemon.core.fanout import Fanout, Subscriber
from daemon.core.journal import Journal
from daemon.web.http_connection import answers_for_long
from daemon.web.messages import SubscriptionError, SubscriptionSuccess
from daemon.web.outlet import write_patiently
from daemon.web.peer import WebSettings
from daemon.web.sse_cursor import LastPlaces, StreamCursor

log = structlog.get_logger(__name__)

KEEP_ALIVE = 15.0
"""Seconds without an event after which a comment keeps proxies from closing the stream."""


RETRY_LATER = 3
"""Seconds until a reader shall come back that cannot be served now."""

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}


class EventStream(Subscriber):
    """One reader; what it takes waits here, bounded, for its response."""

    def __init__(self, limit: int) -> None:
        """Let about `limit` bytes wait."""
        super().__init__()
        self.filled = asyncio.Event()
        self.gone = False
        self._limit = limit
        self._size = 0
        self._waiting: list[bytes] = []
        self._room = asyncio.Event()
        self.cursor = StreamCursor()

    def has_room(self) -> bool:
        """Tell whether more may wait."""
        return self._size < self._limit and not self.gone

    def take(self, batch: Batch) -> None:
        """Format each event, with an id that resumes all channels after it."""
        for number, framed in enumerate(batch.frames, batch.first):
            identified = b""
            if batch.log in self.cursor:
                self.cursor.follow(batch.log, number)
                identified = b"id: %b\n" % self.cursor.text()
            self._put(b"%bdata: %b\n\n" % (identified, frames.payload(framed)))

    def push(self) -> None:
        """Wake the writer."""
        self.filled.set()

    async def room(self) -> bool:
        """Wait until what waited has been written; False when the reader is gone."""
        while not self.has_room() and not self.gone:
            self._room.clear()
            await self._room.wait()
        await asyncio.sleep(0)
        return not self.gone

    def overtaken(self, where: ChannelLog) -> None:
        """End the stream; when it resumes, it is told that something was missed."""
        log.info("stream.overtaken", channel=where.name)
        self.end()

    def resynced(self, told: Subscribed) -> None:
        """Say that events were missed for good, and that it goes on after them."""
        success = SubscriptionSuccess.of(told)
        name = success.__event__.name
        self.say(frames.answer(name, frames.encode(success), channel=told.channel))

    def refuse(self, name: str) -> None:
        """Say that a channel has gone, and that the others go on."""
        error = SubscriptionError(channel=name, code=NotFound.code, message=gone_message(name))
        told = error.__event__.name
        self.say(frames.answer(told, frames.encode(error), channel=name))

    def end(self) -> None:
        """Let go of everything."""
        self.gone = True
        self.filled.set()
        self._room.set()

    def say(self, data: bytes) -> None:
        """Send one message that is no event of a channel."""
        self._put(b"data: %b\n\n" % data)
        self.push()

    @property
    def waits(self) -> bool:
        """Tell whether something is still to be written."""
        return bool(self._waiting)

    def take_all(self) -> bytes:
        """Hand over what waits."""
        waiting, self._waiting, self._size = self._waiting, [], 0
        self.filled.clear()
        self._room.set()
        return b"".join(waiting)

    def _put(self, data: bytes) -> None:
        self._waiting.append(data)
        self._size += len(data)


def gone_message(name: str) -> str:
    """Return what is said of a channel that there is not."""
    return f"there is no channel {name}"


class EventStreams:
    """The endpoint `/api/events`."""

    def __init__(
        self,
        journal: Journal,
        fanout: Fanout,
        settings: WebSettings,
        *,
        crowded: Callable[[], bool],
    ) -> None:
        """Serve from the same journal and fan-out as /ws."""
        self._crowded = crowded
        self._journal = journal
        self._fanout = fanout
        self._settings = settings
        self._closed = False
        self.open: set[EventStream] = set()

    async def handle(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Stream the channels asked for until the reader leaves or the daemon stops."""
        comes_back = "Last-Event-ID" in request.headers
        if self._closed or (comes_back and self._crowded()):
            return await _come_back(request)
        names = self._names(request, caller)
        logs = self._logs(names, resumed=comes_back)
        since = _since(request.query.get("since"))
        resume = LastPlaces(request.headers.get("Last-Event-ID", ""))
        response = web.StreamResponse(headers=HEADERS)
        response.force_close()  # a reader that comes back shall find out that we are gone
        answers_for_long(request)
        stream = EventStream(self._settings.buffer_bytes)
        self.open.add(stream)
        # As on /ws, nobody is served beyond the end of a token: with it, coming back is a 401.
        loop = asyncio.get_running_loop()
        expiry = loop.call_later(max(0.0, caller.expires_at - time.time()), stream.end)
        try:
            await response.prepare(request)
            for name in names:
                if is_pattern(name):
                    self._fanout.follow_pattern(stream, name)
                elif (where := logs.get(name)) is None:
                    stream.refuse(name)
                else:
                    epoch, offset = resume.of(where, since)
                    self._follow(stream, where, offset, epoch)
            await self._write(response, stream, stream.cursor.text())
        except ConnectionError:
            pass  # the reader left; it resumes by Last-Event-ID
        except TimeoutError:
            log.info("stream.stalled", user=caller.sub)
            if request.transport is not None:
                request.transport.abort()  # the end of the response would wait for it, too
        finally:
            expiry.cancel()
            stream.end()
            self.open.discard(stream)
            self._fanout.leave(stream)
        return response

    def close(self) -> None:
        """End every stream; readers come back by themselves."""
        self._closed = True
        for stream in self.open:
            stream.end()

    def _names(self, request: web.Request, caller: Caller) -> list[str]:
        names = list(dict.fromkeys(request.query.getall("channel", [])))
        if not names:
            raise BadRequest("name a channel, as in /api/events?channel=session:123")
        if len(names) > self._settings.max_subscriptions:
            raise RateLimited(f"a stream has {self._settings.max_subscriptions} channels at most")
        if self._crowded():
            raise RateLimited("too many connections; try again later")
        for name in names:
            caller.require("read", parse_channel(name))
        return names

    def _logs(self, names: list[str], *, resumed: bool) -> dict[str, ChannelLog]:
        """Find the channels; a stream that is resumed goes on without those that have gone.

        An EventSource that is answered with an error never comes back, for all its other channels.
        """
        exact = [name for name in names if not is_pattern(name)]
        logs = {name: where for name in exact if (where := self._journal.get(name)) is not None}
        gone = [name for name in exact if name not in logs]
        if gone and not (resumed and len(gone) < len(names)):
            raise NotFound(gone_message(gone[0]))
        return logs

    def _follow(
        self, stream: EventStream, where: ChannelLog, since: int | None, epoch: str | None
    ) -> None:
        told = self._fanout.subscribe(stream, where, since=since, epoch=epoch)
        stream.cursor.follow(where, stream.channels[where])
        if not told.recovered:
            stream.resynced(told)

    async def _write(self, response: web.StreamResponse, stream: EventStream, place: bytes) -> None:
        """Write what is taken; `place` resumes a stream that ends before its first event."""
        await response.write(b"retry: 1000\n%b\n" % (b"id: %b\n" % place if place else b""))
        while not stream.gone or stream.waits:
            try:
                async with asyncio.timeout(KEEP_ALIVE):
                    await stream.filled.wait()
            except TimeoutError:
                await response.write(b": still here\n\n")
                continue
            await write_patiently(response, stream.take_all(), self._settings.stall_timeout)


async def _come_back(request: web.Request) -> web.StreamResponse:
    """Answer a reader that cannot be served now: any refusal would make an EventSource give up."""
    response = web.StreamResponse(headers=HEADERS)
    response.force_close()
    await response.prepare(request)
    await response.write(b"retry: %d\n\n" % (RETRY_LATER * 1000))
    return response


def _since(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadRequest("since is an offset: 0 for all that is kept, or the last one seen")
    return int(text)
