"""Terminals: what their programs write reaches every viewer, and what viewers say reaches them."""

from __future__ import annotations

import asyncio

import pytest
from viewers import Viewer


@pytest.fixture
def connect(running):
    """Connect viewers: `await connect(scope="read:*")`."""
    return lambda **token: Viewer.connect(running, **token)


SEQ = b"".join(b"%d\r\n" % number for number in range(1, 3001))


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
async def test_a_fast_exit_delivers_every_byte_and_then_the_end(connect, binary):
    viewer = await connect()
    for _ in range(60):
        viewer.output, viewer.events = b"", []
        await viewer.create("sh", "-c", "seq 1 3000; exit 3", binary=binary)
        end = await viewer.exit()
        assert viewer.output == SEQ
        assert (end["exitCode"], end["reason"]) == (3, "exited")
        assert [event["type"] for event in viewer.events][-1] == "shell.exit"


async def test_a_login_shell_answers(connect):
    viewer = await connect()
    await viewer.create()
    await viewer.type("echo $((20+22)) $TERM; stty size; tty; exit\r")
    end = await viewer.exit()
    assert b"42 xterm-256color" in viewer.output
    assert b"24 80" in viewer.output
    assert b"/dev/pts/" in viewer.output
    assert end["exitCode"] == 0
