"""One channel's log: where it stands, its newest frames, and how a subscriber begins in it."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from daemon.core import frames
from daemon.core.errors import BadRequest


class Subscribed(msgspec.Struct, frozen=True):
    """The answer to a subscription: where the log stands, and whether nothing was missed."""

    channel: str
    epoch: str
    offset: int
    oldest: int
    recovered: bool


class Batch(Protocol):
    """Some events of one channel in a row, from the offset `first` on."""

    @property
    def log(self) -> ChannelLog:
        """Give the log that they are of."""

    @property
    def first(self) -> int:
        """Give the offset of the first."""

    @property
    def frames(self) -> list[bytes]:
        """Give them as text frames."""

    def __len__(self) -> int:
        """Count them."""

    def joined_for(self, who: object) -> bytes:
        """Give all frames in the form that a subscriber takes: the same object to all of a form."""


class FramedBatch:
    """Events that are frames already, joined once for all."""

    __slots__ = ("first", "frames", "joined", "log")

    def __init__(self, where: ChannelLog, first: int, framed: list[bytes]) -> None:
        """Hold the frames of the offsets from `first` on, and join them once for all."""
        self.log = where
        self.first = first
        self.frames = framed
        self.joined = b"".join(framed)

    def __len__(self) -> int:
        """Count the events."""
        return len(self.frames)

    def joined_for(self, who: object) -> bytes:  # noqa: ARG002  # for logs with another form
        """Give the frames as this subscriber takes them."""
        return self.joined


class ChannelLog:
    """One channel: where it stands, and its newest frames.

    The ring holds the frames of the offsets `base + 1 .. head`; those up to `committed` may be
    delivered, those up to `flushed` have been, to every subscriber that keeps up. A domain whose
    output has another form as well brings a log of its own (`Journal.adopt`).
    """

    __slots__ = (
        "_heads",
        "adopted",
        "base",
        "committed",
        "durable",
        "epoch",
        "flushed",
        "followers",
        "frames",
        "head",
        "id",
        "name",
        "oldest_on_disk",
        "ring_bytes",
    )

    def __init__(self, id_: int, name: str, epoch: str, head: int, oldest: int) -> None:
        """Stand where the disk stands; `id_` 0 is an ephemeral log."""
        self.id = id_
        self.name = name
        self.epoch = epoch
        self.durable = id_ > 0
        self.adopted = False
        self.head = self.committed = self.flushed = self.base = head
        self.oldest_on_disk = oldest
        self.frames: list[Any] = []
        self.ring_bytes = 0
        self.followers: set[Any] = set()
        self._heads: dict[str, bytes] = {}

    @property
    def oldest(self) -> int:
        """Give the first offset that is still kept anywhere."""
        return self.oldest_on_disk if self.durable else self.base + 1

    def head_of(self, type_: str) -> bytes:
        """Give the encoded beginning of this channel's events of one type."""
        found = self._heads.get(type_)
        if found is None:
            found = self._heads[type_] = frames.head_of(self.name, type_)
        return found

    # The ring

    def ring(self, after: int, upto: int) -> list[bytes]:
        """Give the frames after an offset; the caller has seen that `after >= base`."""
        return self.frames[after - self.base : upto - self.base]

    def page_end(self, after: int, limit: int) -> int:
        """Give the offset up to which delivered frames after another have about `limit` bytes."""
        end, size = after, 0
        while end < self.flushed and size < limit:
            size += len(self.frames[end - self.base])
            end += 1
        return end

    def drop(self, size: int) -> int:
        """Drop delivered frames from the ring until it fits `size`; gives the bytes dropped."""
        dropped = count = 0
        for framed in self.frames[: self.flushed - self.base]:
            if self.ring_bytes - dropped <= size:
                break
            dropped += len(framed)
            count += 1
        del self.frames[:count]
        self.base += count
        self.ring_bytes -= dropped
        return dropped

    def trim(self) -> None:
        """Keep an adopted log within its own budget."""

    # Delivery

    def batch(self, after: int, upto: int) -> Batch:
        """Give frames of the ring as all get them that keep up."""
        return FramedBatch(self, after + 1, self.ring(after, upto))

    def page(self, who: object, after: int, limit: int) -> Batch:  # noqa: ARG002
        """Give delivered frames of the ring to one who is behind, about `limit` bytes."""
        return self.batch(after, self.page_end(after, limit))

    # Subscribers

    def stand(
        self, who: object, *, since: int | None, epoch: str | None, binary: bool
    ) -> tuple[int, bool]:
        """Choose where a new subscription begins, and whether that misses nothing."""
        del who
        if binary:
            raise BadRequest(f"{self.name} has no binary form; leave encoding out")
        live = self.flushed
        if since == 0:
            return min(self.oldest - 1, live), True
        if epoch is not None and epoch != self.epoch:
            return live, False
        if since is None:
            return live, True
        if since < self.oldest - 1 or since > live:
            return live, False
        return since, True

    def again(
        self, who: object, started: int, *, since: int | None, epoch: str | None, binary: bool
    ) -> bool:
        """Tell one who follows since `started` and asks once more whether it misses nothing."""
        del who, binary
        return (since is None or since >= started) and epoch in (None, self.epoch)

    def told(self, who: object, *, recovered: bool, after: int | None = None) -> Subscribed:
        """Say to a subscriber where the log stands, or after which offset it goes on."""
        del who
        offset = self.flushed if after is None else after
        return Subscribed(self.name, self.epoch, offset, self.oldest, recovered)

    def resync(self, who: object) -> int | None:  # noqa: ARG002
        """Choose where one goes on whose next frames are gone; None: it cannot."""
        return None

    def left(self, who: object) -> None:
        """Learn that somebody no longer follows."""
