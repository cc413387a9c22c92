"""The Python client: commands as calls, channels as async iterators, and nothing missed.

    async with Client(lambda: Address(...), token=lambda: "...") as client:
        created = await client.call("session.create", {"agent": "command", "argv": ["ls"]})
        async for message in client.subscribe(f"session:{created['sessionId']}", since=0):
            print(message.type, message.data)

A connection that breaks is made again, with full-jitter backoff, and every subscription goes on
after the last event that it has handed out. A consumer that is slow is unsubscribed meanwhile and
resumes from the log, so memory stays bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal, Self, cast

import aiohttp

from daemon.core.channels import is_pattern, matches
from daemon.core.errors import AgentcmdError, BadRequest, Conflict, Unauthorized, Unavailable
from daemon.core.frames import read_output
from daemon.dial import ConnectionLost, Line, NoDaemon, dial, error_of
from daemon.home import Address
from daemon.subscription import Message, Output, OutputSubscription, Subscription

__all__ = ["Client", "ConnectionLost", "Message", "NoDaemon", "Output", "Status"]

BACKOFF_BASE = 0.2
BACKOFF_CAP = 10.0
"""Seconds; a try waits a random time up to base * 2^n, never more than the cap."""

SILENCE = 70.0
"""Seconds without anything, pings included, after which the server is taken for dead."""

RENEWAL = 0.2
"""Seconds at least from a warning to the fresh token."""

PIECE = 64 << 10
"""Bytes of a download that are handed out at a time, at most."""

FINAL_CODES = (4401, 4403)
"""Close codes after which a client does not come back."""

Status = Literal["connecting", "connected", "following", "disconnected", "gap", "closed"]


class Client:
    """One connection to a daemon, made again whenever it breaks."""

    def __init__(
        self,
        locate: Callable[[], Address | None],
        *,
        token: Callable[[], str],
        on_status: Callable[[Status, str], None] | None = None,
    ) -> None:
        """Connect to where `locate` says, as whom `token` says; both are asked at each try.

        `on_status` is told each change: "following" and "gap" with a channel, for "following" each
        time that its subscription stands (anew), "disconnected" with the close code.
        """
        self._locate = locate
        self._token = token
        self._on_status = on_status or (lambda _status, _detail: None)
        self._line: Line | None = None
        self._ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._ready = asyncio.Event()
        self._ended: AgentcmdError | None = None
        self._reconnect_after: float | None = None
        self._renewal: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Tell whether the connection stands now."""
        return self._line is not None

    async def __aenter__(self) -> Self:
        """Connect; NoDaemon or Unauthorized at once where that cannot work."""
        await self._connect()
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="client")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close for good."""
        self._keeper.cancel()
        try:
            await asyncio.wait([self._keeper])
        finally:
            self._end(Unavailable("the client is closed"))
            await self._disconnect()
            self._on_status("closed", "")

    async def call(
        self, type_: str, data: Mapping[str, Any] | None = None, *, channel: str | None = None
    ) -> dict[str, Any]:
        """Carry out a command and give its answer's data; refusals are AgentcmdErrors by code."""
        await self._until_ready()
        id_ = next(self._ids)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._calls[id_] = answer
        try:
            await self._send({"id": id_, "type": type_, "channel": channel, "data": data or {}})
            return await answer
        finally:
            self._calls.pop(id_, None)
            del answer  # which may hold the error, whose traceback holds this frame

    async def tell(self, type_: str, data: Mapping[str, Any]) -> None:
        """Send a command that is answered only when it is asked to, and do not ask.

        It is carried out after what was sent before; a refusal is not told.
        """
        await self._until_ready()
        await self._send({"type": type_, "data": data})

    def subscribe(
        self, channel: str, *, since: int | None = None, epoch: str | None = None
    ) -> AsyncIterator[Message]:
        """Follow a channel or a pattern; after a break it goes on where it was.

        Where events were missed for good, `on_status` is told "gap" with the channel's name. A
        channel is followed once a client (Conflict otherwise), and what is followed by name is not
        handed to a pattern as well.
        """
        return cast(AsyncIterator[Message], self._follow(Subscription(channel, since, epoch)))

    def subscribe_output(
        self, channel: str, *, since: int | None = None, epoch: str | None = None
    ) -> AsyncIterator[Message | Output]:
        """Follow a terminal: its output as bytes, and between them its other events, in order.

        `since` counts bytes of output; without it the screen comes first. A break is as for other
        channels. After a gap, as after having been too slow, the next output is `fresh`.
        """
        return self._follow(OutputSubscription(channel, since, epoch))

    async def _follow(self, own: Subscription) -> AsyncIterator[Message | Output]:
        channel = own.channel
        if channel in self._subscriptions:
            raise Conflict(f"this client follows {channel} already")
        self._subscriptions[channel] = own
        try:
            if self._ended is not None:
                raise self._ended
            with contextlib.suppress(ConnectionLost):  # then it is asked for at the next connection
                await self._ask_for(own)
            while True:
                while own.queue:
                    yield own.take()
                    if own.paused and own.low:
                        with contextlib.suppress(ConnectionLost):
                            await self._ask_for(own)
                if own.error is not None:
                    raise own.error
                own.filled.clear()
                await own.filled.wait()
        finally:
            del self._subscriptions[channel]
            with contextlib.suppress(ConnectionLost):  # what is lost follows nothing
                await self._send({"type": "unsubscribe", "channel": channel})

    async def history(self, channel: str, *, since: int = 0) -> AsyncIterator[Message]:
        """Read what is kept of a channel after an offset, without following it."""
        while True:
            page = await self._get(f"/api/channels/{channel}/history?since={since}")
            for event in page["events"]:
                yield Message.of(event, json.dumps(event, ensure_ascii=False))
            if page["next"] >= page["offset"] or not page["events"]:
                return
            since = page["next"]

    async def download(self, path: str) -> AsyncIterator[bytes]:
        """Read a file that the daemon has at a path, as in /api/terminals/{id}/recording."""
        async with self._got(path) as response:
            if response.status != 200:
                raise error_of((await response.json())["error"])
            async for piece in response.content.iter_chunked(PIECE):
                yield piece

    # The connection

    async def _connect(self) -> None:
        address = self._locate()
        if address is None:
            raise NoDaemon("no daemon runs here: start one with 'agentcmd serve'")
        self._on_status("connecting", address.socket or address.url)
        self._line = await dial(address, self._token())
        self._ready.set()
        self._on_status("connected", self._line.base)
        for own in list(self._subscriptions.values()):
            if not own.paused:
                await self._ask_for(own)

    async def _disconnect(self) -> None:
        self._ready.clear()
        self._forget_renewal()
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    async def _keep(self) -> None:
        """Stay connected; whatever ends that is what waits for the daemon is told."""
        try:
            await self._stay()
        except Exception as error:  # noqa: BLE001  # the border of the task: nobody may wait for ever
            self._end(_fatal(error))

    async def _stay(self) -> None:
        """Read until the connection breaks, and make it again until that makes no sense."""
        tries = 0
        while self._ended is None:
            if self._line is not None:
                tries = 0
                code = await self._read(self._line.ws)
                await self._disconnect()
                self._on_status("disconnected", str(code or ""))
                self._fail_calls(ConnectionLost("the connection broke before the answer came"))
                if code in FINAL_CODES:
                    self._end(Unauthorized("the daemon refuses this token"))
                    return
            if self._reconnect_after is not None:
                delay, self._reconnect_after = self._reconnect_after, None
            else:
                delay = random.uniform(0, min(BACKOFF_CAP, BACKOFF_BASE * 2**tries))  # noqa: S311
            tries += 1
            await asyncio.sleep(delay)
            try:
                await self._connect()
            except Unauthorized as error:
                self._end(error)
            except (AgentcmdError, ConnectionError):
                continue

    async def _renew(self, expires_at: float) -> None:
        """Send a fresh token after half of what is left.

        Not at once: where all tokens are short, each is answered by the next warning.
        """
        await asyncio.sleep(max(RENEWAL, (expires_at - time.time()) / 2))
        try:
            await self._send({"type": "auth", "data": {"token": self._token()}})
        except ConnectionLost:
            pass  # the next connection begins with a fresh token
        except Exception as error:  # noqa: BLE001  # the border of the task
            self._end(_fatal(error))

    def _forget_renewal(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()

    async def _read(self, ws: aiohttp.ClientWebSocketResponse) -> int | None:
        try:
            while True:
                frame = await ws.receive(SILENCE)
                if frame.type is aiohttp.WSMsgType.TEXT:
                    await self._heed(frame.data)
                elif frame.type is aiohttp.WSMsgType.BINARY:
                    await self._heed_bytes(frame.data)
                else:
                    return ws.close_code
        except (TimeoutError, ConnectionError, ConnectionLost):
            return None

    async def _heed(self, raw: str) -> None:
        fields: dict[str, Any] = json.loads(raw)
        answered = self._calls.get(fields["id"]) if isinstance(fields.get("id"), int) else None
        if answered is not None and not answered.done():
            if fields["type"] == "global.error":
                answered.set_exception(error_of(fields["data"]))
            else:
                answered.set_result(fields["data"])
            return
        type_, data = fields["type"], fields["data"]
        if "offset" in fields:
            await self._deliver(Message.of(fields, raw))
        elif type_ == "global.subscription_success":
            self._stand(data)
        elif type_ == "global.subscription_error":
            if (own := self._subscriptions.get(data["channel"])) is not None:
                own.error = error_of(data)
                own.filled.set()
        elif type_ == "global.token_expiring":
            self._forget_renewal()
            self._renewal = asyncio.get_running_loop().create_task(self._renew(data["expiresAt"]))
        elif type_ == "global.draining":
            self._reconnect_after = data["reconnectMs"] / 1000

    async def _heed_bytes(self, raw: bytes) -> None:
        told = read_output(raw)
        own = None if told is None else self._subscriptions.get(told[0])
        if told is not None and isinstance(own, OutputSubscription) and own.live:
            own.put_output(told[1], told[2])
            await self._pause_if_full(own)

    # Subscriptions

    async def _ask_for(self, own: Subscription) -> None:
        request = own.request()
        await self._send({"type": "subscribe", "channel": own.channel, "data": request})

    def _stand(self, data: Mapping[str, Any]) -> None:
        own = self._subscriptions.get(data["channel"])
        if own is None or own.paused:  # it has not been asked for since
            return
        if own.stand(data):
            self._on_status("gap", own.channel)
        self._on_status("following", own.channel)

    async def _deliver(self, message: Message) -> None:
        own = self._subscriptions.get(message.channel)
        if own is None:
            for pattern, following in self._subscriptions.items():
                wanted = is_pattern(pattern) and matches(pattern, message.channel)
                if wanted and not following.put_live(message):
                    self._on_status("gap", pattern)
        elif own.live:
            own.put(message)
            await self._pause_if_full(own)

    async def _pause_if_full(self, own: Subscription) -> None:
        """Have no more sent for as long as the consumer has enough to do."""
        if own.full:
            own.live, own.paused = False, True
            await self._send({"type": "unsubscribe", "channel": own.channel})

    # Small things

    async def _get(self, path: str) -> dict[str, Any]:
        async with self._got(path) as response:
            found: dict[str, Any] = await response.json()
        if "error" in found:
            raise error_of(found["error"])
        return found

    @asynccontextmanager
    async def _got(self, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask for what is at a path, as who we are."""
        await self._until_ready()
        if self._line is None:
            raise ConnectionLost("the connection is broken; it is being made again")
        headers = {"Authorization": f"Bearer {self._token()}"}
        try:
            async with self._line.http.get(f"{self._line.base}{path}", headers=headers) as response:
                yield response
        except aiohttp.ClientError as error:
            raise ConnectionLost(f"the daemon did not answer: {error}") from None

    async def _until_ready(self) -> None:
        if self._ended is not None:
            raise self._ended
        await self._ready.wait()
        if self._ended is not None:
            raise self._ended

    async def _send(self, message: dict[str, Any]) -> None:
        if self._line is None:
            raise ConnectionLost("the connection is broken; it is being made again")
        given = {name: value for name, value in message.items() if value is not None}
        try:
            text = json.dumps(given, allow_nan=False)
        except (ValueError, RecursionError) as error:  # it would not be answered
            raise BadRequest(f"the message cannot be said in JSON: {error}") from None
        try:
            await self._line.ws.send_str(text)
        except ConnectionError:
            raise ConnectionLost("the connection broke while the message was sent") from None

    def _fail_calls(self, error: AgentcmdError) -> None:
        for call in self._calls.values():
            if not call.done():
                call.set_exception(error)

    def _end(self, error: AgentcmdError) -> None:
        self._ended = error
        self._ready.set()
        self._fail_calls(error)
        for own in self._subscriptions.values():
            own.error = own.error or error
            own.filled.set()


def _fatal(error: Exception) -> AgentcmdError:
    """Say what ended a client for good."""
    if isinstance(error, AgentcmdError):
        return error
    return Unavailable(f"the client cannot go on: {error!r}")
