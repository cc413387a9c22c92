"""A replay asks and does nothing: the real xterm.js answers queries, and none that is silenced."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xterm import Emulator

from domains.shell.modes import Tracker
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
    b"\x1b_Ga=T,i=5,f=100;AAAA\x1b\\",
    b"\x1b_GI=5,q=1,a=t;AAAA\x1b\\",
    b"\x1b_Gt=s,q=2;AAAA\x1b\\",
    b"\x1b[> q",
    b"\x1b[+p",
    b"\x1b]7771;?;48\x07",
    *(b"\x1b]%d;?\x1b\\" % colour for colour in range(10, 20)),
    b"\x1b]5;0;?\x07",
    b"\x1b]21;foreground=?\x1b\\",
    b"\x1b]22;?__current__\x1b\\",
    b"\x1b]52;c;?\x07",
    b"\x1b]1337;ReportCellSize\x07",
    b"\x1b]60\x1b\\",
]
DONE = [
    b"\x07",
    b"\x1b]9;done\x07",
    b"\x1b]9;4 left\x1b\\",
    b"\x1b]9;2;a box\x07",
    b"\x1b]99;i=1:d=0;done\x1b\\",
    b"\x1b]777;notify;a;b\x07",
    b"\xc2\x9d777;notify;a;b\xc2\x9c",
    b"\x1b]52;c;YQ==\x07",
    b"\x1b]052;;\x1b\\",
    b"\x1b]5522;type=write\x1b\\",
    b"\x1b]50;CopyToClipboard=\x07",
    *(b"\x1b[%dt" % act for act in (1, 2, 5, 7, 24)),
    b"\x1b[3;0;0t",
    b"\x1b[4;100;100t",
    b"\x1b[8;24;80t",
    b"\x1b[22;0;0t",
    b"\x1b[23;2t",
    b"\x1b[i",
    b"\x1b[5i",
    b"\x1b[?5i",
    b"\x1b[1;2;3,~",
    b"\x1b[4;1y",
    b"\x1b[1*z",
    b"\x1b[12;3]",
    b"\x1b]1337;File=name=YQ==:AAAA\x07",
    b"\x1b]1337;File=inline=0;name=YQ==:inline=1\x07",
    b"\x1b]1337;MultipartFile=inline=1\x07",
    b"\x1b]1337;RequestAttention=yes\x07",
    b"\x1b]1337;StealFocus\x07",
    b"\x1b]1337;CopyToClipboard=\x07",
    b"\x1b]1337;OpenURL=:aHR0cA==\x07",
    b"\x1b]5113;ac=send\x1b\\",
    b"\x1b]46;log\x07",
    b'\x1b]51;["call","f",[]]\x07',
    b"\x1bP1000p\x1b\\",
    b"\x1bP@kitty-cmd{}\x1b\\",
    b"\x1bP1;0;0!z0\x1b\\",
]
"""What would be done again."""

REPORTING = [b"\x1b[?1004h", b"\x1b[?2031h", b"\x1b[?2048h", b"\xc2\x9b?02048h"]

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
    b"\x1b[2S",
    b"\x1b[>4n",
    b"\x1b[1;1;2;2$x",
    b"\x1b]0;who? what?\x07",
    b"\x1b]2;a=?\x07",
    b"\x1b]8;;https://host/a?b=?;?\x1b\\x\x1b]8;;\x1b\\",
    b"\x1b]4;1;rgb:ff/00/00\x07",
    b"\x1b]11;#000000\x07",
    b"\x1b]133;A\x07",
    b"\x1bPq#0;2;0;0;0~-\x1b\\",
    b"\x1b_Ga=T,f=100;AAAA\x1b\\",
    b"\x1b_Ga=T,i=5,q=2;AAAA\x1b\\",
    b"\x1b_Ga=d,d=I,i=5\x1b\\",
    b"\x1b]1337;File=name=YQ==;inline=1:AAAA\x07",
    b"\x1b]1337;SetMark\x07",
    b"\x1b]9;4;1;50\x07",
    b"\x1b]9;9;/home\x07",
    b"\x1b[?2004;2031l",
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
    for mode in (b"1004", b"2031", b"02048", b"2048"):
        if mode in query:
            return query.replace(mode, bytes(len(mode)))
    return bytes(len(query))


@pytest.mark.parametrize("query", ANSWERED, ids=repr)
def test_xterm_answers_a_query_but_not_a_silenced_one(emulator, query):
    assert answers(emulator, query)
    assert not answers(emulator, silenced(b"", query, b""))


@pytest.mark.parametrize("query", ANSWERED + ASKED_OF_OTHERS + DONE + REPORTING, ids=repr)
def test_a_query_or_an_act_becomes_nul_bytes_wherever_it_is_cut(query):
    for cut in range(len(query) + 1):
        first = silenced(b"before", query[:cut], query[cut:] + b"after")
        second = silenced(b"before" + query[:cut], query[cut:], b"after")
        assert first + second == blanked(query)


@settings(max_examples=50)
@given(st.lists(st.sampled_from(TOLD)).map(b"".join), st.integers(0, 500))
def test_all_else_stays_as_it_is(output, cut):
    assert silenced(output[:cut], output[cut:], b"") == output[cut:]
    assert silenced(b"", output[:cut], output[cut:][:REACH]) == output[:cut]


def cut_and_silenced(output, cuts):
    """Silence each part on its own, with no more of its neighbours than may be needed."""
    places = sorted({0, len(output), *(cut % (len(output) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(places):
        tracker = Tracker()
        tracker.feed(output[:start])
        before, after = tracker.modes.pending, output[end:][:REACH]
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
        assert quiet == begun + b"\x1b\\\0\0" + b"?\0" + b"q\x1b\\" + b"c"
        assert answers(emulator, output)
        assert not answers(emulator, quiet)


@pytest.mark.parametrize("end", [b"", b"\x1b\\"])
@pytest.mark.parametrize(
    ("query", "harmless"),
    [
        (b"\x1b]4;" + b"1;?;" * 200 + b"2;?", b"\x1b]4x"),
        (b"\x1bP+q" + b"544e;" * 200, b"\x1bPxq"),
        (b"\x1b]52;c;" + b"A" * 1000, b"\x1b]52x"),
        (b"\x1b]9;" + b"A" * 9000, b"\x1b]9x"),
        (b"\x1b]1337;File=name=YQ==:" + b"A" * 9000, b"\x1b]1337x"),
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


def test_a_bell_that_ends_a_string_ends_it_and_all_others_are_silent():
    title = b"\x1b]2;" + b"t" * 6000 + b"\x07"
    output = b"\x07a\x07" + title + b"\x07b\x1b[\x071m\x1b\x07]2;u\x07\x07"
    told = b"\0a\0" + title + b"\0b\x1b[\x001m\x1b\0]2;u\x07\0"
    for cut in (0, 1, 3, 100, 5000, len(title) + 2, len(title) + 3, len(output) - 1):
        assert b"".join(cut_and_silenced(output, [cut])) == told


def test_a_query_that_is_longer_than_any_never_ends(emulator):
    for padding in (b"0" * 1000, b"0" * 9000):
        output = b"\x1b[" + padding + b"6n" + b"text"
        for cut in (0, 100, 300, 600, len(output) - 5):
            assert not answers(emulator, *cut_and_silenced(output, [cut]))
