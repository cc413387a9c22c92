"""A terminal's log: exactly the missing bytes, or a reset and a safe tail, for every viewer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import split_frames

from daemon.core import frames
from daemon.core.errors import Conflict
from daemon.core.fanout import Subscriber
from domains.shell.log import RESYNC_BYTES, Chunk, TerminalLog
from domains.shell.modes import Tracker
from domains.shell.modes_kept import Modes


class Viewer(Subscriber):
    def __init__(self, *, writes=True):
        super().__init__()
        self.writes = writes

    def may_write(self, channel):  # noqa: ARG002
        return self.writes

    def has_room(self):
        return True

    def take(self, batch):
        pass

    def push(self):
        pass

    async def room(self):
        return True

    def overtaken(self, where):
        pass


class Terminal:
    """A log and what was written to it."""

    def __init__(self, ring_bytes=1 << 20):
        self.left, self.redrawn = [], 0
        self.log = TerminalLog(
            "t", ring_bytes=ring_bytes, gone=self.left.append, redraw=self._redraw
        )
        self.stream = b""
        self.tracker = Tracker()

    def _redraw(self):
        self.redrawn += 1

    def write(self, data):
        self.log.write(data, self.tracker.modes)
        self.tracker.feed(data)
        self.stream += data
        self._deliver()

    def event(self):
        log = self.log
        log.head += 1
        told = frames.body(log.head_of("shell.title"), b"{}", log.head, 1.0)
        log.frames.append(frames.frame(told))
        log.ring_bytes += len(log.frames[-1])
        self._deliver()

    def _deliver(self):
        self.log.committed = self.log.flushed = self.log.head
        self.log.trim()

    def attach(self, *, since=None, binary=True, epoch=None, limit=100, writes=True):
        """Follow to the end; gives the answer, the pieces of output, and the other events."""
        viewer = Viewer(writes=writes)
        place, recovered = self.log.stand(viewer, since=since, epoch=epoch, binary=binary)
        told = self.log.told(viewer, recovered=recovered)
        return told, *self.read(viewer, place, limit)

    def read(self, viewer, place, limit=100):
        output, events = [], []
        while place < self.log.flushed:
            page = self.log.page(viewer, place, limit)
            for opcode, payload in split_frames(page.joined_for(viewer)):
                if opcode == 2:
                    channel, at, data = frames.read_output(payload)
                    assert channel == "shell:terminal:t"
                    output.append((at, data))
                else:
                    message = json.loads(payload)
                    events.append(message["offset"])
                    if message["type"] == "shell.output":
                        data = message["data"]
                        output.append((data["byteOffset"], data["data"].encode()))
            place += len(page)
        return output, events


writes = st.lists(st.one_of(st.none(), st.binary(min_size=1, max_size=40)), max_size=30)


@settings(max_examples=60)
@given(writes, st.data())
def test_bytes_since_a_place_are_exactly_those_that_are_missing(pieces, data):
    terminal = Terminal()
    for piece in pieces:
        terminal.event() if piece is None else terminal.write(piece)
    since = data.draw(st.integers(0, len(terminal.stream)))
    told, output, _ = terminal.attach(since=since, limit=data.draw(st.integers(1, 2000)))
    assert (told.recovered, told.offset, told.oldest) == (True, len(terminal.stream), 0)
    at = since
    for start, piece in output:
        assert start == at
        at += len(piece)
    assert b"".join(piece for _, piece in output) == terminal.stream[since:]


def test_an_event_at_the_place_of_a_viewer_is_told_rather_twice_than_never():
    terminal = Terminal()
    terminal.write(b"output")
    terminal.event()
    _, output, events = terminal.attach(since=6)
    assert (output, events) == ([], [2])


@settings(max_examples=40)
@given(st.lists(st.text("ab\n", min_size=1, max_size=60), min_size=30, max_size=60))
def test_a_fresh_viewer_begins_with_a_reset_at_a_line_of_what_is_kept(pieces):
    terminal = Terminal(ring_bytes=3000)
    for piece in pieces:
        terminal.write(piece.encode())
    told, output, _ = terminal.attach()
    assert told.recovered
    (at, prefix), *rest = output
    assert prefix.startswith(b"\x1bc")
    start = rest[0][0] if rest else len(terminal.stream)
    assert at == max(0, start - len(prefix))
    assert b"".join(piece for _, piece in rest) == terminal.stream[start:]
    assert terminal.redrawn == (start > 0)
    first = next(each for each in terminal.log.frames if isinstance(each, Chunk))
    if start > 0 and b"\n" in first.data:
        assert terminal.stream[start - 1 : start] == b"\n"


def test_the_modes_of_the_place_are_restored_and_queries_are_blanked():
    terminal = Terminal(ring_bytes=1000)
    terminal.write(b"\x1b[?1049h\x1b[?2004h" + b"x" * 2000 + b"\n")
    terminal.write(b"y" * 400 + b"\n\x1b[6n")
    terminal.write(b"\x1b[")
    terminal.write(b"0")
    terminal.write(b"c" + b"z" * 50)
    _, output, _ = terminal.attach()
    prefix = output[0][1]
    assert b"\x1b[?1049h" in prefix
    assert b"\x1b[?2004h" in prefix
    told = b"".join(piece for _, piece in output[1:])
    assert told.endswith(b"\0\0\0\0" + b"\0" * 4 + b"z" * 50)
    terminal.write(b"\x1b[6n")
    viewer = Viewer()
    terminal.log.stand(viewer, since=None, epoch=None, binary=True)
    place = terminal.log.flushed
    terminal.write(b"\x1b[5n")
    output, _ = terminal.read(viewer, place)
    assert output[-1][1] == b"\x1b[5n"  # what comes after the attachment is its to answer


def test_what_is_not_kept_any_more_or_not_yet_written_is_not_recovered():
    terminal = Terminal(ring_bytes=1000)
    for number in range(100):
        terminal.write(b"line %d\n" % number)
    oldest = terminal.log.oldest_byte
    assert oldest > 0
    for since, epoch, recovered in (
        (oldest, None, True),
        (oldest - 1, None, False),
        (len(terminal.stream) + 1, None, False),
        (0, None, True),
        (0, "other", True),
        (oldest, terminal.log.epoch, True),
        (oldest, "other", False),
        (None, "other", False),
    ):
        told, output, _ = terminal.attach(since=since, epoch=epoch)
        assert told.recovered is recovered, since
        assert (told.oldest, told.offset) == (oldest, len(terminal.stream))
        whole = b"".join(piece for _, piece in output)
        assert whole.endswith(b"line 99\n")
        assert whole.startswith(b"\x1bc") is (since != oldest or epoch == "other")


def test_one_that_falls_behind_goes_on_near_the_end_after_a_reset():
    for binary in (True, False):
        terminal = Terminal(ring_bytes=4 * RESYNC_BYTES)
        viewer = Viewer()
        terminal.log.stand(viewer, since=0, epoch=None, binary=binary)
        for number in range(80_000):
            terminal.write(b"line %d\n" % number)
        place = terminal.log.resync(viewer)
        output, events = terminal.read(viewer, place)
        assert events == list(range(place + 1, terminal.log.head + 1)) or binary
        whole = b"".join(piece for _, piece in output)
        assert whole.startswith(b"\x1bc")
        assert whole.endswith(b"line 79999\n")
        assert len(whole) < RESYNC_BYTES
        at = output[0][0]
        assert at + len(whole) == len(terminal.stream)


def test_text_has_an_offset_of_its_own_and_of_its_bytes():
    terminal = Terminal()
    terminal.write("é".encode())
    terminal.event()
    terminal.write(b"\xff!")
    told, output, events = terminal.attach(since=0, binary=False)
    assert (told.offset, events) == (3, [1, 2, 3])
    assert output == [(0, "é".encode()), (2, "\ufffd!".encode())]


def test_a_viewer_that_leaves_is_told_and_forgotten():
    terminal = Terminal()
    viewer = Viewer()
    terminal.log.stand(viewer, since=None, epoch=None, binary=True)
    terminal.log.left(viewer)
    terminal.log.left(viewer)
    assert (terminal.left, terminal.log.views) == ([viewer.id], {})


def test_a_batch_is_encoded_once_for_each_form():
    terminal = Terminal()
    text, binary, pattern = Viewer(), Viewer(), Viewer()
    terminal.log.stand(text, since=None, epoch=None, binary=False)
    terminal.log.stand(binary, since=None, epoch=None, binary=True)
    terminal.write(b"hello")
    batch = terminal.log.batch(0, 1)
    assert batch.joined_for(text) is batch.joined_for(pattern)
    assert batch.joined_for(binary) is batch.joined_for(binary)
    assert batch.joined_for(binary).endswith(b"hello")
    assert len(batch) == 1


def test_the_events_of_one_without_output_are_told_to_a_fresh_viewer():
    terminal = Terminal()
    terminal.event()
    told, output, events = terminal.attach()
    assert (told.recovered, output, events) == (True, [], [1])


def test_an_empty_terminal_needs_no_reset():
    terminal = Terminal()
    told, output, _ = terminal.attach()
    assert (told.recovered, told.offset, output) == (True, 0, [])
    assert terminal.log.screen() == b""
    terminal.write(b"hi\x1b[6n")
    assert terminal.log.screen() == b"\x1bc" + Modes().restore() + b"hi\0\0\0\0"


def test_one_that_may_not_write_has_nothing_drawn_for_it_nor_has_a_recording():
    terminal = Terminal(ring_bytes=1000)
    for number in range(100):
        terminal.write(b"line %d\n" % number)
    terminal.attach(writes=False)
    terminal.log.screen()
    assert terminal.redrawn == 0


def test_events_that_push_all_output_out_leave_a_fresh_viewer_a_reset():
    terminal = Terminal(ring_bytes=1000)
    terminal.write(b"gone")
    for _ in range(100):
        terminal.event()
    told, output, events = terminal.attach()
    assert (told.recovered, output) == (True, [])
    assert events
    terminal.write(b"new")
    _, output, _ = terminal.attach()
    assert b"".join(data for _, data in output).startswith(b"\x1bc")


def test_a_page_of_single_bytes_is_blanked_at_once():
    terminal = Terminal()
    for byte in b"\x1b[6n" * 300:
        terminal.write(bytes((byte,)))
    _, output, _ = terminal.attach(limit=1 << 20)
    assert b"".join(data for _, data in output[1:]) == b"\0" * 1200


def test_another_encoding_needs_another_subscription():
    terminal = Terminal()
    terminal.write(b"x" * 100)
    viewer = Viewer()
    terminal.log.stand(viewer, since=None, epoch=None, binary=True)
    asked = {"since": None, "epoch": None}
    assert terminal.log.again(viewer, 1, **asked, binary=True)
    assert not terminal.log.again(viewer, 1, since=50, epoch=None, binary=True)
    with pytest.raises(Conflict, match="unsubscribe first"):
        terminal.log.again(viewer, 1, **asked, binary=False)
