"""What a turn has changed in the files: a checkpoint before each, compared and restored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

from daemon.core.commands import Caller, handles
from daemon.core.errors import AgentcmdError, BadRequest, Conflict
from daemon.core.supervisor import Supervisor
from domains.session.commands import (
    DiffTurn,
    RestoredTurn,
    RestoreTurn,
    Session,
    TurnDiff,
    TurnFile,
)
from domains.session.ports import Checkpoints

log = structlog.get_logger(__name__)

TIMEOUT = 30.0
"""Seconds that a turn waits for its checkpoint; then it begins without one, and says so."""

UNDO = "undo"
"""The checkpoint of before the last restore."""

BUSY = ("working", "waiting")


class Turns:
    """Takes the checkpoints, and handles the commands about them."""

    def __init__(
        self,
        *,
        checkpoints: Checkpoints,
        supervisor: Supervisor,
        find: Callable[[str], Awaitable[Session]],
        live: Callable[[], Iterable[Session]],
    ) -> None:
        """Take them by these; `find` gives a session by its id, `live` all that run."""
        self._checkpoints = checkpoints
        self._supervisor = supervisor
        self._find = find
        self._live = live
        self._beginning: dict[str, Session] = {}
        self._restoring: dict[tuple[str, str | None], asyncio.Future[None]] = {}

    def before(self, session: Session, number: int, begin: Callable[[str], None]) -> None:
        """Take the checkpoint of a turn; then have it begin, and told what went wrong.

        It waits for a restore of the same files that is under way.
        """
        self._beginning[session.id] = session
        self._supervisor.start(
            self._before(session, number, begin), name=f"checkpoint:{session.id}:{number}"
        )

    async def _before(self, session: Session, number: int, begin: Callable[[str], None]) -> None:
        trouble = ""
        try:
            async with asyncio.timeout(TIMEOUT):
                while (restoring := self._restoring.get(_place(session))) is not None:
                    await asyncio.wait([restoring])
                await self._checkpoints.take(*_place(session), session.id, str(number))
        except TimeoutError:
            trouble = f"it took longer than {TIMEOUT:.0f} s"
        except AgentcmdError as error:
            trouble = error.message
        except Exception:  # the turn begins all the same: somebody waits for it
            log.exception("session.checkpoint_failed", session=session.id, turn=number)
            trouble = "the daemon failed there; its log says how"
        finally:
            self._beginning.pop(session.id, None)
        if trouble:
            log.warning("session.no_checkpoint", session=session.id, turn=number, why=trouble)
        begin(trouble)

    @handles(DiffTurn)
    async def diff(self, command: DiffTurn, _: Caller) -> TurnDiff:
        """Tell what a turn has changed."""
        session = await self._find(command.session_id)
        number = _number(session, command.turn)
        gone = session.workspace is not None and session.workspace.removed
        place = (session.project_id, None) if gone else _place(session)
        found = await self._checkpoints.compare(
            *place, session.id, str(number), str(number + 1), now=not gone
        )
        return TurnDiff(
            session_id=session.id,
            turn=number,
            older=found.older,
            newer=found.newer,
            files=[
                TurnFile(
                    path=each.path,
                    status=each.status,
                    old_path=each.old_path,
                    additions=each.additions,
                    deletions=each.deletions,
                )
                for each in found.files
            ],
            patch=found.patch,
        )

    @handles(RestoreTurn)
    async def restore(self, command: RestoreTurn, _: Caller) -> RestoredTurn:
        """Make the files what they were before a turn."""
        session = await self._find(command.session_id)
        if command.undo and command.turn is not None:
            raise BadRequest("either a turn is restored or the last restore undone, not both")
        name = UNDO if command.undo else str(_number(session, command.turn))
        place = _place(session)
        self._require_rest(session, place)
        done = self._restoring[place] = asyncio.get_running_loop().create_future()
        try:
            found = await self._checkpoints.restore(*place, session.id, name)
        finally:
            del self._restoring[place]
            done.set_result(None)
        return RestoredTurn(
            session_id=session.id, written=found.written_count, removed=found.removed_count
        )

    def _require_rest(self, session: Session, place: tuple[str, str | None]) -> None:
        """Raise Conflict where an agent works on these files, or is about to, or they change."""
        if place in self._restoring:
            raise Conflict("a restore of these files is under way; wait for its end")
        busy = [each for each in self._live() if each.state in BUSY] + [*self._beginning.values()]
        at_work = [each.id for each in busy if _place(each) == place]
        if session.id in at_work:
            raise Conflict("the agent is at work: interrupt it first, or wait for the turn's end")
        if at_work:
            raise Conflict(
                f"the agent of the session {at_work[0]} works on the same files: interrupt it "
                "first, or wait for its turn's end"
            )


def _place(session: Session) -> tuple[str, str | None]:
    """Give the project, and the work tree where that is not the project's own."""
    return session.project_id, session.workspace.path if session.workspace else None


def _number(session: Session, asked: int | None) -> int:
    if not session.turns:
        raise Conflict(f"the session {session.id} has had no turn yet")
    if asked is not None and asked > session.turns:
        raise BadRequest(f"the session {session.id} has had {session.turns} turns")
    return asked or session.turns
