"""The key that detaches: known however it is reported, and the program's when pressed twice."""

from __future__ import annotations

import pytest

from daemon.cli.detaching import AGAIN, ESCAPE, PASTE, REST, Detaching, detach_key
from daemon.core.errors import BadRequest

BEFORE, AFTER = b"typed \x1b[A", b"after"


def read(data, key="ctrl-]", *, at=None):
    """Read input at one moment, cut at one place; gives what passes, and the reader."""
    detaching = Detaching(detach_key(key))
    cut = len(data) if at is None else at
    passed = b"".join(detaching.feed(part, 0.0) for part in (data[:cut], data[cut:]) if part)
    return passed, detaching


def cuts(data):
    """Return data uncut, and cut at every place."""
    return (None, *range(1, len(data)))


RIGHT = [
    ("ctrl-]", b"\x1d"),
    ("ctrl-]", b"\x1b[93;5u"),
    ("ctrl-]", b"\x1b[93;133:1u"),
    ("ctrl-]", b"\x1b[93::93;69u"),
    ("ctrl-]", b"\x1b[93:125;5;29u"),
    ("ctrl-]", b"\x1b[1098::93;5:1u"),
    ("ctrl-]", b"\x1b[27;5;93~"),
    ("ctrl-]", b"\x1b[221;27;29;1;8;1_"),
    ("ctrl-\\", b"\x1c"),
    ("ctrl-\\", b"\x1b[92;5u"),
    ("ctrl-a", b"\x01"),
    ("ctrl-a", b"\x1b[97;69u"),
    ("ctrl-a", b"\x1b[27;5;97~"),
    ("ctrl-^", b"\x1b[54:94;6u"),
    ("ctrl-^", b"\x1b[27;6;94~"),
    ("ctrl-space", b"\0"),
    ("ctrl-@", b"\x1b[32;5u"),
]


@pytest.mark.parametrize(("key", "pressed"), RIGHT)
def test_the_key_is_known_in_every_protocol_and_cut_anywhere(key, pressed):
    for at in cuts(BEFORE + pressed):
        passed, detaching = read(BEFORE + pressed, key, at=at)
        assert (passed, detaching.left) == (BEFORE, False)
        assert 0 < detaching.patience(0.1) < AGAIN
        assert detaching.give_up() == b""
        assert detaching.left


@pytest.mark.parametrize(("key", "pressed"), RIGHT)
def test_pressed_twice_the_program_gets_it_once(key, pressed):
    typed = BEFORE + pressed * 2 + AFTER
    for at in cuts(typed):
        passed, detaching = read(typed, key, at=at)
        assert (passed, detaching.left) == (BEFORE + pressed + AFTER, False)
        assert detaching.patience(0.0) is None


@pytest.mark.parametrize(("key", "pressed"), RIGHT)
def test_another_key_after_it_detaches_at_once_and_goes_nowhere(key, pressed):
    typed = BEFORE + pressed + AFTER
    for at in cuts(typed):
        passed, detaching = read(typed, key, at=at)
        assert (passed, detaching.left) == (BEFORE, True)


@pytest.mark.parametrize(
    "other",
    [
        b"]",
        b"\x1b[93u",
        b"\x1b[93;5:2u",
        b"\x1b[93;5:3u",
        b"\x1b[91;5u",
        b"\x1b[93;6u",
        b"\x1b[93;7u",
        b"\x1b[27;7;93~",
        b"\x1b[27;5;92~",
        b"\x1b[93;5~",
        b"\x1b[221;27;29;0;8;1_",
        b"\x1b[?93;5u",
        b'\x1b[M !"',
        b"\x1b]11;rgb:00/00/00\x07",
        "é \x1c".encode(),
    ],
)
def test_other_keys_pass_as_they_are(other):
    for at in cuts(other):
        passed, detaching = read(other, at=at)
        assert (passed, detaching.patience(0.0), detaching.left) == (other, None, False)


def test_what_a_terminal_reports_between_two_presses_is_no_key():
    up, ctrl = b"\x1b[93;5:3u", b"\x1b[57442;5u"
    told = b"\x1b[<35;10;10M\x1b[I\x1b[?2026;1$y"
    typed = b"\x1b[93;5u" + up + ctrl + told + b"\x1b[93;5u" + up
    for at in cuts(typed):
        passed, detaching = read(typed, at=at)
        assert not detaching.left
        assert passed == ctrl + told + b"\x1b[93;5u" + up


def test_what_is_pasted_never_detaches_and_waits_for_nothing():
    paste = b"\x1b[200~one \x1d two \x1b[93;5u \x1b[20\x1b[201~"
    for at in cuts(paste):
        passed, detaching = read(paste + b"\x1d", at=at)
        assert (passed, detaching.left) == (paste, False)
        assert detaching.give_up() == b""
        assert detaching.left
    detaching = Detaching(detach_key("ctrl-]"))
    assert detaching.feed(b"\x1b[200~\x1d\x1b[201", 0.0) == b"\x1b[200~\x1d\x1b[201"
    assert detaching.feed(b"~", 0.0) == b"~"
    assert detaching.feed(b"\x1d", 0.0) == b""


def test_after_a_paste_without_an_end_the_key_works_again():
    detaching = Detaching(detach_key("ctrl-]"))
    assert detaching.feed(b"\x1b[200~\x1d", 1.0) == b"\x1b[200~\x1d"
    assert detaching.patience(2.0) == PASTE - 1
    assert detaching.give_up() == b""
    assert detaching.feed(b"\x1d", 9.0) == b""
    assert not detaching.left


def test_the_escape_key_and_half_a_sequence_wait_only_for_a_moment():
    for begun, patience in ((b"\x1b", ESCAPE), (b"\x1b[", REST), (b"\x1b[93;", REST)):
        detaching = Detaching(detach_key("ctrl-]"))
        assert detaching.feed(b"x" + begun, 0.0) == b"x"
        assert detaching.patience(0.0) == patience
        assert detaching.give_up() == begun
        assert detaching.patience(0.0) is None


def test_with_none_nothing_detaches():
    key = detach_key("none")
    detaching = Detaching(key)
    assert detaching.feed(b"\x1d\x1d\x1b", 0.0) == b"\x1d\x1d\x1b"
    assert (detaching.patience(0.0), detaching.left, key.name) == (None, False, "no key")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("ctrl-]", "Ctrl-]"),
        ("CTRL+A", "Ctrl-A"),
        ("^z", "Ctrl-Z"),
        ("c-\\", "Ctrl-\\"),
        (" ctrl-space", "Ctrl-@"),
        ("None", "no key"),
    ],
)
def test_a_key_has_the_names_that_people_give_it(given, name):
    assert detach_key(given).name == name


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("ctrl-i", "Tab"),
        ("Ctrl-M", "Return"),
        ("^[", "Escape"),
        ("ctrl-h", "Backspace"),
        ("ctrl-?", "Backspace"),
        ("ctrl-p,ctrl-q", "such as ctrl-]"),
        ("ctrl-1", "such as ctrl-]"),
        ("ctrl-ß", "such as ctrl-]"),
        ("]", "such as ctrl-]"),
        ("", "such as ctrl-]"),
    ],
)
def test_what_cannot_detach_is_refused_with_a_sentence(given, told):
    with pytest.raises(BadRequest, match=told.replace("]", r"\]")):
        detach_key(given)
