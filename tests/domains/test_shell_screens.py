"""Re-attachment, as a real emulator shows it: xterm.js, fed with what viewers get."""

from __future__ import annotations

import asyncio
import shutil
import sys

import pytest
from viewers import Viewer
from xterm import Emulator

from daemon.core.frames import read_output

DRAWING = r"""
import os, sys, termios, tty
tty.setraw(0)
out = lambda text: (sys.stdout.write(text), sys.stdout.flush())
out("\x1b[?1049h\x1b[?2004h\x1b[?1h\x1b[2J")
for row in range(1, 24):
    out(f"\x1b[{row};{row}H\x1b[3{row % 8}mrow {row}\x1b[m")
out("\x1b[24;1Hready")
count = 0
while (key := os.read(0, 1)) != b"q":
    count += 1
    out(f"\x1b[12;40H{count}:{key.decode()}\x1b[24;6H")
out("\x1b[?1l\x1b[?2004l\x1b[?1049l")
"""
"""A full-screen program that draws its screen once."""


@pytest.fixture
def connect(running):
    return lambda **token: Viewer.connect(running, **token)


@pytest.fixture(scope="module")
def emulators():
    """Make emulators that share one process."""
    with Emulator() as first:
        yield lambda: Emulator(beside=first)


class Screen:
    """A viewer and the emulator that shows what it gets."""

    def __init__(self, viewer, emulator):
        self.viewer, self.emulator = viewer, emulator
        self._shown = 0

    def show(self):
        new = bytes(self.viewer.output[self._shown :])
        self._shown = len(self.viewer.output)
        self.emulator.write(new)
        return self.emulator

    async def until(self, condition, timeout=30.0):
        """Take output until the screen is as wanted."""
        async with asyncio.timeout(timeout):
            while not condition(self.show()):
                await self.viewer.take(timeout)


def look(emulator):
    return emulator.screen(), emulator.cursor, emulator.alternate


def modes(screen):
    """Give the modes but for focus reports: a replay that turned them on would type one at once."""
    return {name: on for name, on in screen.emulator.modes.items() if name != "sendFocusMode"}


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text"
    path.write_text("".join(f"line {number} of the text\n" for number in range(1, 5001)))
    return path


def program_of(name, path):
    if name == "drawing":
        return [sys.executable, "-c", DRAWING], "ready"
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on this machine")
    extra = {"vim": ["-u", "NONE", "-N", "-n", "+set ruler"], "less": []}[name]
    return [found, *extra, str(path)], "line 20 of the text"


KEYS = {"drawing": ("abc", "3:c"), "vim": ("\x06\x06ihere\x1b", "here"), "less": ("  ", "line 60 ")}


@pytest.mark.parametrize("name", KEYS)
async def test_a_screen_is_back_after_detaching_and_attaching(connect, emulators, text_file, name):
    command, ready = program_of(name, text_file)
    keys, then = KEYS[name]
    first = Screen(await connect(), emulators())
    await first.viewer.create(*command)
    await first.until(lambda screen: ready in screen.text)
    await first.viewer.type(keys)
    await first.until(lambda screen: then in screen.text)
    await first.viewer.raw.close()
    second = Screen(await connect(), emulators())
    await second.viewer.follow(first.viewer.id)
    await second.until(lambda screen: look(screen) == look(first.emulator))
    assert modes(second) == modes(first)
    assert second.emulator.typed() == b""
    assert second.viewer.output.startswith(b"\x1bc")


async def test_a_screen_whose_beginning_is_gone_is_drawn_anew(start_daemon, emulators, text_file):
    running = await start_daemon(SHELL__RING_BYTES=str(256 << 10))
    command, ready = program_of("vim", text_file)
    first = Screen(await Viewer.connect(running), emulators())
    await first.viewer.create(*command)
    await first.until(lambda screen: ready in screen.text)
    while first.viewer.next_byte < 600_000:
        await first.viewer.type("\x06" * 40 + "gg")
        await first.viewer.take()
    await first.viewer.type("50Gzt")
    await first.until(lambda screen: screen.text.startswith("line 50 of"))
    second = Screen(await Viewer.connect(running), emulators())
    await second.viewer.follow(first.viewer.id)
    await first.until(lambda _: first.viewer.told("shell.resized") == [])
    await second.until(lambda screen: look(screen) == look(first.show()))
    assert second.emulator.alternate
    assert second.viewer.start == 0
    assert second.viewer.jumps[0][1] > 0


QUERIES = "\\033[c\\033[>c\\033[6n\\033[5n\\033]11;?\\033\\\\\\033[?2026\\$p\\005done"


async def test_a_fresh_attach_answers_no_query_of_the_past(connect, emulators):
    first = await connect()
    await first.create("sh", "-c", f"stty raw -echo; printf '{QUERIES}'; exec cat")
    await first.until(b"done")
    told = emulators()
    told.write(bytes(first.output))
    assert told.typed() != b""
    second = Screen(await connect(), emulators())
    await second.viewer.follow(first.id)
    await second.until(lambda screen: "done" in screen.text)
    typed = second.emulator.typed()
    assert typed == b""
    await second.viewer.type("mine")
    await first.until(b"mine")
    assert first.output.endswith(b"donemine")


async def test_a_resumed_viewer_gets_exactly_the_bytes_that_it_has_missed(connect):
    first = await connect()
    await first.create("sh", "-c", "stty raw -echo; printf 'one\\033[6ntwo'; exec cat")
    await first.until(b"two")
    for since in range(len(first.output) + 1):
        second = await connect()
        told = await second.follow(first.id, since=since)
        assert (told["recovered"], told["offset"]) == (True, len(first.output))
        await second.call("ping")
        if since < len(first.output):
            await second.until(b"two"[-(len(first.output) - since) :])
        assert second.output == first.output[since:]
        await second.raw.close()
    second = await connect()
    told = await second.follow(first.id, since=len(first.output) + 1)
    assert told["recovered"] is False


async def test_frames_say_where_their_bytes_are_and_whose_they_are(connect):
    viewer = await connect()
    answer = await viewer.call("shell.create", {"command": ["printf", "hello"]})
    viewer.id = answer["data"]["terminalId"]
    answer = await viewer.call(
        "subscribe", {"encoding": "binary", "since": 0}, channel=viewer.channel
    )
    assert answer["data"]["epoch"]
    await viewer.exit()
    assert (viewer.output, viewer.jumps) == (b"hello", [])
    assert read_output(b"\x01\x02" + bytes(10)) is None
