"""The session service: creates sessions, finds them, and passes on what clients say to them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import structlog

from daemon.core.bus import EventBus
from daemon.core.commands import Caller, as_bytes, handles
from daemon.core.errors import BadRequest, Conflict, NotFound, Unavailable
from daemon.core.ids import new_id
from daemon.core.journal import Journal
from daemon.core.listing import page_of
from daemon.core.supervisor import Supervisor
from daemon.core.task import Tasks, TaskSettings
from domains.session.agents import ADAPTERS
from domains.session.agents.adapter import Adapter, Decision
from domains.session.archive import Archive
from domains.session.commands import (
    CancelSession,
    CreateSession,
    GetImage,
    GetSession,
    ImageContent,
    ImportedSessions,
    ImportSessions,
    InterruptSession,
    KillSession,
    ListMessages,
    ListSessions,
    ManyMessages,
    ManySessions,
    MessageAccepted,
    OneSession,
    PermissionAnswered,
    ReadTranscript,
    RespondPermission,
    ResumeSession,
    SendInput,
    SendMessage,
    Session,
    SessionEnd,
    SessionState,
    TranscriptPage,
)
from domains.session.conversation import Conversation, Words
from domains.session.events import SessionCreated
from domains.session.images import Images, Uploads, content_of
from domains.session.imports import Importer, Place
from domains.session.live import LiveSession, end_session
from domains.session.ports import Git, SessionSettings
from domains.session.records import SessionRecords
from domains.session.revival import Revivals
from domains.session.starter import AgentSettings, Starter
from domains.session.turns import Turns
from domains.session.workspaces import Workspaces

log = structlog.get_logger(__name__)

CLOSING_TIMEOUT = 10.0
"""Seconds that a message waits for a process that takes no more to end."""


class Projects(Protocol):
    """What sessions need of the projects."""

    async def place(
        self, project_id: str | None, cwd: str | None, caller: Caller
    ) -> tuple[str, str]:
        """Find the project and the folder for something new that this caller may make there."""

    def root(self, project_id: str) -> str:
        """Give the folder of a project."""


class SessionService:
    """Live sessions are in memory, ended ones on disk only."""

    def __init__(
        self,
        *,
        bus: EventBus,
        journal: Journal,
        tasks: Tasks,
        supervisor: Supervisor,
        project: Projects,
        git: Git,
        task_settings: TaskSettings,
        session_settings: SessionSettings,
        agents: Mapping[str, AgentSettings],
        uploads: Uploads,
        state_dir: Path,
    ) -> None:
        """Run sessions in these projects, as these tasks."""
        self._bus = bus
        self._journal = journal
        self._tasks = tasks
        self._projects = project
        self._records = SessionRecords(journal)
        self._archive = Archive(journal)
        self._images = Images(uploads)
        self._importer = Importer(
            bus=bus,
            journal=journal,
            records=self._records,
            archive=self._archive,
            line_bytes=session_settings.line_bytes,
        )
        turns = Turns(
            checkpoints=git.checkpoints,
            supervisor=supervisor,
            find=self._session,
            live=lambda: (each.session for each in self._live.values()),
        )
        self.parts = (turns,)
        self._workspaces = Workspaces(
            bus=bus, records=self._records, supervisor=supervisor, git=git
        )
        self._starter = Starter(
            bus=bus,
            tasks=tasks,
            task_settings=task_settings,
            settings=session_settings,
            agents=agents,
            archive=self._archive,
            save=self._records.save,
            gone=self._ended,
            state_dir=state_dir,
            before_turn=turns.before,
        )
        self._live: dict[str, LiveSession] = {}
        self._revivals = Revivals(
            bus=bus,
            records=self._records,
            starter=self._starter,
            tasks=tasks,
            supervisor=supervisor,
            live=self._live,
            workspaces=self._workspaces,
        )

    async def recover(self) -> None:
        """End what a daemon that died left behind; its reapers have ended the programs."""
        for session in await self._records.unended():
            since = session.started_at or time.time()
            end = SessionEnd(
                type="error",
                code="lost",
                message="the daemon died while it ran; start it anew",
                duration_ms=max(0, round((time.time() - since) * 1000)),
            )
            end_session(session, end, bus=self._bus, save=self._records.save)
            log.warning("session.lost", session=session.id)
            self._workspaces.release(session)
        self._journal.on_forget(self._records.forget, self._archive.forget)
        self._revivals.vouch(self._journal, await self._records.silent())
        await self._journal.flushed()

    @handles(CreateSession)
    async def create(self, command: CreateSession, caller: Caller) -> OneSession:
        """Start a session."""
        adapter = _adapter(command.agent)
        self._starter.prepare(adapter, command, "/")  # what is wrong with it, before whose it is
        images = await self._images.resolved(command.images, caller)
        if adapter.abilities.conversation and not (command.prompt or command.keep_alive):
            raise BadRequest(
                f"agent {adapter.name} needs a prompt, or keepAlive to wait for "
                "session.send_message"
            )
        if command.restart is not None and adapter.abilities.conversation:
            raise BadRequest(f"agent {adapter.name} is resumed; restart is for agent command")
        project_id, cwd = await self._projects.place(command.project_id, command.cwd, caller)
        id_ = new_id()
        cwd, workspace = await self._workspaces.make(
            command.workspace,
            project_id=project_id,
            root=self._projects.root(project_id),
            cwd=cwd,
            session_id=id_,
        )
        try:
            self._tasks.require_open()  # the folder has taken its time
        except Unavailable:
            await self._workspaces.abandon(project_id, workspace)
            raise
        session = Session(
            id=id_,
            project_id=project_id,
            agent=command.agent,
            state="queued",
            cwd=cwd,
            user=caller.sub,
            keep_alive=command.keep_alive,
            created_at=time.time(),
            name=command.name,
            argv=command.argv,
            abilities=adapter.abilities,
            model=command.model,
            permission_mode=command.permission_mode,
            workspace=workspace,
        )
        prepared = self._starter.prepare(adapter, command, cwd)
        first = (
            [Words(secrets.token_hex(6), command.prompt or "", images)] if command.prompt else []
        )
        await self._images.share(images, caller, f"session:{id_}")
        live = self._starter.live(session, prepared, first)
        self._live[session.id] = live
        self._records.add(session, command)
        self._bus.emit(
            SessionCreated(session_id=session.id, project_id=project_id, session=session)
        )
        self._revivals.watch(session.id, command.restart)
        self._starter.start(live, prepared)
        await self._journal.flushed()
        return OneSession(session_id=session.id, session=session)

    @handles(ImportSessions)
    async def import_(self, command: ImportSessions, caller: Caller) -> ImportedSessions:
        """Take over an agent's own conversations."""
        adapter = _adapter(command.agent)
        project_id, cwd = await self._projects.place(command.project_id, command.cwd, caller)
        env = self._starter.environment(adapter)
        wanted = Place(project_id=project_id, cwd=cwd, user=caller.sub)
        sessions, known = await self._importer.take_all(adapter, wanted, env)
        return ImportedSessions(sessions=sessions, known=known)

    @handles(ListSessions)
    async def list(self, command: ListSessions, caller: Caller) -> ManySessions:
        """List what the token may read."""
        found, further = await page_of(
            lambda before, size: self._records.page(command, before, size),
            lambda each: caller.may("read", f"session:{each.id}"),
            cursor=command.cursor,
            limit=command.limit,
        )
        return ManySessions(sessions=found, next_cursor=further)

    @handles(GetSession)
    async def get(self, command: GetSession, _: Caller) -> OneSession:
        """Tell about one session."""
        session = await self._session(command.session_id)
        return OneSession(session_id=session.id, session=session)

    @handles(ListMessages)
    async def messages(self, command: ListMessages, _: Caller) -> ManyMessages:
        """List what was said."""
        session = await self._session(command.session_id)
        found, further = await self._archive.messages(session.id, command.cursor, command.limit)
        return ManyMessages(session_id=session.id, messages=found, next_cursor=further)

    @handles(GetImage)
    async def image(self, command: GetImage, _: Caller) -> ImageContent:
        """Read an image of a message."""
        session = await self._session(command.session_id)
        return content_of(await self._archive.find(session.id, command.message_id), command.index)

    @handles(ReadTranscript)
    async def transcript(self, command: ReadTranscript, _: Caller) -> TranscriptPage:
        """Read the raw lines."""
        session = await self._session(command.session_id)
        content, further = await self._archive.transcript(session.id, command.cursor, command.limit)
        return TranscriptPage(session_id=session.id, content=content, next_cursor=further)

    @handles(SendMessage)
    async def send_message(self, command: SendMessage, caller: Caller) -> MessageAccepted:
        """Say something, to the process that is there or to a new one."""
        images = await self._images.resolved(command.images, caller)
        await self._images.share(images, caller, f"session:{command.session_id}")
        live = await self._lasting(command.session_id)
        if live is None:
            live = await self._revivals.resume(await self._session(command.session_id))
        return live.accept(command.content, images)

    @handles(InterruptSession)
    async def interrupt(self, command: InterruptSession, _: Caller) -> SessionState:
        """End the turn that is under way."""
        live = await self._need_live(command.session_id)
        live.interrupt()
        return SessionState(session_id=live.session.id, state=live.session.state)

    @handles(ResumeSession)
    async def resume(self, command: ResumeSession, _: Caller) -> SessionState:
        """Take up the conversation of a session that has ended."""
        live = await self._lasting(command.session_id)
        if live is None:
            live = await self._revivals.resume(await self._session(command.session_id))
            await self._journal.flushed()
        return SessionState(session_id=live.session.id, state=live.session.state)

    @handles(RespondPermission)
    async def respond_permission(
        self, command: RespondPermission, caller: Caller
    ) -> PermissionAnswered:
        """Answer a question of the agent's."""
        live = await self._need_live(command.session_id)
        decision = Decision(
            allow=command.decision == "allow",
            message=command.message or "",
            updated_input=command.updated_input,
            remember=command.remember,
        )
        live.respond(command.request_id, decision, caller.sub)
        return PermissionAnswered(request_id=command.request_id)

    @handles(SendInput)
    def send_input(self, command: SendInput, _: Caller) -> SessionState:
        """Write to the input of a live session; plain, so that pieces stay in order."""
        live = self._live.get(command.session_id)
        if live is None:
            if self._journal.get(f"session:{command.session_id}") is None:
                raise _unknown(command.session_id)
            raise Conflict(f"the session {command.session_id} has ended; create a new one")
        live.write(as_bytes(command.data, command.encoding), end=command.end)
        return SessionState(session_id=live.session.id, state=live.session.state)

    @handles(CancelSession)
    async def cancel(self, command: CancelSession, _: Caller) -> SessionState:
        """Ask a session to stop."""
        return await self._stop(command.session_id, hard=False)

    @handles(KillSession)
    async def kill(self, command: KillSession, _: Caller) -> SessionState:
        """Kill a session."""
        return await self._stop(command.session_id, hard=True)

    async def _stop(self, session_id: str, *, hard: bool) -> SessionState:
        self._revivals.call_off(session_id)
        task = self._tasks.get(session_id)
        if task is not None and session_id in self._live:
            task.stop(hard=hard)
        session = await self._session(session_id)
        return SessionState(session_id=session.id, state=session.state)

    async def _lasting(self, session_id: str) -> LiveSession | None:
        """Find what is live and stays so; one that is about to end is waited for."""
        live = self._live.get(session_id)
        if not isinstance(live, Conversation) or not live.closing:
            return live
        done, _ = await asyncio.wait([live.over], timeout=CLOSING_TIMEOUT)
        if not done:
            raise Unavailable(
                f"the agent of {session_id} has something left to finish; try again later, or "
                "cancel the session and then say more"
            )
        return self._live.get(session_id)

    def _ended(self, session: Session, end: SessionEnd) -> None:
        self._live.pop(session.id, None)
        self._starter.ended(session.id)
        if not self._revivals.ended(session, end):
            self._workspaces.release(session)

    async def _session(self, session_id: str) -> Session:
        live = self._live.get(session_id)
        session = live.session if live else await self._records.get(session_id)
        if session is None:
            raise _unknown(session_id)
        return session

    async def _need_live(self, session_id: str) -> LiveSession:
        live = self._live.get(session_id)
        if live is None:
            await self._session(session_id)
            raise Conflict(f"the session {session_id} has ended; create a new one")
        return live


@asynccontextmanager
async def open_service(
    *,
    bus: EventBus,
    journal: Journal,
    tasks: Tasks,
    supervisor: Supervisor,
    project: Projects,
    git: Git,
    task_settings: TaskSettings,
    session_settings: SessionSettings,
    agents: Mapping[str, AgentSettings],
    uploads: Uploads,
    state_dir: Path,
) -> AsyncIterator[SessionService]:
    """Open the session service, and end what the last daemon left behind."""
    service = SessionService(
        bus=bus,
        journal=journal,
        tasks=tasks,
        supervisor=supervisor,
        project=project,
        git=git,
        task_settings=task_settings,
        session_settings=session_settings,
        agents=agents,
        uploads=uploads,
        state_dir=state_dir,
    )
    await service.recover()
    yield service


def _adapter(name: str) -> Adapter:
    adapter = ADAPTERS.get(name)
    if adapter is None:
        known = ", ".join(sorted(ADAPTERS))
        raise BadRequest(f"there is no agent {name[:80]!r}; there is: {known}")
    return adapter


def _unknown(session_id: str) -> NotFound:
    return NotFound(
        f"there is no session {session_id[:80]!r}; ask session.list for those there are"
    )
