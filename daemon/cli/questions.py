"""An agent's questions, answered at the terminal, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from daemon.cli.stdin import Stdin
from daemon.cli.view import summary

NOBODY = "nobody is there to be asked; it needs a terminal, --allow or --permission-mode"

Respond = Callable[[dict[str, Any]], Awaitable[None]]


class Questions:
    """Asks for one permission at a time; those that somebody else answers are dropped."""

    def __init__(self, stdin: Stdin | None, respond: Respond, note: Callable[[str], None]) -> None:
        """Ask at a terminal, or deny at once where there is none."""
        self._stdin = stdin
        self._respond = respond
        self._note = note
        self._open: dict[str, dict[str, Any]] = {}
        self._shown = ""
        self._more = asyncio.Event()

    @property
    def at_a_terminal(self) -> bool:
        """Tell whether somebody is asked."""
        return self._stdin is not None

    def ask(self, asked: dict[str, Any]) -> None:
        """Take a `session.permission_requested`."""
        self._open[asked["requestId"]] = asked
        self._show()
        self._more.set()

    def resolved(self, request_id: str, decision: str, *, here: bool) -> None:
        """Take a `session.permission_resolved`."""
        if self._open.pop(request_id, None) is not None and not here:
            self._note(f"  (answered elsewhere: {decision})")
        self._show()

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._open:
                answer = await self._answer()
                if answer is None:
                    self._stdin = None  # the terminal has gone: from now on nobody is there
                    continue
                if self._open:
                    request_id = next(iter(self._open))
                    del self._open[request_id]
                    self._show()
                    await self._respond({"requestId": request_id, **answer})

    async def _answer(self) -> dict[str, Any] | None:
        if self._stdin is None:
            self._note(f"  denied: {NOBODY}")
            return {"decision": "deny", "message": NOBODY}
        data, ended = await self._stdin.take()
        if ended and not data:
            return None
        word = data.decode(errors="replace").strip().lower()
        if word in ("a", "always"):
            return {"decision": "allow", "remember": True}
        return {"decision": "allow" if word in ("y", "yes") else "deny"}

    def _show(self) -> None:
        """Put the first open question before the person, once."""
        first = next(iter(self._open), "")
        if first and first != self._shown:
            if self._stdin is not None:
                self._stdin.forget()
            asked = self._open[first]
            about = summary(asked["toolName"], asked["input"])
            self._note(f"? {about}" + (" -- allow? [y]es, [N]o, [a]lways" if self._stdin else ""))
        self._shown = first
