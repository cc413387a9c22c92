"""A replay begins at a line, or at least outside of sequences and characters."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.shell.clipboard import ClipboardFilter
from domains.shell.cut import (
    BEGUN,
    LINE_WITHIN,
    SEQUENCE,
    Ordinary,
    safe_start,
    seven_bit,
    unfinished,
)
from domains.shell.modes import Tracker

SEQUENCES = [
    b"\x1b[m",
    b"\x1b[38;2;1;2;3m",
    b"\x1b[?1049h",
    b"\x1b[1\n;2H",
    b"\x1b(0",
    b"\x1b7",
    b"\x1b\x00=",
    b"\x1b[ @",
    b"\xc2\x9b1m",
    b"\x1b]0;a title\x07",
    b"\x1b]0;\xe2\x82\xac\nand more\x1b\\",
    b"\x1bPq#0;2;0;0;0\n-\x07\x1b\\",
    b"\x1b_Gi=1;AAAA\xc2\x9c",
    b"\xc2\x9d8;;https://host/\xc2\x9c",
    b"\x1b^" + b"\n" * 9000 + b"\x1b\\",
]
TEXTS = [b"text", b"\n", b"\r\n", "\xe9\u20ac\U0001f600".encode(), b"x" * 5000, b"\x07", b"\x18"]

pieces = st.lists(st.sampled_from(SEQUENCES) | st.sampled_from(TEXTS), max_size=12)


def places_of(pieces):
    """Give the places between sequences and characters, and of those the starts of lines."""
    places, lines, at = [0], [], 0
    for piece in pieces:
        characters = [piece] if piece in SEQUENCES else [c.encode() for c in piece.decode()]
        for character in characters:
            at += len(character)
            places.append(at)
            if character == b"\n":
                lines.append(at)
    return places, lines


@settings(max_examples=150, deadline=None)
@given(pieces=pieces, share=st.floats(0, 1.1))
def test_it_is_the_next_line_or_else_the_next_place_that_is_safe(pieces, share):
    data = b"".join(pieces)
    wanted = int(len(data) * share)
    places, lines = places_of(pieces)
    near = [line for line in lines if wanted <= line <= wanted + LINE_WITHIN]
    expected = [*near, *(place for place in places if place >= wanted), len(data)][0]
    assert safe_start(data, wanted) == expected


def test_a_line_is_waited_for_so_far_and_no_farther():
    for length in (LINE_WITHIN, LINE_WITHIN + 1):
        data = b"\x1b[m\n\n" + b"x" * length + b"\ny"
        assert safe_start(data, 4) == 4
        assert safe_start(data, 5) == 5
        assert safe_start(data, 6) == (len(data) - 1 if length == LINE_WITHIN else 6)


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=40), wanted=st.integers(0, 50))
def test_of_any_bytes_it_is_a_place_within_them(data, wanted):
    assert min(wanted, len(data)) <= safe_start(data, wanted) <= len(data)


@pytest.mark.parametrize("character", ["\xe9", "\u20ac", "\U0001f600"])
def test_what_begins_in_the_middle_of_a_character_is_begun_after_it(character):
    rest = character.encode()[1:]
    assert safe_start(rest + b"abc", 0) == len(rest)


@pytest.mark.parametrize("string", [b"AAAA\nBBBB", b"itle", b""])
@pytest.mark.parametrize("end", [b"\x1b\\", b"\xc2\x9c"])
def test_what_begins_in_the_middle_of_a_string_is_begun_after_it(string, end):
    assert safe_start(string + end + b"text", 0) == len(string + end)
    assert safe_start(string + end + b"text\nline", 0) == len(string + end + b"text\n")


@pytest.mark.parametrize(
    "begun", [b"\x1b", b"\x1b[1;", b"\x1b]0;t", b"\x1bPq", b"\x1b]0;\n\xe2\x82"]
)
def test_within_what_has_no_end_there_is_no_place(begun):
    assert safe_start(b"text" + begun, 5) == len(b"text" + begun)
    assert safe_start(b"text" + begun, 4) == 4
    assert safe_start(b"text\n" + begun, 2) == 5


@settings(max_examples=50)
@given(sequence=st.sampled_from(SEQUENCES), before=st.sampled_from(TEXTS))
def test_a_sequence_is_unfinished_until_its_last_byte(sequence, before):
    plain = seven_bit(before + sequence)
    assert len(plain) == len(before + sequence)
    assert re.fullmatch(SEQUENCE, plain[len(before) :])
    for end in range(len(before) + 1, min(len(plain), 40)):
        part = seven_bit((before + sequence)[:end])
        begin = unfinished(part, len(part))
        assert begin == len(before) or part[begin:] in (b"\x1b", b"\xc2")
    assert unfinished(plain, len(plain)) == len(plain)


PIECES = [
    *(b"text\n", b"\x1b[31m", b"\x1b[0m", b"\x1b[m", b"\x1b[2;5H", b"\x1b[K", b"\x0e", b"\x0f"),
    *(b"\xc3\xa9", b"\x1b[?25l", b"\x1b]52;c;eA==\x07", b"\x1b", b"\x1b[3", b"\xc2\x9b4h"),
    *(b"\x1b7", b"\x1b]0;t\x07", b"\xc2", b"\x1b[1;2", b"5m", b"]52;c;eA==\x07", b"\x1b[5;9r"),
]


def ordinary(*pieces):
    """Ask about output that was read in these pieces."""
    asked = Ordinary()
    for piece in pieces:
        asked.look(piece)
    return asked.take()


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=4), max_size=5))
def test_knowing_that_output_is_ordinary_changes_nothing_but_the_time(turns):
    slow, quick = Tracker(), Tracker()
    shown, soon = ClipboardFilter(), ClipboardFilter()
    asked = Ordinary()
    for pieces in turns:
        for piece in pieces:
            asked.look(piece)
        usual, data = asked.take(), b"".join(pieces)
        slow.feed(data)
        quick.feed(data, ordinary=usual)
        assert (quick.modes, quick.title) == (slow.modes, slow.title)
        assert soon.feed(data, ordinary=usual) == shown.feed(data)


@given(st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join), st.integers(1, 5))
def test_it_does_not_matter_into_which_pieces_output_falls(data, size):
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert ordinary(*pieces) == ordinary(data)


@pytest.mark.parametrize(
    "data",
    [b"\x1b", b"\x1b[3", b"\x1b[6n", b"\x1b]0;t\x07", b"\x1b[?25l", b"\xc2\x9b", b"\xc2"],
)
def test_what_names_or_asks_or_is_cut_is_not_ordinary(data):
    assert not ordinary(b"text" + data)


def test_what_moves_and_colours_is_ordinary():
    assert ordinary("\x1b[1;31mname\x1b[0m é\x1b[2;5H\x1b[K\n".encode())


def test_a_sequence_of_digits_without_end_is_looked_at_once():
    assert ordinary(b"\x1b[", b"1;" * (BEGUN // 2 - 1), b"m")
    assert not ordinary(b"\x1b[", b"1;" * BEGUN, b"m")


def test_each_answer_is_about_what_came_since_the_last_one():
    asked = Ordinary()
    asked.look(b"\x1b]0;title\x07")
    assert not asked.take()
    asked.look(b"text \x1b[3")
    assert not asked.take()
    asked.look(b"1m text")
    assert asked.take()
