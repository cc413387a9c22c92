"""Conversations that an agent held without us, taken over from its own history files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from daemon.core.bus import EventBus
from daemon.core.ids import new_id
from daemon.core.journal import Journal
from daemon.core.lines import Lines
from domains.session.agents.adapter import Adapter, Dialogue
from domains.session.agents.facts import Said
from domains.session.archive import Archive
from domains.session.commands import CreateSession, Session, SessionEnd
from domains.session.events import SessionCreated, SessionMessage
from domains.session.live import end_session
from domains.session.messages import Message
from domains.session.records import SessionRecords

log = structlog.get_logger(__name__)

READ = 1 << 20
"""Bytes of a history that are read at a time, and told before the next ones."""

LINES = 64
"""Lines that are told before others have a turn of the loop."""

END = SessionEnd(type="completed", duration_ms=0, exit_code=0)
"""The end of a conversation of which we do not know how its process ended."""


BROKEN = SessionEnd(
    type="error", duration_ms=0, code="lost", message="its history could not be read to the end"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where imported sessions belong, and to whom."""

    project_id: str
    cwd: str
    user: str


class Importer:
    """Tells a conversation as if we had seen it; it can be resumed like one of ours."""

    def __init__(
        self,
        *,
        bus: EventBus,
        journal: Journal,
        records: SessionRecords,
        archive: Archive,
        line_bytes: int,
    ) -> None:
        """Write to these; lines longer than `line_bytes` are passed over."""
        self._bus = bus
        self._journal = journal
        self._records = records
        self._archive = archive
        self._line_bytes = line_bytes
        self._busy = asyncio.Lock()

    async def take_all(
        self, adapter: Adapter, place: Place, env: Mapping[str, str]
    ) -> tuple[list[Session], int]:
        """Take over what an agent has of a folder; gives the new ones, and counts those known."""
        async with self._busy:  # two at once would take the same ones
            histories = await asyncio.to_thread(_histories, adapter, place.cwd, env)
            known = await self._records.agent_sessions(adapter.name)
            new = [each for each in histories if each[1].stem not in known]
            sessions = []
            for written, history in new:
                session = Session(
                    id=new_id(),
                    project_id=place.project_id,
                    agent=adapter.name,
                    state="ended",
                    cwd=place.cwd,
                    user=place.user,
                    keep_alive=False,
                    created_at=written,
                    abilities=adapter.abilities,
                    agent_session_id=history.stem,
                    end=END,
                )
                try:
                    if await self._take(adapter, history, session):
                        sessions.append(session)
                except OSError as error:
                    log.warning("session.not_imported", history=str(history), error=str(error))
                    if await self._records.get(session.id) is not None:
                        begun = _under_way(session)
                        end_session(begun, BROKEN, bus=self._bus, save=self._records.save)
            return sessions, len(histories) - len(new)

    async def _take(self, adapter: Adapter, history: Path, session: Session) -> bool:
        """Take one file over; False where nothing was said in it."""
        dialogue = adapter.dialogue()
        if dialogue is None:
            return False
        lines = Lines(self._line_bytes)
        created = False
        with await asyncio.to_thread(history.open, "rb") as file:
            while chunk := await asyncio.to_thread(file.read, READ):
                whole = []  # a last line that is not whole was never finished
                for line in lines.feed(chunk):
                    whole.append(line)
                    if len(whole) % LINES == 0:
                        await asyncio.sleep(0)
                    for message in _messages(dialogue, line):
                        if not created:
                            created = True
                            self._begin(session)
                        told = self._archive.message(session.id, message)
                        self._bus.emit(SessionMessage(session_id=session.id, message=told))
                if created and whole:
                    self._archive.lines(session.id, b"\n".join(whole) + b"\n")
                await self._journal.flushed()
        if not created:
            return False
        end_session(session, END, bus=self._bus, save=self._records.save)
        return True

    def _begin(self, session: Session) -> None:
        request = CreateSession(agent=session.agent, cwd=session.cwd)
        begun = _under_way(session)
        self._records.add(begun, request)
        self._bus.emit(
            SessionCreated(session_id=begun.id, project_id=begun.project_id, session=begun)
        )


def _under_way(session: Session) -> Session:
    """Describe it while it is taken over: without its name, so that a broken import is repeated."""
    return msgspec.structs.replace(session, state="queued", agent_session_id=None, end=None)


def _messages(dialogue: Dialogue, line: bytes) -> Iterator[Message]:
    """Return the messages of a line; a line that is odd, or tells of something else, has none."""
    return (fact.message for fact in dialogue.parse(line) if isinstance(fact, Said))


def _histories(adapter: Adapter, cwd: str, env: Mapping[str, str]) -> list[tuple[float, Path]]:
    """List an agent's history files for a folder with their times, the oldest first; blocks."""
    folder = adapter.history_folder(cwd, env)
    if folder is None:
        return []
    try:
        found = [(entry.stat().st_mtime, Path(entry.path)) for entry in os.scandir(folder)]
    except OSError:
        return []  # it has never been at work there
    return sorted((time, path) for time, path in found if path.suffix == ".jsonl")
