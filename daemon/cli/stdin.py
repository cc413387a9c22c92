"""Our own standard input on its way to a program: read in a thread, taken in pieces by the loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import threading

READ = 64 << 10

HELD_BYTES = 512 << 10
"""What is held at the most; as base64 it fits into one message."""


class Stdin:
    """Reads ahead a little, since a file, a pipe and a terminal cannot all be polled."""

    def __init__(self) -> None:
        """Read nothing yet."""
        self._loop = asyncio.get_running_loop()
        self._held = bytearray()
        self._ended = False
        self._changed = threading.Condition()
        self._filled = asyncio.Event()

    def start(self) -> None:
        """Begin to read; the thread ends with the input, or with us."""
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    async def take(self, patience: float | None = None) -> tuple[bytes, bool]:
        """Wait for input and give all that is held; True when nothing comes after it.

        Nothing is given where none has come after so many seconds.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while True:
                    await self._filled.wait()
                    data, ended = self._taken()
                    if data or ended:  # else it was forgotten before we got here
                        return data, ended
        return self._taken()

    def _taken(self) -> tuple[bytes, bool]:
        with self._changed:
            self._filled.clear()
            data, self._held = bytes(self._held), bytearray()
            self._changed.notify()
            return data, self._ended

    def forget(self) -> None:
        """Drop what is held: it was typed before the question that it would answer."""
        with self._changed:
            self._held.clear()
            if not self._ended:
                self._filled.clear()
            self._changed.notify()

    def _read(self) -> None:
        while _in_foreground():
            chunk = _chunk()
            with self._changed:
                self._changed.wait_for(lambda: len(self._held) + READ <= HELD_BYTES)
                self._held += chunk
                self._ended = not chunk
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(self._filled.set)
            if not chunk:
                return


def _chunk() -> bytes:
    """Read what there is; a terminal that has gone, or a folder, is the end of the input."""
    while True:
        try:
            return os.read(0, READ)
        except BlockingIOError:  # somebody who shares it has made it so
            select.select([0], [], [])
        except OSError:
            return b""


def _in_foreground() -> bool:
    """Tell whether reading the terminal is allowed: a background job would be stopped by it."""
    try:
        return not os.isatty(0) or os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False
