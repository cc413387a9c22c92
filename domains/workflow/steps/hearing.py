"""What a step hears of its agent: what it says, does and asks for, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec

from daemon.core.bus import EventBus
from daemon.core.text import TextStream
from domains.workflow.events import StepOutput
from domains.workflow.live import LiveRun

ENDS = ("session.completed", "session.error", "session.cancelled")

TELLING = ("command", "file_path", "path", "pattern", "url", "query", "description", "prompt")
"""What says most of a tool's input, the best first."""

SUMMARY = 120
"""Characters of it that are told."""

Ending = asyncio.Future[tuple[str, dict[str, Any]]]
"""The name and the data of the event that a session ends with."""


class Hearing:
    """What one step hears of one session; it is told as the step's output, as text."""

    def __init__(self, live: LiveRun, step_id: str, session_id: str) -> None:
        """Hear nothing yet."""
        self.ended: Ending = asyncio.get_running_loop().create_future()
        self._live = live
        self._step_id = step_id
        self._session_id = session_id
        self._text = TextStream(self._tell)
        self._written = 0
        self._asked: set[str] = set()
        self._waiting = ExitStack()

    def message(self, event: Any) -> None:
        """Take what the agent says and which tools it uses; its helpers' part is the session's."""
        message = event.message
        if message.role != "assistant" or message.parent_tool_use_id is not None:
            return
        for block in msgspec.json.decode(msgspec.json.encode(message.content)):
            if block["type"] == "text":
                self._say(block["text"].rstrip("\n"))
            elif block["type"] == "tool_use":
                self._say(f"* {summary(block['name'], block['input'])}")

    def asked(self, event: Any) -> None:
        """Take a question; the run waits for its answer, and tells how to give it."""
        about = summary(event.tool_name, msgspec.json.decode(event.input))
        how = f"agentcmd session approve {self._session_id}"
        self._live.annotate(f"it asks ({how}): {about}", "warning", self._step_id)
        if not self._asked:
            self._waiting.enter_context(self._live.waiting())
        self._asked.add(event.request_id)

    def answered(self, event: Any) -> None:
        """Learn that a question waits no longer."""
        self._asked.discard(event.request_id)
        if not self._asked:
            self._waiting.close()

    def end(self, name: str, data: dict[str, Any]) -> None:
        """Take the end; the first one counts."""
        if not self.ended.done():
            self.ended.set_result((name, data))

    def close(self) -> None:
        """Hear no more."""
        self._text.close()
        self._waiting.close()

    def _say(self, line: str) -> None:
        self._text.feed(f"{line}\n".encode("utf-8", "replace"))

    def _tell(self, text: str) -> None:
        offset, self._written = self._written, self._written + len(text.encode())
        self._live.bus.emit(
            StepOutput(
                run_id=self._live.run.id,
                step_id=self._step_id,
                stream="text",
                content=text,
                offset=offset,
                session_id=self._session_id,
                attempt=self._live.timeline[self._step_id].attempt,
            )
        )


class Hearings:
    """What all steps hear."""

    def __init__(self, bus: EventBus) -> None:
        """Hear this bus."""
        self._of: dict[str, list[Hearing]] = {}
        for name in ENDS:
            bus.on(name, self._listener(name), as_data=True)
        bus.on("session.message", self._each(Hearing.message))
        bus.on("session.permission_requested", self._each(Hearing.asked))
        bus.on("session.permission_resolved", self._each(Hearing.answered))

    @contextmanager
    def of(self, live: LiveRun, step_id: str, session_id: str) -> Iterator[Hearing]:
        """Hear a session while this is open."""
        hearing = Hearing(live, step_id, session_id)
        self._of.setdefault(session_id, []).append(hearing)
        try:
            yield hearing
        finally:
            self._of[session_id].remove(hearing)
            if not self._of[session_id]:
                del self._of[session_id]
            hearing.close()

    def _each(self, take: Callable[[Hearing, Any], None]) -> Callable[[Any], None]:
        def hear(event: Any) -> None:
            for hearing in self._of.get(event.session_id, ()):
                take(hearing, event)

        return hear

    def _listener(self, name: str) -> Callable[[dict[str, Any]], None]:
        def hear(data: dict[str, Any]) -> None:
            for hearing in self._of.get(data["sessionId"], ()):
                hearing.end(name, data)

        return hear


def summary(tool: str, given: Any) -> str:
    """Say in one line what a tool is to do."""
    fields = given if isinstance(given, dict) else {}
    about = next((fields[name] for name in TELLING if isinstance(fields.get(name), str)), "")
    line = " ".join(f"{tool}: {about}".split())
    return line if len(line) <= SUMMARY else f"{line[:SUMMARY]}..."
