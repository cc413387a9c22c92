"""A session with an agent: turns, a queue of messages, questions, and what it all has used."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from daemon.core.bus import EventBus
from daemon.core.errors import AgentcmdError, Conflict, NotFound, Unavailable
from daemon.core.lines import Lines
from daemon.core.task import Task
from domains.session.agents.adapter import Decision, Dialogue
from domains.session.agents.facts import (
    Asked,
    Began,
    Delta,
    Fact,
    NoProtocol,
    Notice,
    Said,
    TurnEnded,
    Withdrawn,
)
from domains.session.archive import Archive
from domains.session.commands import MessageAccepted, Session, SessionEnd
from domains.session.events import (
    MessageDelta,
    PermissionRequested,
    PermissionResolved,
    SessionMessage,
    SessionUpdated,
    SessionUsage,
    TurnCompleted,
)
from domains.session.images import as_told, require_room
from domains.session.live import LiveSession
from domains.session.messages import NO_USAGE, Block, Image, Message, Permission, Text
from domains.session.pieces import Pieces
from domains.session.ports import SessionSettings

LAST_WORDS = 500
"""Bytes of standard error that the message of an unexpected end repeats."""


@dataclass(frozen=True, slots=True)
class Words:
    """A message of the user's that waits for its turn."""

    id: str
    content: str
    images: Sequence[Image] = ()


class Conversation(LiveSession):
    """Drives one process of an agent from turn to turn."""

    def __init__(
        self,
        session: Session,
        dialogue: Dialogue,
        *,
        first: Sequence[Words],
        settings: SessionSettings,
        archive: Archive,
        bus: EventBus,
        save: Callable[[Session], None],
        gone: Callable[[Session, SessionEnd], None],
        before_turn: Callable[[Session, int, Callable[[str], None]], None],
    ) -> None:
        """Begin queued, with the messages that are known already.

        `before_turn` does what is due before a turn, and then has it begin.
        """
        super().__init__(session, bus=bus, save=save, gone=gone)
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._dialogue = dialogue
        self._settings = settings
        self._archive = archive
        self._loop = asyncio.get_running_loop()
        self._task: Task | None = None
        self._lines = Lines(settings.line_bytes)
        self._queue = deque(first)
        self._answered: set[str] = set()
        self._has_denied = False
        self._before_turn = before_turn
        self._next: Words | None = None
        self._in_turn = False
        self._closing = False
        self._failure: TurnEnded | None = None
        self._result: str | None = None
        self._last_words = b""
        self._pieces = Pieces(self._tell_piece)
        self._idle_timer: asyncio.TimerHandle | None = None

    @property
    def closing(self) -> bool:
        """Tell whether this process takes no further message."""
        return self._closing

    # The supervisor's side

    def started(self, task: Task) -> None:
        """Tell that it runs, and begin with the first message."""
        super().started(task)
        self._task = task
        self._go_on()

    def output(self, stream: str, data: bytes) -> None:
        """Understand the lines of standard output; everything else is text."""
        if stream != "stdout":
            self._last_words = (self._last_words + data)[-LAST_WORDS:]
            self._pieces.flush()
            super().output(stream, data)
            return
        overlong = self._lines.overlong
        lines = list(self._lines.feed(data))
        if lines:
            self._archive.lines(self.session.id, b"\n".join(lines) + b"\n")
        with self.gathered():
            for line in lines:
                self._take_line(line)
        if self._lines.overlong > overlong:
            self._notice(
                f"a line of more than {self._settings.line_bytes} bytes was passed over; "
                "[session] line_bytes allows longer ones"
            )

    def ended(self, task: Task) -> None:
        """Tell the end; what it was asked or wanted to ask is void with it."""
        rest = self._lines.close()
        if rest is not None:
            self._archive.lines(self.session.id, rest + b"\n")
            self._take_line(rest)
        self._pieces.flush()
        self._stop_idling()
        self._closing = True
        if self._next is not None:
            self._queue.appendleft(self._next)
        if self._queue and self._task is not None:
            self._notice(f"messages that it did not come to: {len(self._queue)}; send them again")
        super().ended(task)
        self.over.set_result(None)

    def the_end(self, end: SessionEnd) -> tuple[SessionEnd, str | None]:
        """Judge a natural end by the last turn: an exit code of 0 may hide a failure."""
        if end.type != "completed":
            return end, None
        failure = self._failure
        if self._in_turn:
            words = self._last_words.decode(errors="replace").strip()
            message = f"it exited with code {end.exit_code} in the middle of a turn"
            return _as_error(end, "incomplete", f"{message}: {words}" if words else message), None
        if failure is not None:
            return _as_error(end, failure.code or "agent_error", failure.message or ""), None
        return end, self._result

    # The client's side

    def accept(self, content: str, images: Sequence[Image]) -> MessageAccepted:
        """Take a message for the next turn, or this one when nothing is under way."""
        if len(self._queue) >= self._settings.queued_messages:
            raise Unavailable(f"{len(self._queue)} messages wait already; try again later")
        require_room(image for words in self._queue for image in words.images)
        words = Words(secrets.token_hex(6), content, images)
        self._queue.append(words)
        if self._task is not None and not (self._in_turn or self._next or self._closing):
            self._go_on()
            return MessageAccepted(session_id=self.session.id, message_id=words.id)
        self._tell_queue()
        return MessageAccepted(
            session_id=self.session.id, message_id=words.id, position=len(self._queue)
        )

    def interrupt(self) -> None:
        """Ask the agent to end the turn; Conflict when there is none."""
        if not self._in_turn or self.feed is None:
            raise Conflict("no turn is under way, so there is nothing to interrupt")
        self.feed.write(self._dialogue.interrupt())

    def respond(self, request_id: str, decision: Decision, user: str) -> None:
        """Answer a permission, once."""
        permission = next((p for p in self.session.permissions if p.request_id == request_id), None)
        if permission is None or self.feed is None:
            if request_id in self._answered:
                raise Conflict(f"the request {request_id[:80]!r} has been answered, or has expired")
            raise NotFound(
                f"there is no request {request_id[:80]!r}; session.get lists those that wait"
            )
        self.feed.write(self._dialogue.decide(permission, decision))
        self._resolve(permission, "allow" if decision.allow else "deny", user)
        self._enter("waiting" if self.session.permissions else "working")

    # Turns

    def _go_on(self) -> None:
        """Begin the next turn, wait for one, or let the process end."""
        if self._queue and self.feed is not None:
            self._stop_idling()
            self._next = self._queue.popleft()
            self._before_turn(self.session, self.session.turns + 1, self._begin_turn)
        elif self.session.keep_alive or not self._has_had_a_turn:
            self._enter("idle")
            if self._settings.idle_timeout and self._idle_timer is None:
                self._idle_timer = self._loop.call_later(self._settings.idle_timeout, self._finish)
        else:
            self._finish()

    def _begin_turn(self, trouble: str) -> None:
        """Hand over the message whose turn it is, unless the process has ended meanwhile."""
        words = self._next
        if words is None or self.feed is None or self.over.done():
            return
        if not self._in_turn and not self._closing:
            try:
                self.feed.write(self._dialogue.message(words.content, words.images))
            except Conflict:  # it has closed its input, so it is about to end
                self._finish()
        self._next = None
        if self._in_turn or self._closing:  # what it had left running woke the agent up, or it ends
            self._queue.appendleft(words)
            return
        if trouble:
            self._notice(f"this turn has no checkpoint: {trouble}")
        self._in_turn = True
        self._failure, self._result = None, None
        self.change(turns=self.session.turns + 1)
        self._enter("working")
        self._emit_message(_as_message(words))

    @property
    def _has_had_a_turn(self) -> bool:
        return self._failure is not None or self._result is not None

    def _finish(self) -> None:
        self._closing = True
        self._stop_idling()
        if self._task is not None:
            self._task.expect_output(True)
        if self.feed is not None:
            self.feed.end()

    def _stop_idling(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    # Facts

    def _take_line(self, line: bytes) -> None:
        for fact in self._dialogue.parse(line):
            if not isinstance(fact, Delta):
                self._pieces.flush()
                if not isinstance(fact, NoProtocol):  # many such lines are few events
                    self.flush()
            self._take(fact)

    def _take(self, fact: Fact) -> None:
        match fact:
            case Delta():
                self._pieces.add(fact)
            case Said(message=message):
                self._emit_message(message)
            case Began():
                self._began(fact)
            case Asked(permission=permission):
                self._asked(permission)
            case Withdrawn(request_id=request_id):
                self._expire([p for p in self.session.permissions if p.request_id == request_id])
            case Notice(text=text):
                self._notice(text)
            case TurnEnded():
                self._turn_ended(fact)
            case NoProtocol(line=line):
                super().output("stdout", line + b"\n")

    def _began(self, fact: Began) -> None:
        if (fact.session_id, fact.model) != (self.session.agent_session_id, self.session.model):
            self.change(agent_session_id=fact.session_id, model=fact.model)
        if not self._in_turn and not self._closing:  # something it had left running woke it up
            self._in_turn = True
            self._stop_idling()
            self._enter("working")

    def _asked(self, permission: Permission) -> None:
        if permission.request_id in self._answered:
            return
        if len(self.session.permissions) >= self._settings.open_questions:
            self._deny(permission)
            return
        self.change(permissions=[*self.session.permissions, permission])
        fields = msgspec.structs.asdict(permission)
        self.bus.emit(
            PermissionRequested(
                session_id=self.session.id, project_id=self.session.project_id, **fields
            )
        )
        self._enter("waiting")

    def _deny(self, permission: Permission) -> None:
        """Answer one question too many at once; people are told of the first in a turn."""
        why = f"[session] open_questions allows {self._settings.open_questions} at once"
        if self.feed is not None:
            with contextlib.suppress(AgentcmdError):  # it has closed its input, or reads none
                denial = Decision(allow=False, message=f"{why}; ask again later")
                self.feed.write(self._dialogue.decide(permission, denial))
        if not self._has_denied:
            self._has_denied = True
            self._notice(f"{why}; further ones of this turn are denied meanwhile")

    def _turn_ended(self, turn: TurnEnded) -> None:
        self._expire(self.session.permissions)
        self._in_turn = self._has_denied = False
        self._failure = turn if turn.stop_reason == "error" else None
        self._result = turn.result
        usage = (self.session.usage or NO_USAGE) + turn.usage
        cost = (self.session.cost_usd or 0.0) + turn.cost_usd
        self.change(usage=usage, cost_usd=cost)
        self.bus.emit(
            TurnCompleted(
                session_id=self.session.id,
                project_id=self.session.project_id,
                stop_reason=turn.stop_reason,
                usage=turn.usage,
                cost_usd=turn.cost_usd,
                duration_ms=turn.duration_ms,
                code=turn.code,
                message=turn.message,
                turn=self.session.turns or None,
            )
        )
        self.bus.emit(SessionUsage(session_id=self.session.id, usage=usage, cost_usd=cost))
        if self._closing:
            return
        if turn.fatal:
            self._finish()
        else:
            self._go_on()

    def _expire(self, permissions: Sequence[Permission]) -> None:
        for permission in permissions:
            self._resolve(permission, "expired")

    def _resolve(
        self,
        permission: Permission,
        decision: Literal["allow", "deny", "expired"],
        user: str | None = None,
    ) -> None:
        self._answered.add(permission.request_id)
        self.change(permissions=[p for p in self.session.permissions if p is not permission])
        self.bus.emit(
            PermissionResolved(
                session_id=self.session.id,
                project_id=self.session.project_id,
                request_id=permission.request_id,
                decision=decision,
                user=user,
            )
        )

    # Telling

    def _enter(self, state: str) -> None:
        """Change the state; silence is a fault only while the agent works."""
        if self._task is not None:
            self._task.expect_output(state == "working")
        if state == self.session.state and len(self._queue) == self.session.queued_messages:
            return
        self.change(state=state, queued_messages=len(self._queue))
        self._tell_state()

    def _tell_queue(self) -> None:
        self.change(queued_messages=len(self._queue))
        self._tell_state()

    def _tell_state(self) -> None:
        self.bus.emit(
            SessionUpdated(
                session_id=self.session.id,
                project_id=self.session.project_id,
                state=self.session.state,
                queued_messages=self.session.queued_messages,
            )
        )

    def _emit_message(self, message: Message) -> None:
        told = self._archive.message(self.session.id, message)
        self.bus.emit(SessionMessage(session_id=self.session.id, message=told))

    def _notice(self, text: str) -> None:
        self.say("system", f"{text}\n")

    def _tell_piece(self, delta: Delta) -> None:
        self.bus.emit(
            MessageDelta(
                session_id=self.session.id,
                reply_id=delta.reply_id,
                index=delta.index,
                kind=delta.kind,
                text=delta.text,
            )
        )


def _as_message(words: Words) -> Message:
    blocks: list[Block] = [as_told(image) for image in words.images]
    if words.content or not blocks:
        blocks.append(Text(text=words.content))
    return Message(id=words.id, role="user", content=blocks)


def _as_error(end: SessionEnd, code: str, message: str) -> SessionEnd:
    return msgspec.structs.replace(end, type="error", code=code, message=message)
