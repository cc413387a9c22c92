"""Our own terminal: raw, written to by a thread, and brought back from whatever was made of it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import select
import sys
import termios
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import standing_in_for
from xterm import Emulator

from daemon.cli import tty as ours
from daemon.cli.tty import RESTORE, Screen, Tty


@contextmanager
def at_terminal():
    """Have standard input and output be a terminal; gives its other side and a descriptor of it."""
    other, own = pty.openpty()
    fcntl.ioctl(own, termios.TIOCSWINSZ, b"\x14\x00\x5a\x00" + bytes(4))
    with standing_in_for(0, own), standing_in_for(1, own):
        yield other, own
    os.close(own)
    os.close(other)


def test_it_is_raw_only_where_both_ends_are_a_terminal():
    reader, writer = os.pipe()
    with at_terminal() as (_, own):
        tty = Tty()
        assert tty.size() == (90, 20)
        before = termios.tcgetattr(own)
        with tty.raw():
            assert not termios.tcgetattr(own)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
        assert termios.tcgetattr(own) == before
        for number, end in ((0, reader), (1, writer)):
            with standing_in_for(number, end):
                piped = Tty()
                assert (piped.interactive, piped.shows) == (False, number == 0)
                with piped.raw():
                    pass
    os.close(reader)
    os.close(writer)


CRASH = """
import sys
from daemon.cli.tty import Tty
with Tty().raw():
    sys.stdout.write("raw")
    sys.stdout.flush()
    raise LookupError
"""


def test_a_failure_of_ours_leaves_it_as_it_was():
    pid, fd = pty.fork()
    if pid == 0:
        script = 'a=$(stty -g); "$@"; [ "$a" = "$(stty -g)" ] && echo as before; read x'
        os.execvp("sh", ["sh", "-c", script, "sh", sys.executable, "-c", CRASH])
    seen = b""
    while b"as before" not in seen:
        seen += os.read(fd, 65536)
    assert b"rawTraceback" in seen
    assert b"LookupError" in seen
    os.close(fd)
    os.waitpid(pid, 0)


MADE = (
    b"\x1b[?1049h\x1b[2;5r\x1b[?6h\x1b[4h\x1b[?1003h\x1b[?1006h\x1b[?1004h\x1b[?2004h\x1b[?1h\x1b=\x1b[?25l"
    b"\x1b[?7l\x1b[31;44m\x1b(0\x1b[6 q\x1b[?2026h\x1b]0;half a ti"
)


@pytest.fixture(scope="module")
def first():
    with Emulator(40, 6) as emulator:
        yield emulator


@pytest.fixture
def emulator(first):
    with Emulator(40, 6, beside=first) as emulator:
        yield emulator


def test_what_a_program_has_made_of_the_terminal_is_undone_and_what_it_shows_stays(emulator):
    emulator.write(b"$ agentcmd shell\r\n")
    untouched = emulator.modes
    emulator.write(b"now> vi\r\n" + MADE)
    assert emulator.alternate
    assert emulator.modes != untouched
    assert emulator.typed() == b"\x1b[I"  # it asked to hear who has the focus
    emulator.write(RESTORE)
    assert not emulator.alternate
    assert emulator.modes == untouched
    assert emulator.cursor == (0, 2)
    emulator.write(b"lq plain\r\n")
    assert emulator.text == "$ agentcmd shell\nnow> vi\nlq plain"
    assert not re.search(r"\x1b\[[\d;?]*[hlmr]", emulator.serialized)
    assert emulator.typed() == b""


def test_where_nothing_was_made_of_it_nothing_moves(emulator):
    emulator.write(b"one\r\ntwo\r\nthr")
    emulator.write(RESTORE + b"ee")
    assert emulator.text == "one\ntwo\nthree"


def test_the_beginning_of_another_screen_pushes_up_what_is_here_and_erases_nothing(emulator):
    with at_terminal():
        tty = Tty()
    tty.size = lambda: (40, 6)
    emulator.write(b"".join(b"line %d\r\n" % number for number in range(8)))
    emulator.write(tty.beginning(b"\x1bc\x1b[?2004h", first=True) + b"now> ")
    assert emulator.text.rstrip() == "now>"
    assert emulator.cursor == (5, 0)
    assert emulator.modes["bracketedPasteMode"]
    assert [line for line in emulator.serialized.splitlines() if "line" in line] == [
        f"line {number}" for number in range(8)
    ]
    emulator.write(tty.beginning(b"\x1bc", first=False) + b"anew> ")
    assert emulator.text.rstrip() == "anew>"
    assert not emulator.modes["bracketedPasteMode"]


def test_where_output_is_no_terminal_nothing_is_begun():
    with Path(os.devnull).open("wb") as file, standing_in_for(1, file.fileno()):
        assert Tty().beginning(b"\x1bc\x1b[?2004h", first=True) == b""


async def test_what_is_shown_comes_in_order_and_the_last_at_the_end():
    with at_terminal() as (other, _):
        screen = Screen()
        await screen.show(b"one ")
        screen.say(b"two ")
        await screen.show(b"three\n")
        assert not screen.midline
        screen.close(b"last")
        shown = b"one two three\r\nlast"
        seen = b""
        while len(seen) < len(shown):  # a terminal gives it in as many pieces as it likes
            seen += os.read(other, 100)
        assert seen == shown
        assert not screen.midline


async def test_a_terminal_that_takes_nothing_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(ours, "PATIENCE", 0.1)
    with at_terminal() as (other, own):
        screen = Screen()
        stuck = asyncio.ensure_future(screen.show(b"x" * 200_000))
        await asyncio.sleep(0)
        while select.select([], [own], [], 0)[1]:
            await asyncio.sleep(0.01)
        assert not stuck.done()
        begun = time.monotonic()
        screen.close(b"the last")
        assert time.monotonic() - begun < 5
        seen = b""
        while not seen.endswith(b"the last"):
            assert select.select([other], [], [], 5)[0]
            seen += os.read(other, 65536)
        assert len(seen) < 100_000
        stuck.cancel()


async def test_one_that_nobody_reads_any_more_is_an_error():
    reader, writer = os.pipe()
    os.close(reader)
    with standing_in_for(1, writer):
        screen = Screen()
        with pytest.raises(BrokenPipeError):
            await screen.show(b"anything")
        screen.close(b"last")
    os.close(writer)
