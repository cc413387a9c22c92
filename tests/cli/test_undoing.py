"""What a program has switched on is switched off, and what was on before it stays."""

from __future__ import annotations

import pytest

from daemon.cli.undoing import Undoing

RESTORE = b"(restore)"


def undone(output, *, ours=True):
    whole, parts = Undoing(), Undoing()
    whole.feed(output)
    for at in range(len(output)):
        parts.feed(output[at : at + 1])
    told = whole.undo(RESTORE, ours=ours)
    assert parts.undo(RESTORE, ours=ours) == told
    return told.removeprefix(b"\x1b\\")


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (b"text\x1b[1m", b"(restore)\x1b[<1u"),
        (b"\x1b[>1u\x1b[>5u", b"(restore)\x1b[<3u"),
        (b"\x1b[=5u", b"(restore)\x1b[<1u"),
        (b"\x1b[>1u\x1b[<9u", b"(restore)\x1b[<1u"),
        (b"\x1b[?1049h\x1b[>5u", b"\x1b[<1u(restore)\x1b[<1u"),
        (b"\x1b[?1049h\x1b[=5u", b"\x1b[=0u(restore)\x1b[<1u"),
        (
            b"\x1b[?1049h\x1b[>5u\x1b[?1049l",
            b"(restore)\x1b7\x1b[?47h\x1b[<1u\x1b[?47l\x1b8\x1b[<1u",
        ),
        (b"\x1b[?2031;2048h\xc2\x9b?45h", b"(restore)\x1b[<1u\x1b[?45l\x1b[?2031l\x1b[?2048l"),
        (b"\x1b[?2031h\x1b[?2031l\x1b[?1036h\x1b[?8l\x1b[?3h", b"(restore)\x1b[<1u\x1b[?8h"),
        (b"\x1b[>4;2m\x1b[>4;1f\x1b[>1n", b"(restore)\x1b[<1u\x1b[>4f\x1b[>1m\x1b[>4m"),
        (
            b"\x1b]4;1;red;2;?;3;blue\x07\x1b]11;#000;red\x1b\\\x1b]10;?\x07",
            b"(restore)\x1b[<1u\x1b]111\x1b\\\x1b]112\x1b\\\x1b]104;1\x1b\\\x1b]104;3\x1b\\",
        ),
        (b"\x1b]9;4;1;50\x07", b"(restore)\x1b[<1u\x1b]9;4;0\x1b\\"),
        (b"\x1b[?2031h\x1b[>1u\x1bc", b"(restore)\x1b[<1u"),
        (b"\x1b]2;[?2031h\x07\x1bP[?2031h\x1b\\", b"(restore)\x1b[<1u"),
    ],
)
def test_what_was_switched_on_is_switched_off_where_it_was(output, told):
    assert undone(output) == told


def test_nothing_is_undone_twice_and_ours_stays_until_the_end():
    undoing = Undoing()
    undoing.feed(b"\x1b[?2031h\x1b[>1u")
    assert undoing.undo(b"", ours=False) == b"\x1b\\\x1b[<1u\x1b[?2031l"
    assert undoing.undo(b"", ours=True) == b"\x1b\\\x1b[<1u"
