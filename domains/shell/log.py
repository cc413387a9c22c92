"""A terminal's channel: its events, and its output as bytes with offsets of their own.

Output is kept as it came and encoded for those who read it: as `shell.output` events, or as binary
frames. A viewer that attaches afresh, or has fallen too far behind, begins at a safe place of what
is kept: after a reset, with the modes of that place, and with the program's queries and acts
blanked.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from daemon.core import frames
from daemon.core.channel_log import Batch, ChannelLog, FramedBatch, Subscribed
from daemon.core.errors import Conflict
from daemon.core.fanout import Subscriber
from domains.shell.cut import safe_start
from domains.shell.events import ShellOutput
from domains.shell.modes import Tracker
from domains.shell.modes_kept import Modes
from domains.shell.queries import REACH, silenced

RESET = b"\x1bc"
"""RIS: what every terminal begins from (ECMA-48 and DEC STD 070)."""

RESYNC_BYTES = 128 << 10
"""What one that has fallen too far behind gets of the past: a screen, and some way back."""

QUIET_PAGE = 32 << 10
"""What is read at a time while queries are blanked: a turn of the loop is to be short."""

OVERHEAD = 128
"""Bytes that a chunk costs besides its data, so that a ring of single keys is bounded, too."""

OUTPUT = ShellOutput.__event__.name


class Chunk:
    """A piece of output: one event, not yet encoded."""

    __slots__ = ("at", "data", "modes", "offset", "ts")

    def __init__(self, at: int, data: bytes, modes: Modes, offset: int) -> None:
        """Begin at byte `at`, in these modes, as the event of this offset."""
        self.at = at
        self.data = data
        self.modes = modes
        self.offset = offset
        self.ts = time.time()

    def __len__(self) -> int:
        """Count what it costs to keep."""
        return len(self.data) + len(self.modes.pending) + OVERHEAD


@dataclass(slots=True)
class View:
    """How one subscriber sees the terminal, and what is special until it has caught up."""

    id: str
    binary: bool
    past: int = 0
    """How many bytes had been written when it came."""
    start: int = 0
    """The first byte that it gets."""
    prefix: bytes = b""
    """What it is told before that byte; takes the place of bytes that it does not get."""
    quiet: int = 0
    """The byte before which queries and acts are blanked."""


class TerminalBatch:
    """Output as all get it that keep up, encoded once for each form that somebody takes."""

    __slots__ = ("_binary", "_frames", "_joined", "_upto", "first", "log")

    def __init__(self, where: TerminalLog, after: int, upto: int) -> None:
        """Hold the events after an offset."""
        self.log = where
        self.first = after + 1
        self._upto = upto
        self._frames: list[bytes] | None = None
        self._joined: bytes | None = None
        self._binary: bytes | None = None

    @property
    def frames(self) -> list[bytes]:
        """Give the events as text frames."""
        if self._frames is None:
            self._frames = self.log.ring(self.first - 1, self._upto)
        return self._frames

    def __len__(self) -> int:
        """Count the events."""
        return self._upto - self.first + 1

    def joined_for(self, who: object) -> bytes:
        """Give the frames in the form that this subscriber takes."""
        view = self.log.views.get(who)
        if view is None or not view.binary:
            if self._joined is None:
                self._joined = b"".join(self.frames)
            return self._joined
        if self._binary is None:
            self._binary = self.log.binary(self.first - 1, self._upto)
        return self._binary


class TerminalLog(ChannelLog):
    """The log of one terminal.

    `gone` is told the id of each viewer that leaves; `redraw` asks the program to draw its screen.
    """

    __slots__ = ("_channel", "_gone", "_limit", "_redraw", "_terminal", "size", "views")

    def __init__(
        self,
        terminal_id: str,
        *,
        ring_bytes: int,
        gone: Callable[[str], None],
        redraw: Callable[[], None],
    ) -> None:
        """Begin empty, and keep about `ring_bytes`."""
        super().__init__(0, f"shell:terminal:{terminal_id}", secrets.token_hex(8), 0, 1)
        self.size = 0
        self.views: dict[object, View] = {}
        self._channel = self.name.encode()
        self._terminal = terminal_id
        self._limit = ring_bytes
        self._gone = gone
        self._redraw = redraw

    def write(self, data: bytes, modes: Modes) -> None:
        """Append output; `modes` are those in which it begins."""
        self.head += 1
        chunk = Chunk(self.size, data, modes, self.head)
        self.size += len(data)
        self.frames.append(chunk)
        self.ring_bytes += len(chunk)

    def screen(self) -> bytes:
        """Give what a terminal that knows nothing is shown to look as this one does."""
        view = View("", binary=True)
        after = self._afresh(view, max(self.base, self._back(RESYNC_BYTES)))
        kept = [each for each in self.frames[after - self.base :] if isinstance(each, Chunk)]
        data = b"".join(each.data for each in kept)
        start = view.start - kept[0].at if kept else 0
        return view.prefix + silenced(b"", data[start:], b"")

    def trim(self) -> None:
        """Keep the ring within its budget, in larger steps: a list is cut in front."""
        if self.ring_bytes > self._limit + self._limit // 8:
            self.drop(self._limit)

    @property
    def oldest_byte(self) -> int:
        """Give the first byte of output that is kept."""
        return next((each.at for each in self.frames if isinstance(each, Chunk)), self.size)

    @property
    def read_out(self) -> bool:
        """Whether everything has been handed to everyone who follows."""
        behind = any(self in who.behind for who in self.views if isinstance(who, Subscriber))
        return self.flushed == self.head and not behind

    # Forms

    def ring(self, after: int, upto: int) -> list[bytes]:
        """Give the events as text frames."""
        return [
            self._text(each) if isinstance(each, Chunk) else each
            for each in self.frames[after - self.base : upto - self.base]
        ]

    def binary(self, after: int, upto: int) -> bytes:
        """Give output as binary frames, and the other events as text frames, in order."""
        return b"".join(
            [
                frames.output_frame(self._channel, each.at, each.data)
                if isinstance(each, Chunk)
                else each
                for each in self.frames[after - self.base : upto - self.base]
            ]
        )

    def batch(self, after: int, upto: int) -> Batch:
        """Give events of the ring to all that keep up."""
        return TerminalBatch(self, after, upto)

    def page(self, who: object, after: int, limit: int) -> Batch:
        """Give events to one who is behind, as it is to see them."""
        upto = self.page_end(after, limit)
        view = self.views.get(who)
        if view is None or not (view.start or view.prefix or view.quiet):
            return TerminalBatch(self, after, upto)
        upto = min(upto, self.page_end(after, QUIET_PAGE))
        places = range(after - self.base, upto - self.base)
        silent = self._silent(view, places)
        told = [
            self._shown(view, self.frames[place], silent.get(place))
            if isinstance(self.frames[place], Chunk)
            else self.frames[place]
            for place in places
        ]
        return FramedBatch(self, after + 1, told)

    def _silent(self, view: View, places: range) -> dict[int, bytes]:
        """Return the output at these places without acts, where the viewer is to get none."""
        chunks = [
            (place, self.frames[place].data)
            for place in places
            if isinstance(self.frames[place], Chunk) and self.frames[place].at < view.quiet
        ]
        if not chunks:
            view.quiet = 0
            return {}
        before = self.frames[chunks[0][0]].modes.pending
        after = b"".join(self._near(range(places.stop, len(self.frames))))[:REACH]
        data = silenced(before, b"".join(data for _, data in chunks), after)
        found, at = {}, 0
        for place, chunk in chunks:
            found[place] = data[at : at + len(chunk)]
            at += len(chunk)
        return found

    def _shown(self, view: View, chunk: Chunk, silent: bytes | None) -> bytes:
        """Encode one chunk for a viewer that has not caught up."""
        at, data = chunk.at, chunk.data if silent is None else silent
        if at < view.start:
            data = data[view.start - at :]
            at = view.start
        prefix, view.prefix, view.start = view.prefix, b"", 0
        begin = max(0, at - len(prefix)) if prefix else at
        if not view.binary:
            return self._text(chunk, begin, prefix + data)
        framed = frames.output_frame(self._channel, at, data)
        return frames.output_frame(self._channel, begin, prefix) + framed if prefix else framed

    def _text(self, chunk: Chunk, at: int | None = None, data: bytes | None = None) -> bytes:
        told = ShellOutput(
            terminal_id=self._terminal,
            data=(chunk.data if data is None else data).decode(errors="replace"),
            byte_offset=chunk.at if at is None else at,
        )
        encoded = frames.encode(told)
        return frames.frame(frames.body(self.head_of(OUTPUT), encoded, chunk.offset, chunk.ts))

    def _near(self, places: range) -> list[bytes]:
        """Give the output at these places in their order, as far as a query may reach."""
        found: list[bytes] = []
        size = 0
        for place in places:
            entry = self.frames[place]
            if isinstance(entry, Chunk):
                found.append(entry.data)
                size += len(entry.data)
                if size >= REACH:
                    break
        return found

    # Subscribers

    def stand(
        self, who: object, *, since: int | None, epoch: str | None, binary: bool
    ) -> tuple[int, bool]:
        """Choose where a viewer begins; one of bytes without `since` gets the screen, too."""
        view = View(_id_of(who), binary, past=self.size)
        if not binary:
            place, recovered = super().stand(who, since=since, epoch=epoch, binary=False)
        else:
            place, recovered = self._stand_in_bytes(view, since, epoch)
            if view.prefix:
                self._complete(who, view)
        self.views[who] = view
        return place, recovered

    def _stand_in_bytes(self, view: View, since: int | None, epoch: str | None) -> tuple[int, bool]:
        if since == 0:
            return (self.base if self.oldest_byte == 0 else self._afresh(view, self.base)), True
        same = epoch in (None, self.epoch)
        if since is None or not same:
            return self._afresh(view, self.base), same
        if not self.oldest_byte <= since <= self._flushed_size():
            return self._afresh(view, self.base), False
        # After the last event that ends there; what is no output comes once more rather than never.
        place = self.base
        for entry in self.frames:
            if isinstance(entry, Chunk):
                if entry.at >= since:
                    break
                if entry.at + len(entry.data) > since:
                    view.start = since
                    break
                place = entry.offset
        return min(place, self.flushed), True

    def _afresh(self, view: View, after: int) -> int:
        """Have a viewer begin after an offset, as a terminal that knows nothing."""
        first = next(
            (
                place
                for place in range(after - self.base, self.flushed - self.base)
                if isinstance(self.frames[place], Chunk)
            ),
            None,
        )
        if first is None:  # no output yet, or none that is kept; and maybe an end
            if self.size > 0:
                view.prefix, view.start = RESET, self.size
            return after
        chunk: Chunk = self.frames[first]
        begun = chunk.modes.pending
        cut = safe_start(begun + chunk.data, len(begun)) - len(begun) if chunk.at > 0 else 0
        tracker = Tracker(chunk.modes)
        tracker.feed(chunk.data[:cut])
        view.start = chunk.at + cut
        view.prefix = RESET + silenced(b"", tracker.modes.restore(), b"")
        view.quiet = self._flushed_size()
        return chunk.offset - 1

    def _complete(self, who: object, view: View) -> None:
        """Have the rest of a screen drawn whose beginning this viewer does not get."""
        if view.start > 0 and isinstance(who, Subscriber) and who.may_write(self.name):
            self._redraw()

    def again(
        self, who: object, started: int, *, since: int | None, epoch: str | None, binary: bool
    ) -> bool:
        """Tell one who subscribes once more, in the same form, whether it misses nothing."""
        view = self.views.get(who)
        if view is not None and view.binary is not binary:
            raise Conflict(f"{self.name} is followed in another encoding; unsubscribe first")
        if not binary:
            return super().again(who, started, since=since, epoch=epoch, binary=binary)
        return since is None and epoch in (None, self.epoch)

    def told(self, who: object, *, recovered: bool, after: int | None = None) -> Subscribed:
        """Say where the log stands, or goes on, in the unit in which the viewer counts."""
        view = self.views.get(who)
        if view is None or not view.binary:
            return super().told(who, recovered=recovered, after=after)
        at = self._flushed_size() if after is None else view.start
        return Subscribed(self.name, self.epoch, at, self.oldest_byte, recovered)

    def resync(self, who: object) -> int | None:
        """Have one go on near the end, because what should come next is gone."""
        after = self._back(RESYNC_BYTES)
        view = self.views.get(who)
        if view is None:
            return after
        after = self._afresh(view, after)
        self._complete(who, view)
        return after

    def _back(self, size: int) -> int:
        """Give the offset after which the newest events have about so many bytes."""
        after = self.flushed
        while after > self.base and size > 0:
            after -= 1
            size -= len(self.frames[after - self.base])
        return after

    def left(self, who: object) -> None:
        """Forget a viewer."""
        view = self.views.pop(who, None)
        if view is not None:
            self._gone(view.id)

    def _flushed_size(self) -> int:
        """Give the bytes of output that have been delivered."""
        for entry in self.frames[self.flushed - self.base :]:
            if isinstance(entry, Chunk):
                return entry.at
        return self.size


def _id_of(who: object) -> str:
    return who.id if isinstance(who, Subscriber) else ""
