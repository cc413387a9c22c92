"""Nothing that a program writes reaches a viewer's clipboard, as the parser of xterm.js sees it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xterm import Emulator

from domains.shell.clipboard import HELD, ClipboardFilter

COPIES = [
    b"\x1b]52;c;aGk=\x07",
    b"\x1b]52;c;aGk=\x1b\\",
    b"\x1b]52;c;aGk=\xc2\x9c",
    b"\x1b]52;c;?\x07",
    b"\x1b]52\x07",
    b"\x1b]52;\x1b[m",
    b"\x1b]00052;c;aGk=\x07",
    b"\xc2\x9d52;c;aGk=\x07",
    b"\x1b\x00]\x0152;c;aGk=\x07",
    b"\x1b\x07\x7f]5\n2\x1c;c;aGk=\x07",
    b"\x1b\xff]5\x802\xe2;c;aGk=\x07",  # no UTF-8, which is dropped before it is parsed
    b"\x1b]5\xed\xa0\x802\xef\xbb\xbf;c;aGk=\x07",
    b"\x1b]0;a title\x1b]52;c;aGk=\x07",
    b"\x1bPtmux;\x1b\x1b]52;c;aGk=\x07\x1b\\",
    b"\x1b[3\x1b]52;c;aGk=\x07",
    b"\x1b]5522;type=write\x1b\\",
    b"\x1b]1337;Copy=:aGk=\x07",
    b"\x1b]1337;CopyToClipboard=\x07",
    b"\x1b]50;CopyToClipboard=\x07",
    b"\x1b]52;c;" + b"QUJD" * 3000 + b"\x07",
]
OTHERS = [
    b"text\r\n",
    "\u20ac \xb0\xc2\xe9 \U0001f600".encode(),
    b"\x1b[31m\x1b[?1049h\x1b[2J",
    b"\x1b]0;a title\x07",
    b"\x1b]2;52;c;aGk=\x1b\\",
    b"\x1b]5;0;red\x07",
    b"\x1b]520;c;aGk=\x07",
    b"\x1b]152;c;aGk=\x07",
    b"\x1b]8;;https://host/\x1b\\x\x1b]8;;\x1b\\",
    b"\x1b]1337;CurrentDir=/\x07",
    b"\x1b]50;a font\x07",
    b"\x1b_Ga=T;AAAA\x1b\\",
    b"\xc2\x9b1m\xc2\x85",
    b"]52;c;aGk=\x07",
    b"\xff\xfe\x80",
    b"\x1b(0\x0eq\x0f",
    b"\x1b]\x18\x1b\x1b\x1a",
]
PIECES = [b"\x1b", b"]", b"52", b"5", b"2", b";c;aGk=", b"\x07", b"\\", b"\xc2", b"\x9d", b"\x9c"]
PIECES += [b"\x9b", b"0", b"\x00", b"\x7f", b"\xff", b"\xe2\x80", b"\x94", b"\x18", b"\x1a", b"P"]
PIECES += [b"\xc3\xa9", b"text", b"1337;Copy=:aGk=", b"50;Co", b"py", b"\n", b"[", b"55", b"22;x"]
PIECES += [b"\x1b]52;c;aGk=\x07", b"\x1b]5", b"2;c;aGk=\x07"]

streams = st.lists(st.sampled_from(PIECES), max_size=16).map(b"".join)
all_cuts = st.lists(st.integers(0, 300), max_size=6)


def parts_of(stream, cuts):
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in itertools.pairwise(places)]


def filtered(*parts):
    """Give what comes out for each part, and what is left in the end."""
    clipboard = ClipboardFilter()
    shown = []
    for part in parts:
        shown.append(clipboard.feed(part))
        assert len(clipboard._held) <= HELD
    return [*shown, clipboard.flush()]


def copied(emulator, *parts):
    """Give what a terminal hands to the clipboard."""
    emulator.write(b"\x18\x1bc")
    emulator.copied()
    for part in parts:
        emulator.write(part)
    return [
        (number, text)
        for number, text in emulator.copied()
        if number in {52, 5522} or text.startswith("Copy")
    ]


@pytest.fixture(scope="module")
def emulator():
    with Emulator() as emulator:
        yield emulator


@pytest.mark.parametrize("copy", COPIES, ids=lambda copy: repr(copy[:40]))
def test_what_reaches_the_clipboard_is_dropped(emulator, copy):
    assert copied(emulator, copy)
    assert not copied(emulator, *filtered(copy))
    shown = filtered(*(copy[at : at + 1] for at in range(len(copy))))
    assert not copied(emulator, *filter(None, shown))
    assert b"aGk=" not in b"".join(filtered(copy))


@pytest.mark.parametrize("end", [b"\x07", b"\x1b\\", b"\xc2\x9c"])
def test_a_string_terminator_is_left(end):
    output = b"a\x1b]52;c;aGk=" + end + b"b"
    assert filtered(output) == [b"a\x1b\\b", b""]
    assert b"".join(filtered(*(output[at : at + 1] for at in range(len(output))))) == b"a\x1b\\b"
    assert filtered(b"a\x1b]52;c;a", b"Gk=" + end, b"b") == [b"a", b"\x1b\\", b"b", b""]


@pytest.mark.parametrize("abort", [b"\x18", b"\x1a", b"\x1b[31m", b"\xc2\x85"])
def test_what_aborts_it_stays(abort):
    assert filtered(b"a\x1b]52;c;aGk=" + abort + b"b") == [b"a\x1b\\" + abort + b"b", b""]


def test_what_is_left_makes_no_new_one(emulator):
    inner = b"\x1b]52;c;aGk=\x07"
    for begun in (b"\x1b", b"\x1b]", b"\x1b]5", b"\xc2", b"\x1b]1337;Co"):
        for rest in (
            b"]52;c;aGk=\x07",
            b"52;c;aGk=\x07",
            b"2;c;aGk=\x07",
            b"\x9d52;aGk=\x07",
            b"py\x07",
        ):
            shown = filtered(begun + inner + rest)
            assert not copied(emulator, *shown)


@settings(max_examples=100, deadline=None)
@given(stream=streams, cuts=all_cuts, again=all_cuts)
def test_nothing_comes_through_however_it_is_made_and_cut(emulator, stream, cuts, again):
    shown = filtered(*parts_of(stream, cuts))
    assert b"".join(shown) == b"".join(filtered(stream))
    assert not copied(emulator, *shown)
    assert not copied(emulator, *parts_of(b"".join(shown), again))


@settings(max_examples=30, deadline=None)
@given(
    noise=st.lists(st.sampled_from([b"\x00", b"0", b"\xff", b"\xc2", b"\x1b", b"]"]), max_size=8),
    times=st.integers(1, 40),
    cuts=all_cuts,
)
def test_a_long_beginning_becomes_text(emulator, noise, times, cuts):
    for end in (b"52;c;aGk=\x07", b"\x9d52;c;aGk=\x07", b"]52;c;aGk=\x07"):
        stream = b"\x1b]" + b"".join(noise) * times + end
        assert not copied(emulator, *filtered(*parts_of(stream, cuts)))
    shown = filtered(b"\x1b]" + b"0" * HELD + b"\xc2", b"\x9d52;c;aGk=\x07")
    assert not copied(emulator, *shown)
    shown = filtered(b"\x1b]" + b"0" * HELD, b"52;c;aGk=\x07")
    assert shown == [b"\x1b\\]" + b"0" * HELD, b"52;c;aGk=\x07", b""]


@settings(max_examples=60, deadline=None)
@given(stream=st.lists(st.sampled_from(OTHERS)).map(b"".join), cuts=all_cuts)
def test_all_else_comes_out_as_it_is(stream, cuts):
    assert b"".join(filtered(*parts_of(stream, cuts))) == stream
    assert b"".join(filtered(*(stream[at : at + 1] for at in range(len(stream))))) == stream


@settings(max_examples=25, deadline=None)
@given(stream=st.lists(st.sampled_from(OTHERS[:8]) | st.sampled_from(COPIES[:5])).map(b"".join))
def test_what_is_shown_is_the_same(emulator, stream):
    with Emulator(beside=emulator) as other:
        other.write(b"".join(filtered(stream)))
        emulator.write(b"\x18\x1bc" + stream)
        assert other.serialized == emulator.serialized


def test_output_leaves_at_once():
    clipboard = ClipboardFilter()
    for chunk in (
        b"text",
        b"\xc3\xa9",
        b"\x1b[31",
        b"m\x1b[",
        b"\x1b]0;a ti",
        b"tle\x07",
        b"\x1b]521",
    ):
        assert clipboard.feed(chunk) == chunk
    assert clipboard.feed(b"a\x1b") == b"a"
    assert clipboard.feed(b"[b\xc2") == b"\x1b[b"
    assert clipboard.feed(b"\xb0\x1b]005") == b"\xc2\xb0"
    assert clipboard.flush() == b"\x1b]005"


def test_text_that_goes_on_is_not_copied():
    text = b"text " * 1000
    assert ClipboardFilter().feed(text) is text


def test_without_an_end_it_drops_all_and_holds_little():
    shown = filtered(b"\x1b]52;c;", *[b"QUJD" * 1000] * 20, b"\x1b", b"\\text")
    assert b"".join(shown) == b"\x1b\\text"
