"""A child's text: any bytes, cut anywhere, come out as they went in."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.core.text import PIECE_BYTES, PROMPT, TextStream

LONG = b"<a long line>"
"""Stands for 40,000 bytes, which hypothesis would print."""

chunks = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.text(max_size=20).map(str.encode),
        st.sampled_from([b"\n", b"\xe2", b"\x82\xac", b"a\nb", b"\xff", LONG, b"\0"]),
    ),
    max_size=30,
)
doings = st.sampled_from(["nothing", "turn", "wait", "flush"])


@settings(max_examples=150, deadline=None)
@given(plan=st.lists(st.tuples(chunks, doings), max_size=4))
def test_the_pieces_joined_are_the_text(plan):
    async def run():
        pieces = []
        stream = TextStream(pieces.append)
        fed = b""
        for some, doing in plan:
            for short in some:
                chunk = short.replace(LONG, b"x" * 40_000)
                stream.feed(chunk)
                fed += chunk
            if doing == "turn":
                await asyncio.sleep(0)
            elif doing == "wait":
                await asyncio.sleep(PROMPT * 1.2)
            elif doing == "flush":
                stream.flush()
        stream.close()
        assert "".join(pieces) == fed.decode(errors="replace")
        # One more: the start of a character may have waited for the piece that shows it was none.
        assert all(len(piece) <= PIECE_BYTES + 1 for piece in pieces)

    asyncio.run(run())


async def test_a_burst_of_lines_is_few_pieces_and_the_first_leaves_at_once():
    pieces = []
    stream = TextStream(pieces.append)
    stream.feed(b"first\n")
    assert pieces == ["first\n"]
    for n in range(100):
        stream.feed(b"line %d\n" % n)
    assert pieces == ["first\n"]
    await asyncio.sleep(0.02)
    assert pieces == ["first\n", "".join(f"line {n}\n" for n in range(100))]


async def test_an_unfinished_line_is_told_after_a_silence():
    told = asyncio.get_running_loop().create_future()
    stream = TextStream(told.set_result)
    stream.feed(b"name: ")
    begun = asyncio.get_running_loop().time()
    assert await asyncio.wait_for(told, 2) == "name: "
    assert asyncio.get_running_loop().time() - begun >= PROMPT * 0.9
