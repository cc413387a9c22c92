"""A child's text: any bytes, cut anywhere, at any pace, come out as they went in and in time."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.core.text import PACE, PIECE_BYTES, PROMPT, TextStream

LONG = b"<a long line>"
"""Stands for 40,000 bytes, which hypothesis would print."""

HELD = 1
"""One character more in a piece: the start of one was held, and turned out to be none."""

SOON = 1e-9
"""What a float's rounding may add to a deadline."""


class Clock:
    """Stands for the loop: time passes when the test says so."""

    def __init__(self):
        self.now = 1000.0
        self.timers = []

    def time(self):
        return self.now

    def call_at(self, when, callback):
        timer = Timer(self, when, callback)
        self.timers.append(timer)
        return timer

    def advance(self, seconds):
        until = self.now + seconds
        while self.timers and (first := min(self.timers, key=lambda t: t.due)).due <= until:
            self.now = max(self.now, first.due)
            first.cancel()
            first.callback()
        self.now = until


class Timer:
    def __init__(self, clock, due, callback):
        self.clock, self.due, self.callback = clock, due, callback

    def when(self):
        return self.due

    def cancel(self):
        if self in self.clock.timers:
            self.clock.timers.remove(self)


class Told:
    """A stream on a clock, with what it has told and when."""

    def __init__(self):
        self.clock = Clock()
        self.pieces = []
        self.fed = b""

    @classmethod
    async def open(cls):
        told = cls()
        told.stream = TextStream(told.pieces.append)
        told.stream._loop = told.clock
        return told

    def feed(self, chunk):
        self.stream.feed(chunk)
        self.fed += chunk

    @property
    def text(self):
        return "".join(self.pieces)


chunks = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(str.encode),
    st.sampled_from([b"\n", b"\xe2", b"\x82\xac", b"a\nb", b"\xff", LONG, LONG + b"\n", b"\0"]),
    st.sampled_from([b"\xf0\x9f\x98", b"\x80", b"\xf0", b"\xed\xa0\x80", b"\xff" * 40_000]),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), chunks),
        st.tuples(st.just("pass"), st.sampled_from([0.0, 0.001, PACE, 0.01, PROMPT, 1.0])),
        st.tuples(st.just("flush"), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=400, deadline=None)
@given(plan=steps)
def test_the_pieces_joined_are_the_text_and_nothing_waits_too_long(plan):
    async def run():
        told = await Told.open()
        silent = 0.0
        for what, value in plan:
            if what == "feed":
                told.feed(value.replace(LONG, b"x" * 40_000))
                silent = 0.0
            elif what == "pass":
                told.clock.advance(value)
                silent += value
            else:
                told.stream.flush()
            if silent > PROMPT + SOON:  # all but the start of a character that is not finished
                heard = len(told.fed.decode(errors="replace")) - HELD
                assert len(told.text) >= heard, "something waits after a silence"
            elif silent > PACE + SOON or what == "flush":
                lines = told.fed[: told.fed.rfind(b"\n") + 1].decode(errors="replace")
                assert told.text.startswith(lines), "a whole line waits"
        told.stream.close()
        assert told.text == told.fed.decode(errors="replace")
        assert "" not in told.pieces
        assert all(len(piece) <= PIECE_BYTES + HELD for piece in told.pieces)
        assert told.clock.timers == []

    asyncio.run(run())


@given(text=st.text(max_size=60), cuts=st.lists(st.integers(0, 200), max_size=20))
def test_characters_are_whole_wherever_the_chunks_are_cut(text, cuts):
    async def run():
        told = await Told.open()
        raw = text.encode()
        places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
        for start, end in itertools.pairwise(places):
            told.feed(raw[start:end])
            told.clock.advance(PROMPT * 2)
        told.stream.close()
        assert told.text == text
        assert "\ufffd" not in told.text or "\ufffd" in text

    asyncio.run(run())


async def test_the_first_line_leaves_at_once_and_a_burst_after_it_is_one_piece():
    told = await Told.open()
    told.feed(b"first\n")
    assert told.pieces == ["first\n"]
    for n in range(100):
        told.feed(b"line %d\n" % n)
    assert told.pieces == ["first\n"]
    told.clock.advance(PACE)
    assert told.pieces == ["first\n", "".join(f"line {n}\n" for n in range(100))]


async def test_a_flood_is_told_at_its_pace_in_pieces_that_grow():
    told = await Told.open()
    for n in range(1000):
        told.feed(b"line %d\n" % n)
        told.clock.advance(PACE / 100)
    told.stream.close()
    assert len(told.pieces) <= 12


async def test_an_unfinished_line_is_told_after_a_silence_and_not_before():
    told = await Told.open()
    told.feed(b"na")
    told.clock.advance(PROMPT * 0.9)
    told.feed(b"me: ")
    told.clock.advance(PROMPT * 0.9)
    assert told.pieces == []
    told.clock.advance(PROMPT * 0.2)
    assert told.pieces == ["name: "]


async def test_a_line_that_was_begun_a_moment_ago_does_not_wait_as_a_prompt_would():
    told = await Told.open()
    told.feed(b"begun ")  # a prompt, for all that is known
    told.clock.advance(0.001)
    told.feed(b"and ended\n")
    told.clock.advance(0.001)
    told.feed(b"the next line\n")
    told.clock.advance(PACE)
    assert told.pieces == ["begun and ended\n", "the next line\n"]


async def test_what_is_flushed_is_whole_lines():
    told = await Told.open()
    told.feed(b"first\n")
    told.feed(b"second\nthi")
    told.stream.flush()
    assert told.pieces == ["first\n", "second\n"]
    told.stream.close()
    assert told.pieces == ["first\n", "second\n", "thi"]


async def test_a_long_line_comes_in_pieces_and_short_ones_together():
    told = await Told.open()
    told.feed(b"x" * (3 * PIECE_BYTES + 5) + b"\n")
    told.feed(b"short\n" * 20_000)
    told.stream.close()
    assert [len(piece) for piece in told.pieces[:3]] == [PIECE_BYTES] * 3
    assert told.pieces[3].startswith("xxxxx\n")
    assert all(piece.endswith("\n") for piece in told.pieces[3:])


@pytest.mark.parametrize("rest", [b"", b"\xe2\x82", b"no newline"])
async def test_closing_tells_the_rest_and_leaves_no_timer(rest):
    told = await Told.open()
    told.feed(b"a\n")
    told.feed(rest)
    told.stream.close()
    assert told.text == (b"a\n" + rest).decode(errors="replace")
    assert told.clock.timers == []


async def test_on_the_real_loop_a_prompt_is_told():
    told = asyncio.get_running_loop().create_future()
    stream = TextStream(told.set_result)
    stream.feed(b"name: ")
    assert await asyncio.wait_for(told, 30) == "name: "
    stream.close()
