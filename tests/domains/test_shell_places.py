"""A terminal knows where it is shown, and how large it is there in pixels."""

from __future__ import annotations

import sys

import pytest
from viewers import Viewer

SIZE = "import fcntl,struct,termios; "
SIZE += "print(struct.unpack('HHHH', fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))))"
WAIT = "import signal\nsignal.signal(28, lambda *_: exec(SIZE))\n"
WAIT += f"{SIZE}\nwhile 1: signal.pause()"


@pytest.fixture
def connect(running):
    """Connect viewers."""
    return lambda **token: Viewer.connect(running, **token)


async def test_a_program_knows_in_which_terminal_it_is(connect):
    viewer = await connect()
    await viewer.create(
        "sh", "-c", "echo =$AGENTCMD_TERMINAL=", env={"AGENTCMD_TERMINAL": "another"}
    )
    await viewer.exit()
    assert viewer.output == b"=%b=\r\n" % viewer.id.encode()


async def test_a_terminal_is_not_shown_in_itself_at_any_depth(connect):
    first, second, third = [await (await connect()).create("cat") for _ in range(3)]

    async def show(viewer, which, within):
        return await viewer.call("shell.get", {"terminalId": which, "within": within})

    answer = await show(await connect(), first.id, first.id)
    assert answer["data"]["code"] == "conflict"
    assert "show itself" in answer["data"]["message"]
    assert (await show(second, second.id, first.id))["type"] == "shell.get.ok"
    assert (await show(third, third.id, second.id))["type"] == "shell.get.ok"
    assert (await show(await connect(), second.id, third.id))["data"]["code"] == "conflict"
    assert (await show(await connect(), first.id, third.id))["data"]["code"] == "conflict"
    assert (await show(await connect(), third.id, first.id))["type"] == "shell.get.ok"


async def test_pixels_reach_the_program(connect):
    viewer = await connect()
    program = f"SIZE = {SIZE!r}\n{WAIT}"
    await viewer.create(sys.executable, "-uc", program, xpixel=640, ypixel=480)
    await viewer.until(b"(24, 80, 640, 480)")
    resized = {"terminalId": viewer.id, "cols": 80, "rows": 24, "xpixel": 800, "ypixel": 600}
    assert (await viewer.call("shell.resize", resized))["type"] == "shell.resize.ok"
    await viewer.until(b"(24, 80, 800, 600)")
    told = (await viewer.call("shell.get", {"terminalId": viewer.id}))["data"]["terminal"]
    assert (told["xpixel"], told["ypixel"]) == (800, 600)
    answer = await viewer.call("shell.resize", {**resized, "xpixel": 65536})
    assert answer["data"]["code"] == "bad_request"
