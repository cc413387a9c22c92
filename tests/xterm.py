"""The terminal emulator that viewers have: the real xterm.js, without a window, in Node."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import npm
from node_client import node

HEADLESS = "@xterm/headless@6.0.0"
SERIALIZE = "@xterm/addon-serialize@0.14.0"
DRIVER = Path(__file__).parent / "xterm.js"

_NAMES = itertools.count()


class Emulator:
    """One terminal. What is asked is answered when all that was written before has been parsed.

    It blocks, and may be used as a context manager of either kind. Others can live in the process
    of the first: `with Emulator() as first, Emulator(beside=first) as second`.
    """

    def __init__(self, cols: int = 80, rows: int = 24, *, beside: Emulator | None = None) -> None:
        self._owns = beside is None
        self._process = beside._process if beside else _start()
        self._name = next(_NAMES)
        self._typed = b""
        self._copied: list[tuple[int, str]] = []
        self._order("open", cols=cols, rows=rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the terminal, and the process with the terminal that began it."""
        if not self._owns:
            self._order("close")
            return
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)

    def write(self, data: bytes) -> None:
        """Show output, as one message; where messages are cut matters to the decoder of UTF-8."""
        self._order("write", data=base64.b64encode(data).decode())

    def resize(self, cols: int, rows: int) -> None:
        """Change the size."""
        self._order("resize", cols=cols, rows=rows)

    def screen(self) -> list[str]:
        """Give the rows that are in view, without the blanks at their ends."""
        rows: list[str] = self._tell()["screen"]
        return rows

    @property
    def text(self) -> str:
        """What is in view, as one text without the empty rows below it."""
        return "\n".join(self.screen()).rstrip("\n")

    @property
    def cursor(self) -> tuple[int, int]:
        """The column and the row of the cursor, from 0."""
        column, row = self._tell()["cursor"]
        return column, row

    @property
    def alternate(self) -> bool:
        """Whether the alternate screen is in view."""
        return bool(self._tell()["alternate"])

    @property
    def modes(self) -> dict[str, Any]:
        """What xterm.js calls its modes, and `cursorVisible` and `cursorStyle`."""
        modes: dict[str, Any] = self._tell()["modes"]
        return modes

    @property
    def serialized(self) -> str:
        """All of it, with scrollback, colours and modes, as output that would make it again."""
        text: str = self._tell()["serialized"]
        return text

    def typed(self) -> bytes:
        """Give what it has typed by itself since this was last asked: answers to queries."""
        self._tell()
        typed, self._typed = self._typed, b""
        return typed

    def copied(self) -> list[tuple[int, str]]:
        """Give the control strings for the clipboard since this was last asked: number and text."""
        self._tell()
        copied, self._copied = self._copied, []
        return copied

    def _tell(self) -> dict[str, Any]:
        self._order("tell")
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "Node has ended"
        told: dict[str, Any] = json.loads(line)
        self._typed += base64.b64decode(told["typed"])
        self._copied += [(number, text) for number, text in told["copied"]]
        return told

    def _order(self, do: str, **order: Any) -> None:
        assert self._process.stdin
        line = json.dumps({"do": do, "name": self._name, **order})
        self._process.stdin.write(line.encode() + b"\n")


def _start() -> subprocess.Popen[bytes]:
    folders = [npm.package(wanted) for wanted in (HEADLESS, SERIALIZE)]
    return subprocess.Popen(
        [node(), DRIVER, *folders], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
