"""What a client says, carried out: the connection's own messages and every domain command."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import cast

import msgspec
import structlog

from daemon.core import frames
from daemon.core.commands import Caller, Dispatcher
from daemon.core.errors import BadMessage, RateLimited, Unauthorized, Unavailable
from daemon.core.supervisor import Supervisor
from daemon.web.auth import Tokens
from daemon.web.close import CloseCode
from daemon.web.errors import as_agentcmd_error
from daemon.web.messages import Authenticate, Authenticated, Refused, Request, parse
from daemon.web.peer import Peer, WebSettings
from daemon.web.subscriptions import Subscriptions

log = structlog.get_logger(__name__)
_log = logging.getLogger(__name__)

ANSWERS = 2.0
"""Seconds that commands under way have for their answer when the daemon stops."""


class Requests:
    """One for all doors of messages; each request is answered exactly once, by its peer."""

    def __init__(
        self,
        *,
        settings: WebSettings,
        tokens: Tokens,
        subscriptions: Subscriptions,
        dispatcher: Dispatcher,
        supervisor: Supervisor,
    ) -> None:
        """Carry out with these."""
        self._settings = settings
        self._tokens = tokens
        self._subscriptions = subscriptions
        self._dispatcher = dispatcher
        self._supervisor = supervisor
        self._under_way: set[asyncio.Task[None]] = set()
        self._inline: dict[str, Callable[[Peer, Caller, Request], None]] = {
            "subscribe": subscriptions.subscribe,
            "unsubscribe": subscriptions.unsubscribe,
            "ping": self._ping,
            "auth": self._renew,
        }

    @property
    def under_way(self) -> int:
        """Give how many commands have no answer yet."""
        return len(self._under_way)

    def take(self, peer: Peer, text: str | bytes) -> None:
        """Carry out one message of a peer that is authenticated; its door has bound its id."""
        try:
            request = parse(text)
        except BadMessage as error:
            peer.over_rate()
            peer.strike(error)
            return
        except Refused as refused:
            peer.over_rate()
            peer.refuse(refused.error, id_=refused.id)
            return
        if _log.isEnabledFor(logging.DEBUG):  # asked first: it is a key at a terminal, mostly
            log.debug(
                "message",
                type=request.type if self._knows(request.type) else "unknown",  # it may be anything
                channel=request.channel,
                size=len(text),
            )
        if peer.over_rate(self._dispatcher.cost(request.type)):
            limit = self._settings.messages_per_second
            refusal = RateLimited(f"more than {limit} messages a second; slow down")
            peer.refuse(refusal, channel=request.answer_channel, id_=request.id)
            if peer.flooding:
                peer.close(CloseCode.RATE_LIMIT, "rate limit")
            return
        try:
            self._carry_out(peer, request)
        except Exception as error:  # noqa: BLE001  # the border: a failure becomes an answer
            self._refuse(peer, request, error)

    async def finish(self) -> None:
        """Give the commands under way a moment for their answers: the daemon is about to end."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=ANSWERS)

    @staticmethod
    def authenticated(peer: Peer, request: Request, caller: Caller) -> None:
        """Answer `auth`."""
        answer = Authenticated(user_id=caller.sub, expires_at=caller.expires_at)
        peer.send(answer, channel=request.answer_channel, id_=request.id)

    def _knows(self, type_: str) -> bool:
        return type_ in self._inline or self._dispatcher.knows(type_)

    def _carry_out(self, peer: Peer, request: Request) -> None:
        caller = cast(Caller, peer.caller)
        inline = self._inline.get(request.type)
        if inline is not None:
            inline(peer, caller, request)
            return
        if peer.commands >= self._settings.max_commands:
            raise RateLimited(f"{peer.commands} commands are under way; wait for an answer")
        answered = self._dispatcher.call(request.type, request.data, caller)
        if isinstance(answered, msgspec.Struct):
            self._answer(peer, request, answered)
            return
        peer.commands += 1
        later = self._later(peer, request, answered)
        command = self._supervisor.start(later, name=f"command:{request.type}")
        self._under_way.add(command)
        command.add_done_callback(self._under_way.discard)
        if self._dispatcher.looks(request.type):  # nobody else needs its answer
            peer.looks.add(command)
            command.add_done_callback(peer.looks.discard)

    async def _later(
        self, peer: Peer, request: Request, answered: Awaitable[msgspec.Struct]
    ) -> None:
        try:
            self._answer(peer, request, await answered)
        except asyncio.CancelledError:
            self._refuse(peer, request, Unavailable("the daemon stops"))
            raise
        except Exception as error:  # noqa: BLE001  # the border of a command
            self._refuse(peer, request, error)
        finally:
            peer.commands -= 1

    def _answer(self, peer: Peer, request: Request, data: msgspec.Struct) -> None:
        if not request.id and self._dispatcher.silent(request.type):
            return
        encoded = frames.encode(data)
        peer.answer(f"{request.type}.ok", encoded, channel=request.answer_channel, id_=request.id)

    @staticmethod
    def _refuse(peer: Peer, request: Request, error: Exception) -> None:
        refusal = as_agentcmd_error(error, where=request.type)
        peer.refuse(refusal, channel=request.answer_channel, id_=request.id)

    @staticmethod
    def _ping(peer: Peer, _: Caller, request: Request) -> None:
        peer.answer("global.pong", request.data, channel=request.answer_channel, id_=request.id)

    def _renew(self, peer: Peer, caller: Caller, request: Request) -> None:
        fresh = self._tokens.verify(request.decode(Authenticate).token)
        if fresh.sub != caller.sub:
            raise Unauthorized("the fresh token is another user's; open a connection of its own")
        peer.admit(fresh)
        peer.on_renewal(fresh)
        self.authenticated(peer, request, fresh)
        self._subscriptions.narrow(peer, fresh)
