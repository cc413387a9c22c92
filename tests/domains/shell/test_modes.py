"""The modes of a terminal: known wherever it is cut, and made again in the real xterm.js."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xterm import Emulator

from domains.shell.modes import HELD, Tracker
from domains.shell.modes_kept import Modes

RESET = b"\x1bc"

switches = st.builds(
    lambda numbers, final: b"\x1b[?%b%b" % (b";".join(b"%d" % n for n in numbers), final),
    st.lists(
        st.sampled_from([1, 6, 7, 25, 45, 66, 2031, 9, 1000, 1002, 1003, 1004, 1006, 2004]),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from([b"h", b"l"]),
)
colours = st.builds(
    lambda parameters: b"\x1b[%bm" % b";".join(parameters),
    st.lists(
        st.sampled_from(
            b"0,,1,01,2,3,4,5,7,8,9,22,23,24,25,27,28,29,31,34,39,44,49,53,55,91,104,21,73,"
            b"38;5;200,48;5;17,38;2;1;2;3,48;2;70;80;90,38;2;9;8;7".split(b",")
        ),
        max_size=4,
    ),
)
others = st.sampled_from(
    [b"\x1b[>1u", b"\x1b[<u", b"\x1b[=6;2u", b"\x1b[>4;2m", b"\x1b[>4n", b"\x1b[>m"]
    + [b"\x1b=", b"\x1b>", b"\x1b[4h", b"\x1b[4l", b"\x1b[20h", b"\x1b[20l", b"\x1b[!p"]
    + [b"\x1b[%b q" % style for style in (b"", b"0", b"1", b"4", b"6", b"9")]
    + [
        b"\x1b]0;\x1b\\",
        b"\x1b]2;[?1049h\x07",
        b"\x1bP[?25l\x0e\x1b\\",
        b"\x1b_\x0e\x18",
        b"\xc2\x9b1m",
    ]
)
screens = st.sampled_from(
    [b"\x1b7", b"\x1b8", b"\x1b[s", b"\x1b[u"]
    + [b"\x1b[?%d%b" % (n, final) for n in (47, 1047, 1048, 1049) for final in (b"h", b"l")]
)
characters = st.sampled_from(
    [b"\x0e", b"\x0f", b"\x1b(0", b"\x1b(B", b"\x1b)0", b"\x1b)B"]
    + [b"\x1b[%br" % rows for rows in (b"", b"2", b"2;5", b"5;2", b"1;9", b";7", b"3;3", b"0;4")]
    + [b"\x1b[4:3m", b"\x1b[4:0m", b"\x1b[58;5;9m", b"\x1b[58:2::1:2:3m", b"\x1b[38:5:9;1m"]
)
anything = st.one_of(
    st.sampled_from(
        [b"\x1b", b"\xc2", b"\x9b", b"\x9c", b"\x18", b"\x07", b"\x00", b"\xe2\x82\xac"]
    ),
    st.sampled_from([b"[", b"?", b"1049", b"h", b"]", b"P", b"m", b"\\", b"text\r\n"]),
    st.just(RESET),  # xterm.js leaves a hidden cursor hidden
    st.sampled_from([b"]0;a title\x07", b"\x1b]7;file://host/a%20b", b"\x1b]9;9;C:\\x\x1b\\"]),
)


def streams(*kinds):
    return st.lists(st.one_of(*kinds), max_size=12).map(b"".join)


everything = streams(switches, colours, others, screens, characters, anything)


def tracked(*chunks, modes=None):
    tracker = Tracker(modes)
    for chunk in chunks:
        tracker.feed(chunk)
    return tracker


@pytest.fixture(scope="module")
def emulator():
    with Emulator(20, 9) as emulator:
        yield emulator


@settings(max_examples=100, deadline=None)
@given(stream=everything, cuts=st.lists(st.integers(0, 300), max_size=8))
def test_modes_are_the_same_wherever_the_output_is_cut(stream, cuts):
    whole = tracked(stream)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    parts = Tracker()
    for start, end in itertools.pairwise(places):
        begun = Tracker(parts.modes)
        parts.feed(stream[start:end])
        begun.feed(stream[start:end])
        assert begun.modes == parts.modes
    assert (parts.modes, parts.title, parts.folder) == (whole.modes, whole.title, whole.folder)


@settings(max_examples=100, deadline=None)
@given(pieces=st.lists(st.one_of(switches, colours, others, screens, characters), max_size=100))
def test_many_sequences_at_once_are_as_one_after_another(pieces):
    at_once = tracked(b"".join(pieces))
    one_by_one = tracked(*pieces)
    assert (at_once.modes, at_once.title) == (one_by_one.modes, one_by_one.title)
    begun = Tracker(tracked(b"\x1b[?1049h\x1b[31;4m\x1b7\x1b[?25l").modes)
    begun.feed(b"\x1b[1m\x1b8" + RESET + b"".join(pieces))
    assert begun.modes == one_by_one.modes


def test_a_reset_leaves_the_title_and_the_folder():
    tracker = tracked(b"\x1b]2;old\x07\x1b]2;\x07\x1b]7;file:///a\x07\x1b[1m" + RESET + b"\x1b[2m")
    assert (tracker.title, tracker.folder, tracker.modes.colours) == ("", "/a", b"2")


@settings(max_examples=50, deadline=None)
@given(
    stream=streams(switches, colours, others, screens)
    | streams(switches, colours, others, characters)
)
def test_a_fresh_terminal_is_brought_into_the_modes_of_one_that_saw_it_all(emulator, stream):
    with Emulator(20, 9, beside=emulator) as saw:
        saw.write(stream + b"\x1b\\")
        emulator.write(RESET + tracked(stream).modes.restore())
        for each in (saw, emulator):
            each.typed()
            each.write(b"".join(b"\x1b[?%d$p" % n for n in (1, 6, 7, 9, 25, 66, 1000, 1002, 1003)))
            each.write(b"".join(b"\x1b[?%d$p" % n for n in (47, 1004, 1006, 1049, 2004)))
            each.write(b"\x1b[4$p\x1b[20$p\x1bP$qr\x1b\\\x1b[2J\x1b[Hqx")
        assert emulator.typed() == saw.typed()
        assert emulator.modes == saw.modes
        assert emulator.alternate == saw.alternate
        assert emulator.serialized == saw.serialized


@settings(max_examples=50, deadline=None)
@given(stream=everything)
def test_what_restores_modes_makes_just_these(stream):
    modes = tracked(stream, b"\x18").modes
    again = tracked(modes.restore()).modes
    assert again.restore() == modes.restore()
    assert hash(tracked(stream, b"\x18").modes) == hash(modes)


def test_modes_are_one_object_while_nothing_changes():
    tracker = tracked(b"\x1b[?2004h\x1b[1;31m")
    modes = tracker.modes
    for chunk in (b"text", b"\x1b[K\x1b[1m", b"\x1b[?25l\x1b[?25h", b"\xc2\xb0", b"\x1b]0;t\x07"):
        tracker.feed(chunk)
        assert tracker.modes is modes
    tracker.feed(b"\x1b[m")
    assert tracker.modes == Modes(private=modes.private)


def test_the_alternate_screen_is_entered_first():
    modes = tracked(b"\x1b[?2004h\x1b[31m\x1b[?1000;1006h\x1b[?1049h").modes
    assert modes.restore().startswith(b"\x1b[?1049h")


@pytest.mark.parametrize("string", [b"]8;;", b"P", b"X", b"^", b"_"])
def test_what_is_in_a_string_is_no_sequence(string):
    inside = b"[?1049h \x0e (0 [31m"
    assert tracked(b"\x1b" + string + inside + b"\x1b\\").modes == Modes()
    assert tracked(b"\x1b" + string + inside, inside, b"\x1b\\").modes == Modes()


def test_a_long_string_is_passed_over_without_being_held():
    tracker = tracked(b"\x1b_G")
    held = set()
    for _ in range(100):
        tracker.feed(b"\x0e" + b"A" * 4000)
        held.add(tracker.modes.pending)
    assert max(map(len, held)) <= HELD + 1
    assert len(held) == 2, "it does not change with every chunk"
    tracker.feed(b"\xc2")
    tracker.feed(b"\x9c\x0e\x1b[4h")
    assert tracker.modes == Modes(insert=True, shifted=True)


def test_a_soft_reset_leaves_the_screen_and_the_mouse():
    modes = tracked(
        b"\x1b[?1049h\x1b[?1002;1006h\x1b[?25l\x1b[?1;6h\x1b[31;4m\x1b[2;5r\x1b[!p"
    ).modes
    assert modes == Modes(screen=1049, mouse=1002, encoding=1006)
    assert tracked(RESET, modes=modes).modes == Modes()


def test_leaving_the_alternate_screen_brings_the_colours_back_that_were_saved():
    modes = tracked(b"\x1b[32m\x1b[?1049h\x1b[1;41m\x1b[?1049l").modes
    assert modes == Modes(colours=b"32", saved=(b"32", b""))


def test_each_screen_has_a_scroll_region_of_its_own():
    alternate = tracked(b"\x1b[1;5r\x1b[?1049h").modes
    assert alternate.region is None
    assert tracked(b"\x1b[2;9r\x1b[?1049h", modes=alternate).modes.region == (2, 9)
    assert tracked(b"\x1b[2;9r\x1b[?1049l", modes=alternate).modes.region is None


def test_colours_stay_short():
    tracker = Tracker()
    for n in range(256):
        tracker.feed(b"\x1b[38;2;%d;2;3m\x1b[48;5;%dm\x1b[1m\x1b[2;3m" % (n, n))
    assert tracker.modes.colours == b"1;2;3;38;2;255;2;3;48;5;255"
    tracker.feed(b"\x1b[38;2;" + b"1" * 5000 + b";0;0m\x1b[38;5m")
    tracker.feed(b"\x1b[22;23;39;49m")
    assert tracker.modes.colours == b""


def test_the_first_32_parameters_count(emulator):
    for count in (31, 32, 33):
        before = b"1;" * (count - 1)
        output = b"\x1b[%b4m\x1b[?%b2004h" % (before, before.replace(b"1", b"999"))
        emulator.write(RESET + b"\x1b[?2004l" + output)
        modes = tracked(output).modes
        assert (2004 in modes.private) == emulator.modes["bracketedPasteMode"] == (count < 33)
        assert modes.colours == (b"1;4" if count < 33 else b"1")


def test_a_scroll_region_ends_with_another_size():
    tracker = tracked(b"\x1b[2;5r")
    assert b"\x1b[2;5r" in tracker.modes.restore()
    tracker.resized()
    assert tracker.modes == Modes()


@pytest.mark.parametrize(
    ("output", "title"),
    [
        (b"\x1b]0;a title\x07", "a title"),
        (b"\x1b]2;a; title\x1b\\", "a; title"),
        (b"\xc2\x9d2;a title\xc2\x9c", "a title"),
        (b"\x1b]02;\xc3\xa9\xff\x01\x7f\x07", "\xe9\ufffd"),
        (b"\x1b]2;not this one\x18", ""),
        (b"\x1b]1;an icon\x07\x1b]22;a pointer\x07", ""),
        (b"\x1b]2;" + b"x" * 5000 + b"\x07", "x" * 1000),
    ],
)
def test_a_title_is_what_the_program_says_without_control_characters(output, title):
    assert tracked(output).title == title
    assert tracked(*(output[at : at + 1] for at in range(len(output)))).title == title


@pytest.mark.parametrize(
    ("output", "folder"),
    [
        (b"\x1b]7;file://host/home/me\x07", "/home/me"),
        (b"\x1b]7;file:///a%20b/%C3%A9%0A\x1b\\", "/a b/\xe9"),
        (b'\x1b]9;9;"C:\\Users"\x07', "C:\\Users"),
        (b"\x1b]9;a notification\x07\x1b]7;http://host/a\x07", ""),
    ],
)
def test_a_folder_is_the_path_of_its_url(output, folder):
    assert tracked(output).folder == folder


def test_the_keyboards_flags_are_a_stack_of_each_screen():
    modes = tracked(b"\x1b[=1u\x1b[>5u\x1b[?1049h\x1b[>1u\x1b[>31u\x1b[<u\x1b[=8;2u").modes
    assert modes.keyboard == ((1, 5), (0, 9))
    assert modes.restore().startswith(b"\x1b[=1u\x1b[>5u\x1b[?1049h\x1b[>9u")
    assert tracked(modes.restore()).modes.keyboard == modes.keyboard
    left = tracked(b"\x1b[<9u\x1b[?1049l\x1b[=1;3u", modes=modes).modes
    assert left.keyboard == ((1, 4), (0,))
    assert tracked(b"\x1b[>1u" * 1000).modes.keyboard[0] == (1,) * 8
    assert tracked(RESET, modes=modes).modes == Modes()


@pytest.mark.parametrize(
    ("output", "restored"),
    [
        (b"\x1b[>4;2m", b"\x1b[>4;2m"),
        (b"\x1b[>4;2m\x1b[>4m", b""),
        (b"\x1b[>1;3m\x1b[>4;1m", b"\x1b[>1;3m\x1b[>4;1m"),
        (b"\x1b[>1;3m\x1b[>4;1m\x1b[>m", b""),
        (b"\x1b[>4;1m\x1b[>4n", b"\x1b[>4n"),
        (b"\x1b[>4;1f", b"\x1b[>4;1f"),
        (b"\x1b[?9001;5522;45;67;2027h", b"\x1b[?45h\x1b[?67h\x1b[?2027h\x1b[?5522h\x1b[?9001h"),
    ],
)
def test_how_keys_are_reported_is_restored(output, restored):
    modes = tracked(output).modes
    begun = tracked(*(output[at : at + 1] for at in range(len(output)))).modes
    assert begun == modes
    again = modes.restore().replace(b"\x1b[?25h", b"").replace(b"\x1b[20l", b"")
    assert again == restored
    assert tracked(RESET, modes=modes).modes == Modes()


def test_colours_beside_the_keyboards_flags_are_read():
    modes = tracked(b"\x1b[31m\x1b[>1u\x1b[1m\x1b7\x1b[>4;2m\x1b[32m").modes
    assert (modes.colours, modes.saved[0]) == (b"1;32", b"1;31")
