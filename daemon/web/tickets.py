"""Tickets: a token's stand-in for one request, for where a token would have to stand in a URL."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import msgspec

from daemon.core.commands import Caller
from daemon.core.errors import BadRequest, RateLimited, Unauthorized
from daemon.core.events import Answer

LIFETIME = 30.0
"""Seconds in which a ticket must be used."""

MAX_TICKETS = 1000
"""Tickets that may wait for their use; each is a few hundred bytes."""

MAX_PATH = 2048


class TicketRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a ticket is asked for: `path` is that of the one URL it will open, without a query."""

    path: str


class TicketIssued(Answer):
    """A ticket for `?ticket=`, good for one request to `path` until `expires_at` (Unix seconds)."""

    ticket: str
    path: str
    expires_at: float


class Tickets:
    """Hands out tickets, and takes each back once. They are in memory: a restart ends them."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Count their time with `clock`, in Unix seconds."""
        self._clock = clock
        self._waiting: dict[str, tuple[Caller, TicketIssued]] = {}

    def issue(self, caller: Caller, path: str) -> TicketIssued:
        """Make a ticket that lets this caller in at one path, with what its token grants.

        BadRequest where the path is none; RateLimited while too many wait for their use.
        """
        if not path.startswith("/") or "?" in path or "#" in path or len(path) > MAX_PATH:
            raise BadRequest("path is that of the URL to open, without a query, as in /ws")
        self._forget()
        if len(self._waiting) >= MAX_TICKETS:
            raise RateLimited(f"{MAX_TICKETS} tickets wait for their use; try again later")
        expires_at = min(self._clock() + LIFETIME, caller.expires_at)
        issued = TicketIssued(
            ticket=secrets.token_urlsafe(24), path=path, expires_at=round(expires_at, 3)
        )
        self._waiting[issued.ticket] = (caller, issued)
        return issued

    def redeem(self, ticket: str, path: str) -> Caller:
        """Take a ticket for a path; Unauthorized when it is not good there and now."""
        caller, issued = self._waiting.pop(ticket, (None, None))
        if caller is None or issued is None or issued.expires_at <= self._clock():
            raise Unauthorized("the ticket is unknown, used or expired: POST /api/tickets for one")
        if issued.path != path:
            raise Unauthorized("the ticket is for another path, and is now used")
        return caller

    def _forget(self) -> None:
        """Drop what has expired; the oldest come first, as all live equally long at the most."""
        now = self._clock()
        for ticket, (_, issued) in list(self._waiting.items()):
            if issued.expires_at <= now:
                del self._waiting[ticket]
