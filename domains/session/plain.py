"""A session without turns: a command, its input exactly as it comes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from daemon.core.bus import EventBus
from daemon.core.errors import BadRequest, Conflict, Unavailable
from daemon.core.task import Task
from domains.session.agents.adapter import Invocation
from domains.session.commands import MessageAccepted, Session, SessionEnd
from domains.session.live import LiveSession
from domains.session.messages import Image

EARLY_BYTES = 1 << 20
"""Most input that waits for a program that is still queued."""


class PlainSession(LiveSession):
    """Hands on what is written to it; what comes before the program runs waits."""

    def __init__(
        self,
        session: Session,
        invocation: Invocation,
        *,
        bus: EventBus,
        save: Callable[[Session], None],
        gone: Callable[[Session, SessionEnd], None],
    ) -> None:
        """Begin queued, with the input that the invocation has."""
        super().__init__(session, bus=bus, save=save, gone=gone)
        self._invocation = invocation
        self._early = bytearray(invocation.first_input)
        self._ending = not invocation.keep_input

    def started(self, task: Task) -> None:
        """Tell that it runs, and hand it its first input."""
        super().started(task)
        if self.feed is not None:
            if self._early:
                self.feed.write(bytes(self._early))
            if self._ending:
                self.feed.end()
        self._early.clear()

    def accept(self, content: str, images: Sequence[Image]) -> MessageAccepted:
        """Send a message: a line of the program's input."""
        if images:
            raise BadRequest("a command takes no images")
        self.write(content.encode() if content.endswith("\n") else f"{content}\n".encode())
        return MessageAccepted(session_id=self.session.id, message_id=secrets.token_hex(6))

    def write(self, data: bytes, *, end: bool = False) -> None:
        """Write to the program's input, or keep it until that runs.

        Conflict when it has none, or no longer; Unavailable when too much waits.
        """
        if not self._invocation.keep_input:
            raise Conflict(
                "the session reads no input; create it with keepAlive to send more than the prompt"
            )
        if self.feed is None:
            self._keep(data, end=end)
            return
        if data:
            self.feed.write(data)
        if end:
            self.feed.end()

    def _keep(self, data: bytes, *, end: bool) -> None:
        if self._ending:
            raise Conflict("the session's input has ended")
        if len(self._early) + len(data) > EARLY_BYTES:
            raise Unavailable("the session is still queued and more does not fit; try again later")
        self._early += data
        self._ending = end
