"""A replay asks nothing: the real xterm.js answers each query, and none that is silenced."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xterm import Emulator

from domains.shell.queries import REACH, silenced

ANSWERED = [
    b"\x1b[c",
    b"\x1b[0c",
    b"\x1b[;c",
    b"\x1b[>c",
    b"\x1b[>0c",
    b"\x1b[5n",
    b"\x1b[6n",
    b"\x1b[06;1n",
    b"\x1b[?6n",
    b"\x1b[4$p",
    b"\x1b[?2026$p",
    b"\x1bP$qm\x1b\\",
    b"\x1bP1$q q\x1b\\",
    b"\x1b[14t",
    b"\x1b[16t",
    b"\x1b[018;0t",
    b"\x1b]4;1;?\x07",
    b"\x1b]04;1;rgb:1/1/1;2;?\x1b\\",
    b"\x1b]10;?\x07",
    b"\x1b]11;?\x1b\\",
    b"\x1b]12;?\x07",
    b"\x1b]10;red;?\x07",
    b"\xc2\x9bc",
    b"\xc2\x9d11;?\xc2\x9c",
    b"\xc2\x90$qr\xc2\x9c",
    b"\x1b[\x006\r\n\x7fn",
    b"\x1b\x00[\xff6n",
    b"\x1b]\x001\x000;\x00?\x07",
    b"\x1b[?1004h",
]
"""What xterm.js answers; the last is no query, but makes it tell about its focus."""

ASKED_OF_OTHERS = [
    b"\x05",
    b"\x1bZ",
    b"\x1b[=c",
    b"\x1b[x",
    b"\x1b[1x",
    b"\x1b[?996n",
    b"\x1b[>q",
    b"\x1b[>0q",
    b"\x1b[?u",
    b"\x1b[?4m",
    b"\x1b[?1g",
    b"\x1b[?1;1;0S",
    b"\x1b[1;1;1;1;5;5*y",
    b"\x1b[1$w",
    b"\x1b[&u",
    b"\x1b[1$u",
    b"\x1b['|",
    b"\x1b[#|",
    *(b"\x1b[%dt" % report for report in (11, 13, 14, 15, 16, 18, 19, 20, 21)),
    b"\x1b[13;2t",
    b"\x1bP+q544e;524742\x1b\\",
    b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\",
    b"\x1b_Ga=q;\x1b\\",
    *(b"\x1b]%d;?\x1b\\" % colour for colour in range(10, 20)),
    b"\x1b]5;0;?\x07",
    b"\x1b]21;foreground=?\x1b\\",
    b"\x1b]22;?__current__\x1b\\",
    b"\x1b]52;c;?\x07",
    b"\x1b]1337;ReportCellSize\x07",
    b"\x1b]60\x1b\\",
]
TOLD = [
    b"text\r\n",
    "\u20ac \xb0 \xe9".encode(),
    b"\x1b[31m",
    b"\x1b[?1049h",
    b"\x1b[?1002;1006h",
    b"\x1b[1;9r",
    b"\x1b[!p",
    b"\x1b[2 q",
    b"\x1b[>4;2m",
    b"\x1b[>1u",
    b"\x1b[<u",
    b"\x1b[s\x1b[u",
    b"\x1b[8;24;80t",
    b"\x1b[22;0;0t",
    b"\x1b[2S",
    b"\x1b[>4n",
    b"\x1b[1;1;2;2$x",
    b"\x1b]0;who? what?\x07",
    b"\x1b]2;a=?\x07",
    b"\x1b]8;;https://host/a?b=?;?\x1b\\x\x1b]8;;\x1b\\",
    b"\x1b]4;1;rgb:ff/00/00\x07",
    b"\x1b]11;#000000\x07",
    b"\x1b]133;A\x07",
    b"\x1b]1337;File=name=YQ==:AAAA\x07",
    b"\x1bPq#0;2;0;0;0~-\x1b\\",
    b"\x1b_Ga=T,f=100;AAAA\x1b\\",
    b"\xc2\x85\xc2\x9b1m",
]
"""What nobody answers."""

PIECES = [b"\x1b", b"[", b"?", b"6", b"n", b"c", b";", b"]", b"4;1;", b"10;", b"P", b"$q", b"m"]
PIECES += [
    b"\x00",
    b"\xff",
    b"\xc2",
    b"\x9b",
    b"\xe2\x80",
    b"\x94",
    b"\x07",
    b"\\",
    b"\x18",
    b"1004h",
]
PIECES += [b"\x1b]0;", b"\x1b_", b"\n", b"0" * 40]


@pytest.fixture(scope="module")
def emulator():
    with Emulator() as emulator:
        yield emulator


def answers(emulator, *output):
    """Give what a terminal types that was just reset."""
    emulator.typed()
    for part in (b"\x18\x1bc", *output):
        emulator.write(part)
    return emulator.typed()


def blanked(query):
    return query.replace(b"1004", bytes(4)) if b"1004" in query else bytes(len(query))


@pytest.mark.parametrize("query", ANSWERED, ids=repr)
def test_xterm_answers_a_query_but_not_a_silenced_one(emulator, query):
    assert answers(emulator, query)
    assert not answers(emulator, silenced(b"", query, b""))


@pytest.mark.parametrize("query", ANSWERED + ASKED_OF_OTHERS, ids=repr)
def test_a_query_becomes_nul_bytes_wherever_it_is_cut(query):
    for cut in range(len(query) + 1):
        first = silenced(b"before", query[:cut], query[cut:] + b"after")
        second = silenced(b"before" + query[:cut], query[cut:], b"after")
        assert first + second == blanked(query)


@settings(max_examples=50)
@given(st.lists(st.sampled_from(TOLD)).map(b"".join), st.integers(0, 500))
def test_all_else_stays_as_it_is(output, cut):
    assert silenced(output[:cut][-REACH:], output[cut:], b"") == output[cut:]
    assert silenced(b"", output[:cut], output[cut:][:REACH]) == output[:cut]


def cut_and_silenced(output, cuts):
    """Silence each part on its own, with no more of its neighbours than may be needed."""
    places = sorted({0, len(output), *(cut % (len(output) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(places):
        before, after = output[:start][-REACH:], output[end:][:REACH]
        part = silenced(before, output[start:end], after)
        assert len(part) == end - start
        yield part


@settings(max_examples=120, deadline=None)
@given(
    output=st.lists(st.sampled_from(PIECES) | st.sampled_from(ANSWERED), max_size=15).map(b"".join),
    cuts=st.lists(st.integers(0, 500), max_size=4),
)
def test_xterm_never_answers_what_is_silenced(emulator, output, cuts):
    assert not answers(emulator, *cut_and_silenced(output, cuts))


@settings(max_examples=40, deadline=None)
@given(output=st.lists(st.sampled_from(TOLD) | st.sampled_from(ANSWERED)).map(b"".join))
def test_what_is_shown_is_the_same(emulator, output):
    output = output.replace(b"1004", b"").replace(b"\r\n\x7f", b"")  # which xterm.js carries out
    with Emulator(beside=emulator) as other:
        emulator.write(b"\x1bc" + output)
        other.write(silenced(b"", output, b""))
        assert other.serialized == emulator.serialized


def test_a_query_that_cut_off_a_sequence_goes_on_to_cut_it_off(emulator):
    for begun in (b"\x1b[", b"\x1b]4;1;", b"\x1b", b"\x1bP$"):
        output = begun + b"\x1b[6n" + b"?\x07" + b"q\x1b\\" + b"c"
        quiet = silenced(b"", output, b"")
        assert quiet == begun + b"\x1b\\\0\0" + b"?\x07" + b"q\x1b\\" + b"c"
        assert answers(emulator, output)
        assert not answers(emulator, quiet)


@pytest.mark.parametrize("end", [b"", b"\x1b\\"])
@pytest.mark.parametrize(
    ("query", "harmless"),
    [
        (b"\x1b]4;" + b"1;?;" * 200 + b"2;?", b"\x1b]4x"),
        (b"\x1bP+q" + b"544e;" * 200, b"\x1bPxq"),
        (b"\x1b_Ga=q;" + b"A" * 1000, b"\x1b_xa=q;"),
    ],
)
def test_a_long_string_becomes_one_that_asks_nothing(emulator, query, harmless, end):
    output = query + end
    for cut in (0, 2, 3, 4, 100, 300, 700, len(output) - 1, len(output)):
        parts = list(cut_and_silenced(output, [cut]))
        assert b"".join(parts) == harmless + output[len(harmless) :]
        assert not answers(emulator, *parts, b"\x07")


def test_modes_that_are_set_with_the_focus_reports_are_set():
    assert silenced(b"", b"\x1b[?1000;1004;2004h", b"") == b"\x1b[?1000;\0\0\0\0;2004h"
    assert silenced(b"", b"\x1b[?1004l\x1b[?11004h", b"") == b"\x1b[?1004l\x1b[?11004h"
