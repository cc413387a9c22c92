"""A mebibyte of the worst output for a terminal's parsers: others keep their turns of the loop."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest
from loop_watch import allowed, least_held
from support import Running

from domains.shell.clipboard import ClipboardFilter
from domains.shell.modes import Tracker

MIB = 1 << 20

PIECES = {
    "open OSC": b"\x1b]0;" + b"x" * 5000,
    "OSC begun again": b"\x1b]",
    "DCS begun again": b"\x1bP",
    "APC begun again": b"\x1b_G",
    "escapes": b"\x1b",
    "endless parameters": b"\x1b[" + b"1;" * 5000,
    "endless private modes": b"\x1b[?" + b"1004;" * 5000,
    "private modes of another end": b"\x1b[?" + b"1004;" * 5000 + b"p",
    "words of OSC": b"\x1b]x",
    "modes": b"\x1b[?1004;2004;1006h\x1b[?1004l",
    "screens": b"\x1b[?1049h\x1b[31m\x1b[?1049l",
    "saved cursors": b"\x1b7a\x1b8",
    "keyboard flags": b"\x1b[>5u\x1b[>4;2m\x1b[<u",
    "clipboard": b"\x1b]52;c;" + b"QUJD" * 500 + b"\x07",
    "titles": b"\x1b]2;t\x07",
    "a title of a mebibyte": b"\x1b]2;" + b"t" * (MIB - 5) + b"\x07",
    "queries": b"\x1b[c\x1b[6n\x1b[>q\x1b]11;?\x07",
    "bells": b"\x07",
    "half characters": b"\xf0\x9f\xff\xc3",
    "C1": b"\xc2\x9b1;2m\xc2\x9d0;x\xc2\x9c",
    "colours": b"\x1b[38;2;1;2;3m",
    "shifts": b"\x0e\x0f",
    "passthrough": b"\x1bPtmux;\x1b\x1b]52;c;QQ==\x07\x1b\\",
    "newlines": b"\n",
    "nothing": b"\0",
}


def written(name: str) -> bytes:
    piece = PIECES[name]
    return piece * max(1, MIB // len(piece))


@pytest.mark.parametrize("name", PIECES)
async def test_output_of_every_hostile_kind_leaves_others_their_turns(start_daemon, tmp_path, name):
    running = await start_daemon(debug=False)
    (tmp_path / "hostile").write_bytes(written(name))
    command = ["sh", "-c", f"stty raw -echo; cat '{tmp_path}/hostile'; printf '\\033\\\\end'"]
    async with running.client() as client:

        async def shown():
            made = await client.call("shell.create", {"command": command, "cols": 80, "rows": 24})
            channel = f"shell:terminal:{made['terminalId']}"
            async with asyncio.timeout(60):
                async for message in client.subscribe(channel, since=0):
                    if message.type == "shell.exit":
                        break
            for _ in range(3):  # viewers that come later see its screen
                await _looked(running, channel)

        _, held = await least_held(shown)
    assert held.seconds < allowed()
    assert held.bytes < 100 * MIB


async def _looked(running: Running, channel: str) -> None:
    """Attach as a viewer that knows nothing, and read its first frame."""
    viewer = await running.ws()
    await viewer.send("subscribe", {"encoding": "binary"}, channel=channel)
    async with asyncio.timeout(30):
        while (await viewer.raw.receive()).type is not aiohttp.WSMsgType.BINARY:
            pass
    await viewer.raw.close()


@pytest.mark.parametrize("name", PIECES)
def test_a_byte_at_a_time_costs_no_more_than_linear_time(name):
    def took(size: int) -> float:
        tracker, clipboard = Tracker(), ClipboardFilter()
        began = time.thread_time()
        for byte in written(name)[:size]:
            tracker.feed(clipboard.feed(bytes((byte,))))
        return time.thread_time() - began

    assert min(took(40_000) for _ in range(3)) < 8 * min(took(10_000) for _ in range(3)) + 0.05
