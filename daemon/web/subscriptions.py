"""What a connection follows: `subscribe` and `unsubscribe`, with their rules and their answers."""

from __future__ import annotations

from daemon.core.channels import is_pattern, parse_channel
from daemon.core.commands import Caller
from daemon.core.errors import AgentcmdError, BadRequest, NotFound, RateLimited
from daemon.core.fanout import Fanout
from daemon.core.journal import Journal
from daemon.web.messages import (
    Request,
    Subscribe,
    SubscriptionError,
    SubscriptionSuccess,
    Unsubscribed,
)
from daemon.web.peer import Peer


class Subscriptions:
    """Begins and ends subscriptions, as far as a token and the limit of a connection allow."""

    def __init__(self, journal: Journal, fanout: Fanout, *, limit: int) -> None:
        """Find channels in the journal; allow `limit` subscriptions a connection."""
        self._journal = journal
        self._fanout = fanout
        self._limit = limit

    def subscribe(self, peer: Peer, caller: Caller, request: Request) -> None:
        """Answer `subscribe`, once for each channel that it names."""
        try:
            data, names = self._addressed(request)
        except BadRequest as error:
            if request.channel is None:
                raise
            refusal = SubscriptionError(
                channel=request.channel, code=error.code, message=error.message
            )
            peer.send(refusal, channel=request.channel, id_=request.id)
            return
        for name in names:
            try:
                answer = self._one(peer, caller, name, data)
            except AgentcmdError as error:
                refusal = SubscriptionError(channel=name, code=error.code, message=error.message)
                peer.send(refusal, channel=name, id_=request.id)
            else:
                peer.send(answer, channel=name, id_=request.id)

    def _one(self, peer: Peer, caller: Caller, name: str, data: Subscribe) -> SubscriptionSuccess:
        parse_channel(name)
        caller.require("read", name)
        if data.since is not None and data.since < 0:
            raise BadRequest("since is an offset: 0 for all that is kept, or the last one seen")
        if data.encoding == "binary" and (is_pattern(name) or not peer.takes_binary):
            raise BadRequest("binary output is for one terminal's channel, on /ws")
        where = None if is_pattern(name) else self._journal.get(name)
        known = name in peer.patterns or where in peer.channels
        if not known and len(peer.channels) + len(peer.patterns) >= self._limit:
            raise RateLimited(f"a connection has {self._limit} subscriptions at most")
        if is_pattern(name):
            self._fanout.follow_pattern(peer, name)
            return SubscriptionSuccess(
                channel=name, epoch="", offset=0, oldest=0, recovered=data.since is None
            )
        if where is None:
            raise NotFound(f"there is no channel {name}")
        told = self._fanout.subscribe(
            peer,
            where,
            since=data.since,
            epoch=data.epoch,
            binary=data.encoding == "binary",
        )
        return SubscriptionSuccess.of(told)

    def unsubscribe(self, peer: Peer, _: Caller, request: Request) -> None:
        """Answer `unsubscribe`, likewise."""
        for name in self._addressed(request)[1]:
            self._drop(peer, name)
            peer.send(Unsubscribed(channel=name), channel=name, id_=request.id)

    def _drop(self, peer: Peer, name: str) -> None:
        if is_pattern(name):
            self._fanout.unfollow_pattern(peer, name)
        elif (where := self._journal.get(name)) is not None:
            self._fanout.unsubscribe(peer, where)

    def _addressed(self, request: Request) -> tuple[Subscribe, list[str]]:
        data: Subscribe = request.decode(Subscribe)
        names = data.channels if data.channels is not None else [request.channel or ""]
        if names in ([], [""]):
            raise BadRequest(f"{request.type} needs a channel, or data.channels with one at least")
        if len(names) > self._limit:  # each has an answer, all in one turn
            raise BadRequest(f"{request.type} takes {self._limit} channels at a time")
        return data, names

    def narrow(self, peer: Peer, caller: Caller) -> None:
        """End what a renewed token no longer reaches, and say so."""
        for name in [*(where.name for where in peer.channels), *peer.patterns]:
            if not caller.may("read", name):
                self._drop(peer, name)
                why = "the fresh token does not reach this channel"
                peer.send(
                    SubscriptionError(channel=name, code="forbidden", message=why), channel=name
                )
