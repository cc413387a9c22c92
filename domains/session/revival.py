"""A session's further processes: its conversation taken up, or its command started again."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

import msgspec
import structlog

from daemon.core.bus import EventBus
from daemon.core.errors import AgentcmdError, Conflict, Unavailable
from daemon.core.journal import Journal
from daemon.core.restart import Restarts
from daemon.core.supervisor import Supervisor
from daemon.core.task import Tasks
from domains.session.agents import ADAPTERS
from domains.session.commands import CreateSession, Restart, Session, SessionEnd
from domains.session.events import SessionRestarting, SessionUpdated
from domains.session.live import LiveSession
from domains.session.records import SessionRecords
from domains.session.starter import Starter
from domains.session.workspaces import Workspaces

log = structlog.get_logger(__name__)


class Revivals:
    """Begins new processes of sessions that have ended; `live` is where these are then found."""

    def __init__(
        self,
        *,
        bus: EventBus,
        records: SessionRecords,
        starter: Starter,
        tasks: Tasks,
        supervisor: Supervisor,
        live: dict[str, LiveSession],
        workspaces: Workspaces,
    ) -> None:
        """Begin them with these."""
        self._bus = bus
        self._records = records
        self._starter = starter
        self._tasks = tasks
        self._supervisor = supervisor
        self._live = live
        self._workspaces = workspaces
        self._resuming: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._policies: dict[str, tuple[Restart, Restarts]] = {}
        self._waiting: dict[str, tuple[asyncio.Task[None], Session]] = {}

    # Conversations

    async def resume(self, session: Session) -> LiveSession:
        """Take up a conversation in a new process; two who ask at once get one."""
        if not ADAPTERS[session.agent].abilities.resume:
            raise Conflict(f"the session {session.id} has ended; create a new one")
        if session.agent_session_id is None:
            raise Conflict(
                f"the session {session.id} ended before its agent began a conversation; create a "
                "new one"
            )
        request = await self._request(session)
        async with self._resuming.setdefault(session.id, asyncio.Lock()):
            if session.id in self._live:  # somebody else was faster
                return self._live[session.id]
            session = await self._workspaces.again(session)
            request = msgspec.structs.replace(request, resume=session.agent_session_id, fork=False)
            return self._begin(session, request)

    def vouch(self, journal: Journal, silent: set[str]) -> None:
        """Keep the channels of what lives: sessions that run, or wait for a restart.

        Those in `silent` have ended, and lost their channels to an earlier daemon.
        """
        journal.vouch(
            "session",
            lambda id_: id_ in self._live or id_ in self._waiting or id_ in silent,
            keeps=True,
        )

    # Commands

    def watch(self, session_id: str, policy: Restart | None) -> None:
        """Start a command again when it ends, as its policy says."""
        if policy is not None:
            restarts = Restarts(
                delay=policy.delay,
                max_delay=policy.max_delay,
                limit=policy.max_restarts,
                within=policy.within,
            )
            self._policies[session_id] = (policy, restarts)

    def ended(self, session: Session, end: SessionEnd) -> bool:
        """Start it again, and say so; or forget its policy where that does not ask for it."""
        policy, restarts = self._policies.get(session.id, (None, None))
        if policy is None or restarts is None:
            return False
        failed = end.type == "error" or bool(end.exit_code)
        stopped = end.type == "cancelled" or end.code == "daemon_stopped"
        if stopped or not (failed or policy.when == "always"):
            del self._policies[session.id]
            return False
        work = self._again(session, restarts)
        task = self._supervisor.start(work, name=f"restart:{session.id}")
        self._waiting[session.id] = task, session
        return True

    def call_off(self, session_id: str) -> None:
        """Let a session that waits for its restart be ended."""
        self._policies.pop(session_id, None)
        if (waiting := self._waiting.pop(session_id, None)) is not None:
            task, session = waiting
            task.cancel()
            self._workspaces.release(session)

    async def _again(self, session: Session, restarts: Restarts) -> None:
        try:
            while (delay := restarts.next_delay()) is not None:
                session = msgspec.structs.replace(session, restarts=session.restarts + 1)
                self._bus.emit(
                    SessionRestarting(
                        session_id=session.id,
                        project_id=session.project_id,
                        delay_ms=round(delay * 1000),
                        restarts=session.restarts,
                    )
                )
                await asyncio.sleep(delay)
                try:
                    self._begin(session, await self._request(session))
                except Unavailable as error:
                    log.info("session.restart_failed", session=session.id, error=error.message)
                else:
                    return
            log.warning("session.given_up", session=session.id, restarts=session.restarts)
            self._give_up(session)
        except AgentcmdError as error:
            log.warning("session.given_up", session=session.id, error=error.message)
            self._give_up(session)
        finally:
            self._waiting.pop(session.id, None)

    def _give_up(self, session: Session) -> None:
        self._policies.pop(session.id, None)
        self._workspaces.release(session)

    # Both

    async def _request(self, session: Session) -> CreateSession:
        request = await self._records.request(session.id)
        if request is None:
            raise Conflict(
                f"what the session {session.id} began with is not kept; create a new one"
            )
        self._tasks.require_open()
        return request

    def _begin(self, session: Session, request: CreateSession) -> LiveSession:
        prepared = self._starter.prepare(ADAPTERS[session.agent], request, session.cwd)
        session = msgspec.structs.replace(
            session, state="queued", end=None, ended_at=None, started_at=None
        )
        live = self._starter.live(session, prepared, ())
        self._live[session.id] = live
        self._records.save(session)
        self._bus.emit(
            SessionUpdated(session_id=session.id, project_id=session.project_id, state="queued")
        )
        self._starter.start(live, prepared)
        return live
