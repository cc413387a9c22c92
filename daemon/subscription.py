"""What a client follows: one channel, where it stands in it, and what waits for its consumer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from daemon.core.channels import is_pattern
from daemon.core.errors import AgentcmdError

QUEUED = 2000
"""Messages that wait for a consumer before its subscription is paused; a pattern's, which cannot
be resumed, are dropped."""

QUEUED_BYTES = 8 << 20
"""The same for output; twice what a daemon sends ahead to one that says what it has shown."""

OVERHEAD = 128
"""Bytes that a piece costs besides its data."""

JOINED_BYTES = 64 << 10
"""Bytes of output beyond which no more of what waits is handed out at a time."""


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


@dataclass(frozen=True, slots=True)
class Output:
    """Output of a terminal, from the byte `at` on.

    Where it is `fresh` the data is a reset (ESC c) and the modes in which the output goes on that
    comes next, and no output itself: so begins who has seen nothing yet, or has missed something.
    """

    channel: str
    at: int
    data: bytes
    fresh: bool = False

    @property
    def end(self) -> int:
        """Give the byte after its last one."""
        return self.at + len(self.data)


@dataclass(eq=False)
class Subscription:
    """One followed channel: where it stands, and what waits for its consumer."""

    channel: str
    since: int | None
    epoch: str | None = None
    live: bool = False
    paused: bool = False
    dropping: bool = False
    queue: deque[Message | Output] = field(default_factory=deque)
    filled: asyncio.Event = field(default_factory=asyncio.Event)
    error: AgentcmdError | None = None

    def request(self) -> dict[str, Any]:
        """Give the data of the message that asks for what comes next."""
        self.live = self.paused = False
        if is_pattern(self.channel):
            return {}
        asked = {"since": self.since, "epoch": self.epoch}
        return {name: value for name, value in asked.items() if value is not None}

    def stand(self, told: Mapping[str, Any]) -> bool:
        """Take the answer; True where something was missed.

        What comes from here on follows `since`, and is no older answer. Of a pattern nothing is
        replayed: one that stood before may have missed something.
        """
        if is_pattern(self.channel):
            stood, self.epoch = self.epoch is not None, told["epoch"]
            return stood
        self.live = True
        self._go_on(told)
        self.epoch = told["epoch"]
        return not told["recovered"]

    def _go_on(self, told: Mapping[str, Any]) -> None:
        """Stand where the answer says."""
        if not told["recovered"] or self.since is None:
            self.since = told["offset"]

    def put(self, message: Message) -> None:
        """Queue a message for the consumer."""
        self.since = message.offset
        self._queue(message)

    def put_live(self, message: Message) -> bool:
        """Queue a message that cannot be had again; False when it is the first that is lost."""
        if not self.full:
            self.dropping = False
            self._queue(message)
            return True
        dropping, self.dropping = self.dropping, True
        return dropping

    def take(self) -> Message | Output:
        """Give what comes next of what waits."""
        return self.queue.popleft()

    @property
    def full(self) -> bool:
        """Tell whether too much waits."""
        return len(self.queue) >= QUEUED

    @property
    def low(self) -> bool:
        """Tell whether little enough waits to ask for more."""
        return len(self.queue) < QUEUED // 4

    def _queue(self, piece: Message | Output) -> None:
        self.queue.append(piece)
        self.filled.set()


@dataclass(eq=False)
class OutputSubscription(Subscription):
    """A followed terminal: `since` counts bytes of its output; None: its screen comes first."""

    seen: int = 0
    """The offset of the last event that is no output: these are told again rather than never."""

    begins: bool = False
    """Whether a reset comes next."""

    size: int = 0
    """Bytes that wait, with what they cost."""

    def request(self) -> dict[str, Any]:
        """Give the data of the message that asks for what comes next."""
        return {"encoding": "binary", **super().request()}

    def _go_on(self, told: Mapping[str, Any]) -> None:
        if self.epoch not in (None, told["epoch"]):
            self.seen = 0
        afresh = self.since is None or not told["recovered"] or self.since < told["oldest"]
        # Where nothing was written yet there is nothing to begin with.
        self.begins = afresh and told["oldest"] < told["offset"]
        if afresh:
            self.since = None if self.begins else told["offset"]

    def put(self, message: Message) -> None:
        """Queue an event that was not told before."""
        if message.offset is not None and message.offset > self.seen:
            self.seen = message.offset
            self.size += len(message.raw) + OVERHEAD
            self._queue(message)

    def put_output(self, at: int, data: bytes) -> None:
        """Queue output, as far as it was not told before."""
        fresh, self.begins = self.begins, False
        if not fresh:
            told = 0 if self.since is None else max(0, self.since - at)
            at, data = at + told, data[told:]
            if not data:
                return
            self.since = at + len(data)
        self.size += len(data) + OVERHEAD
        self._queue(Output(self.channel, at, data, fresh))

    def take(self) -> Message | Output:
        """Give what comes next; output that waits is joined."""
        piece = self.queue.popleft()
        if isinstance(piece, Message):
            self.size -= len(piece.raw) + OVERHEAD
            return piece
        self.size -= len(piece.data) + OVERHEAD
        parts, joined = [piece.data], len(piece.data)
        while not piece.fresh and self.queue and joined < JOINED_BYTES:
            following = self.queue[0]
            if isinstance(following, Message) or following.fresh:
                break
            self.queue.popleft()
            parts.append(following.data)
            joined += len(following.data)
            self.size -= len(following.data) + OVERHEAD
        return Output(self.channel, piece.at, b"".join(parts), piece.fresh)

    @property
    def full(self) -> bool:
        """Tell whether too much waits."""
        return self.size >= QUEUED_BYTES

    @property
    def low(self) -> bool:
        """Tell whether little enough waits to ask for more."""
        return self.size < QUEUED_BYTES // 4
