"""What a client follows: one channel, where it stands in it, and what waits for its consumer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from daemon.core.errors import AgentcmdError


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a channel; `raw` is the text that came over the wire."""

    channel: str
    type: str
    data: dict[str, Any]
    offset: int | None
    ts: float | None
    raw: str

    @classmethod
    def of(cls, fields: Mapping[str, Any], raw: str) -> Self:
        """Make a message of an event's wire form."""
        return cls(
            fields["channel"], fields["type"], fields["data"], fields["offset"], fields["ts"], raw
        )


@dataclass(eq=False)
class Subscription:
    """One followed channel: where it stands, and what waits for its consumer."""

    channel: str
    since: int | None
    epoch: str | None = None
    live: bool = False
    paused: bool = False
    dropping: bool = False
    queue: deque[Message] = field(default_factory=deque)
    filled: asyncio.Event = field(default_factory=asyncio.Event)
    error: AgentcmdError | None = None

    def put(self, message: Message) -> None:
        """Queue a message for the consumer."""
        self.queue.append(message)
        self.filled.set()
