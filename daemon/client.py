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
from typing import Any, Literal, Self

import aiohttp

from daemon.core.channels import is_pattern, matches
from daemon.core.errors import AgentcmdError, Conflict, Unauthorized, Unavailable, error_classes
from daemon.home import Address
from daemon.subscription import Message, Subscription

__all__ = ["Client", "ConnectionLost", "Message", "NoDaemon", "Status"]

BACKOFF_BASE = 0.2
BACKOFF_CAP = 10.0
"""Seconds; a try waits a random time up to base * 2^n, never more than the cap."""

SILENCE = 70.0
"""Seconds without anything, pings included, after which the server is taken for dead."""

GOODBYE = aiohttp.ClientWSTimeout(ws_close=1.0)
"""Seconds that a daemon has to answer our close frame."""

RENEWAL = 0.2
"""Seconds at least from a warning to the fresh token."""

CONNECT = 10.0
"""Seconds that a daemon has to answer the handshake."""

QUEUED = 2000
"""Messages that wait for a consumer before its subscription is paused; a pattern's, which cannot
be resumed, are dropped."""

FINAL_CODES = (4401, 4403)
"""Close codes after which a client does not come back."""

Status = Literal["connecting", "connected", "disconnected", "gap", "closed"]

_BY_CODE = {cls.code: cls for cls in reversed(error_classes())}


class NoDaemon(Unavailable):
    """No daemon answers at the address."""


class ConnectionLost(Unavailable):
    """The connection broke before the answer: the command may or may not have been carried out."""


class Client:
    """One connection to a daemon, made again whenever it breaks."""

    def __init__(
        self,
        locate: Callable[[], Address | None],
        *,
        token: Callable[[], str],
        on_status: Callable[[Status, str], None] | None = None,
    ) -> None:
        """Connect to where `locate` says, as whom `token` says; both are asked at each try."""
        self._locate = locate
        self._token = token
        self._on_status = on_status or (lambda _status, _detail: None)
        self._http: aiohttp.ClientSession | None = None
        self._ws: aiohttp.ClientWebSocketResponse | None = None
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
        return self._ws is not None

    async def __aenter__(self) -> Self:
        """Connect; NoDaemon or Unauthorized at once where that cannot work."""
        await self._connect()
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="client")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close for good."""
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
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

    async def subscribe(
        self, channel: str, *, since: int | None = None, epoch: str | None = None
    ) -> AsyncIterator[Message]:
        """Follow a channel or a pattern; after a break it goes on where it was.

        Where events were missed for good, `on_status` is told "gap" with the channel's name. A
        channel is followed once a client (Conflict otherwise), and what is followed by name is not
        handed to a pattern as well.
        """
        if channel in self._subscriptions:
            raise Conflict(f"this client follows {channel} already")
        own = self._subscriptions[channel] = Subscription(channel, since, epoch)
        try:
            if self._ended is not None:
                raise self._ended
            with contextlib.suppress(ConnectionLost):  # then it is asked for at the next connection
                await self._ask_for(own)
            while True:
                while own.queue:
                    yield own.queue.popleft()
                    if own.paused and len(own.queue) < QUEUED // 4:
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

    # The connection

    async def _connect(self) -> None:
        address = self._locate()
        if address is None:
            raise NoDaemon("no daemon runs here: start one with 'agentcmd serve'")
        self._on_status("connecting", address.socket or address.url)
        connector = aiohttp.UnixConnector(address.socket) if address.socket else None
        base = "http://localhost" if address.socket else address.url.rstrip("/")
        http = aiohttp.ClientSession(connector=connector)
        try:
            async with asyncio.timeout(CONNECT):
                ws = await http.ws_connect(
                    f"{base}/ws",
                    headers={"Authorization": f"Bearer {self._token()}"},
                    max_msg_size=0,
                    compress=0,
                    timeout=GOODBYE,
                )
                await _greeted(ws)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            await http.close()
            if isinstance(error, aiohttp.WSServerHandshakeError) and error.status in (401, 403):
                raise Unauthorized(f"{base} refuses this token or origin") from None
            at = address.socket or address.url
            raise NoDaemon(f"no daemon answers at {at}; start one with 'agentcmd serve'") from None
        except BaseException:
            await http.close()
            raise
        self._http, self._ws, self._base = http, ws, base
        self._ready.set()
        self._on_status("connected", base)
        for own in list(self._subscriptions.values()):
            if not own.paused:
                await self._ask_for(own)

    async def _disconnect(self) -> None:
        self._ready.clear()
        self._forget_renewal()
        ws, self._ws = self._ws, None
        http, self._http = self._http, None
        if ws is not None:
            await ws.close()
        if http is not None:
            await http.close()

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
            if self._ws is not None:
                tries = 0
                code = await self._read(self._ws)
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
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    return ws.close_code
                await self._heed(frame.data)
        except (TimeoutError, ConnectionError, ConnectionLost):
            return None

    async def _heed(self, raw: str) -> None:
        fields: dict[str, Any] = json.loads(raw)
        answered = self._calls.get(fields["id"]) if isinstance(fields.get("id"), int) else None
        if answered is not None and not answered.done():
            if fields["type"] == "global.error":
                answered.set_exception(_error(fields["data"]))
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
                own.error = _error(data)
                own.filled.set()
        elif type_ == "global.token_expiring":
            self._forget_renewal()
            self._renewal = asyncio.get_running_loop().create_task(self._renew(data["expiresAt"]))
        elif type_ == "global.draining":
            self._reconnect_after = data["reconnectMs"] / 1000

    # Subscriptions

    async def _ask_for(self, own: Subscription) -> None:
        data: dict[str, Any] = {}
        if not is_pattern(own.channel):
            if own.since is not None:
                data["since"] = own.since
            if own.epoch is not None:
                data["epoch"] = own.epoch
        own.live = own.paused = False
        await self._send({"type": "subscribe", "channel": own.channel, "data": data})

    def _stand(self, data: Mapping[str, Any]) -> None:
        own = self._subscriptions.get(data["channel"])
        if own is None:
            return
        if is_pattern(own.channel):
            if (
                own.epoch is not None
            ):  # it stood before, and what was told meanwhile is not replayed
                self._on_status("gap", own.channel)
            own.epoch = data["epoch"]
            return
        own.live = True  # what comes from here on follows `since`, and is no older answer
        own.epoch = data["epoch"]
        if not data["recovered"] or own.since is None:
            own.since = data["offset"]
        if not data["recovered"]:
            self._on_status("gap", own.channel)

    async def _deliver(self, message: Message) -> None:
        own = self._subscriptions.get(message.channel)
        if own is None:
            for pattern, following in self._subscriptions.items():
                if is_pattern(pattern) and matches(pattern, message.channel):
                    self._put_live(following, message)
        elif own.live:
            own.since = message.offset
            own.put(message)
            if len(own.queue) >= QUEUED:
                own.live, own.paused = False, True
                await self._send({"type": "unsubscribe", "channel": own.channel})

    def _put_live(self, own: Subscription, message: Message) -> None:
        """Queue a message that cannot be had again, or say that there is a gap."""
        if len(own.queue) < QUEUED:
            own.dropping = False
            own.put(message)
        elif not own.dropping:
            own.dropping = True
            self._on_status("gap", own.channel)

    # Small things

    async def _get(self, path: str) -> dict[str, Any]:
        await self._until_ready()
        if self._http is None:
            raise ConnectionLost("the connection is broken; it is being made again")
        headers = {"Authorization": f"Bearer {self._token()}"}
        try:
            async with self._http.get(f"{self._base}{path}", headers=headers) as response:
                found: dict[str, Any] = await response.json()
        except aiohttp.ClientError as error:
            raise ConnectionLost(f"the daemon did not answer: {error}") from None
        if "error" in found:
            raise _error(found["error"])
        return found

    async def _until_ready(self) -> None:
        if self._ended is not None:
            raise self._ended
        await self._ready.wait()
        if self._ended is not None:
            raise self._ended

    async def _send(self, message: dict[str, Any]) -> None:
        if self._ws is None:
            raise ConnectionLost("the connection is broken; it is being made again")
        try:
            await self._ws.send_str(json.dumps({k: v for k, v in message.items() if v is not None}))
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


async def _greeted(ws: aiohttp.ClientWebSocketResponse) -> None:
    """Take the first message: welcome, or why not."""
    refusal: AgentcmdError | None = NoDaemon("what answers there is no daemon of ours")
    try:
        with contextlib.suppress(ValueError, LookupError, TypeError):
            hello = json.loads(await ws.receive_str())
            refusal = None if hello["type"] == "global.connected" else _error(hello["data"])
    finally:
        if refusal is not None:
            await ws.close()
    if refusal is not None:
        raise refusal


def _fatal(error: Exception) -> AgentcmdError:
    """Say what ended a client for good."""
    if isinstance(error, AgentcmdError):
        return error
    return Unavailable(f"the client cannot go on: {error!r}")


def _error(data: Mapping[str, Any]) -> AgentcmdError:
    """Make the error of a code that came over the wire."""
    kind = _BY_CODE.get(data["code"], AgentcmdError)
    return kind(data["message"], **data.get("details", {}))
