"""Our own standard input, where a test can say when it comes."""

from __future__ import annotations

import asyncio

from daemon.cli.stdin import Stdin


async def test_what_was_forgotten_answers_nothing():
    stdin = Stdin()
    taking = asyncio.ensure_future(stdin.take())
    await asyncio.sleep(0)
    stdin._held += b"typed before\n"
    stdin._filled.set()
    stdin.forget()
    await asyncio.sleep(0)
    assert not taking.done()
    stdin._held += b"y\n"
    stdin._filled.set()
    async with asyncio.timeout(30):
        assert await taking == (b"y\n", False)
