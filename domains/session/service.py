"""The session service: creates sessions, finds them, and passes on what clients say to them."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec
import structlog

from daemon.core.bus import EventBus
from daemon.core.commands import Caller, handles
from daemon.core.errors import AgentcmdError, BadRequest, Conflict, NotFound
from daemon.core.journal import Journal
from daemon.core.program import Program, specification
from daemon.core.task import Task, Tasks, TaskSettings
from domains.session.agents import ADAPTERS
from domains.session.commands import (
    CancelSession,
    CreateSession,
    GetSession,
    KillSession,
    ListSessions,
    ManySessions,
    MessageAccepted,
    OneSession,
    SendInput,
    SendMessage,
    Session,
    SessionEnd,
    SessionState,
)
from domains.session.environment import child_environment
from domains.session.events import SessionCreated
from domains.session.live import LiveSession, end_session
from domains.session.records import SessionRecords

log = structlog.get_logger(__name__)

SCRATCH_GRANT = "project:*"
"""What creating in the scratch project needs: it belongs to nobody in particular."""

PAGE = 100
"""Least rows that a list reads at once, of which a narrow token may see few."""

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


class Projects(Protocol):
    """What sessions need of the projects."""

    async def locate(self, project_id: str | None, cwd: str | None) -> tuple[str, str]:
        """Find the project and the folder for something new."""


class AgentSettings(Protocol):
    """One agent's section of the settings."""

    @property
    def env(self) -> dict[str, str]:
        """Give the variables that its processes get."""


class SessionService:
    """Live sessions are in memory, ended ones on disk only."""

    def __init__(
        self,
        *,
        bus: EventBus,
        journal: Journal,
        tasks: Tasks,
        project: Projects,
        task_settings: TaskSettings,
        agents: Mapping[str, AgentSettings],
    ) -> None:
        """Run sessions in these projects, as these tasks."""
        self._bus = bus
        self._journal = journal
        self._tasks = tasks
        self._projects = project
        self._task_settings = task_settings
        self._agents = agents
        self._records = SessionRecords(journal)
        self._live: dict[str, LiveSession] = {}

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
        self._journal.on_forget(self._records.forget)
        await self._journal.flushed()

    @handles(CreateSession)
    async def create(self, command: CreateSession, caller: Caller) -> OneSession:
        """Start a session."""
        adapter = ADAPTERS.get(command.agent)
        if adapter is None:
            known = ", ".join(sorted(ADAPTERS))
            raise BadRequest(f"there is no agent {command.agent[:80]!r}; there is: {known}")
        invocation = adapter.invocation(command)
        _check_variables(command.env or {})
        if command.project_id is None and command.cwd is None:
            caller.require("write", SCRATCH_GRANT)
        elif command.project_id is not None:
            caller.require("write", f"project:{command.project_id}")
        try:
            project_id, cwd = await self._projects.locate(command.project_id, command.cwd)
        except AgentcmdError:
            if command.project_id is None:  # which folders there are is for those who may use any
                caller.require("write", "project:*")
            raise
        if command.cwd is not None:
            caller.require("write", f"project:{project_id}")
        self._tasks.require_open()  # the folder has taken its time
        session = Session(
            id=new_id(),
            project_id=project_id,
            agent=command.agent,
            state="queued",
            cwd=cwd,
            user=caller.sub,
            keep_alive=command.keep_alive,
            created_at=time.time(),
            name=command.name,
            argv=command.argv,
        )
        configured = self._agents.get(command.agent)
        program = Program(
            argv=invocation.argv,
            cwd=cwd,
            env=child_environment(
                os.environ,
                prefixes=adapter.prefixes,
                configured=configured.env if configured else None,
                given=command.env,
            ),
            stdin=bool(invocation.first_input) or invocation.keep_input,
        )
        specification(program)  # refused here, where the client still listens
        live = LiveSession(
            session, invocation, bus=self._bus, save=self._records.save, gone=self._forget
        )
        self._live[session.id] = live
        self._records.save(session)
        self._bus.emit(
            SessionCreated(session_id=session.id, project_id=project_id, session=session)
        )
        self._tasks.start(self._task(live, program, command.timeout))
        await self._journal.flushed()
        return OneSession(session_id=session.id, session=session)

    @handles(ListSessions)
    async def list(self, command: ListSessions, caller: Caller) -> ManySessions:
        """List what the token may read."""
        found: list[Session] = []
        before = command.cursor or "~"  # sorts behind every id
        size = max(command.limit, PAGE)
        while len(found) < command.limit:
            page = await self._records.page(command, before, size)
            found += [each for each in page if caller.may("read", f"session:{each.id}")]
            if len(page) < size and len(found) <= command.limit:
                return ManySessions(sessions=found[: command.limit])
            before = page[-1].id
        found = found[: command.limit]
        return ManySessions(sessions=found, next_cursor=found[-1].id)

    @handles(GetSession)
    async def get(self, command: GetSession, _: Caller) -> OneSession:
        """Tell about one session."""
        session = await self._session(command.session_id)
        return OneSession(session_id=session.id, session=session)

    @handles(SendMessage)
    async def send_message(self, command: SendMessage, _: Caller) -> MessageAccepted:
        """Say something to a live session."""
        live = await self._need_live(command.session_id)
        return MessageAccepted(session_id=command.session_id, message_id=live.say(command.content))

    @handles(SendInput)
    def send_input(self, command: SendInput, _: Caller) -> SessionState:
        """Write to the input of a live session; plain, so that pieces stay in order."""
        live = self._live.get(command.session_id)
        if live is None:
            if self._journal.get(f"session:{command.session_id}") is None:
                raise _unknown(command.session_id)
            raise Conflict(f"the session {command.session_id} has ended; create a new one")
        live.write(_decoded(command), end=command.end)
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
        task = self._tasks.get(session_id)
        if task is not None and session_id in self._live:
            task.stop(hard=hard)
        session = await self._session(session_id)
        return SessionState(session_id=session.id, state=session.state)

    def _task(self, live: LiveSession, program: Program, timeout: float | None) -> Task:
        limits = self._task_settings
        if timeout is not None:
            limits = msgspec.structs.replace(limits, run_timeout=timeout)
        return Task(
            id_=live.session.id,
            kind="session",
            channel=f"session:{live.session.id}",
            user=live.session.user,
            program=program,
            owner=live,
            limits=limits,
        )

    def _forget(self, session_id: str) -> None:
        self._live.pop(session_id, None)

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
    project: Projects,
    task_settings: TaskSettings,
    agents: Mapping[str, AgentSettings],
) -> AsyncIterator[SessionService]:
    """Open the session service, and end what the last daemon left behind."""
    service = SessionService(
        bus=bus,
        journal=journal,
        tasks=tasks,
        project=project,
        task_settings=task_settings,
        agents=agents,
    )
    await service.recover()
    yield service


def new_id() -> str:
    """Make an id that sorts by time: ten digits of milliseconds, eight at random (base 32)."""
    stamp, random = int(time.time() * 1000), secrets.randbits(40)
    high = "".join(_DIGITS[stamp >> shift & 31] for shift in range(45, -5, -5))
    return high + "".join(_DIGITS[random >> shift & 31] for shift in range(35, -5, -5))


def _unknown(session_id: str) -> NotFound:
    return NotFound(
        f"there is no session {session_id[:80]!r}; ask session.list for those there are"
    )


def _check_variables(env: Mapping[str, str]) -> None:
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise BadRequest(
                f"{name[:80]!r} cannot be set: a name is not empty and has no '=', and neither it "
                "nor its value has a NUL"
            )


def _decoded(command: SendInput) -> bytes:
    if command.encoding == "utf-8":
        return command.data.encode()
    try:
        return base64.b64decode(command.data, validate=True)
    except binascii.Error as error:
        raise BadRequest(f"session.input: the data is not base64: {error}") from None
