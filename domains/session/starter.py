"""From a request to a supervised task: what an agent is started with, and who listens to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import msgspec

from daemon.core.bus import EventBus
from daemon.core.environment import child_environment
from daemon.core.errors import BadRequest
from daemon.core.program import Program, specification
from daemon.core.supervisor import Slots
from daemon.core.task import Task, Tasks, TaskSettings
from domains.session.agents.adapter import Adapter, Invocation
from domains.session.archive import Archive
from domains.session.commands import CreateSession, Session, SessionEnd
from domains.session.conversation import Conversation, Words
from domains.session.live import LiveSession
from domains.session.plain import PlainSession
from domains.session.ports import SessionSettings
from domains.session.private_files import PrivateFiles


class AgentSettings(Protocol):
    """One agent's section of the settings."""

    @property
    def path(self) -> str:
        """Give the path of its program, empty where PATH tells."""

    @property
    def max_running(self) -> int:
        """Give how many of its processes run at once, 0 for no limit of its own."""

    @property
    def env(self) -> dict[str, str]:
        """Give the variables that its processes get."""


class Starter:
    """Starts the process of a session, the first one or one that goes on with its conversation."""

    def __init__(
        self,
        *,
        bus: EventBus,
        tasks: Tasks,
        task_settings: TaskSettings,
        settings: SessionSettings,
        agents: Mapping[str, AgentSettings],
        archive: Archive,
        save: Callable[[Session], None],
        gone: Callable[[Session, SessionEnd], None],
        state_dir: Path,
        before_turn: Callable[[Session, int, Callable[[str], None]], None],
    ) -> None:
        """Start them with these settings; each live session gets the last three."""
        self._bus = bus
        self._tasks = tasks
        self._task_settings = task_settings
        self._settings = settings
        self._agents = agents
        self._archive = archive
        self._lanes: dict[str, Slots] = {}
        self._save = save
        self._gone = gone
        self._private = PrivateFiles(state_dir)
        self._before_turn = before_turn

    def prepare(self, adapter: Adapter, request: CreateSession, cwd: str) -> Prepared:
        """Turn a request into a program; BadRequest while the client still listens."""
        invocation = adapter.invocation(request, self._path(adapter))
        check_variables(request.env or {})
        env = self.environment(adapter, request.env)
        ours = os.environ.get("PATH", os.defpath)
        program = Program(
            argv=invocation.argv,
            cwd=cwd,
            env=env,
            # an agent's program is ours to find, whatever PATH is given to what it starts
            path=f"{env.get('PATH', ours)}:{ours}" if adapter.abilities.conversation else "",
            stdin=bool(invocation.first_input) or invocation.keep_input,
        )
        specification(program)
        return Prepared(adapter, invocation, program, request.timeout)

    def environment(
        self, adapter: Adapter, given: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Build the environment of an agent's processes."""
        configured = self._agents.get(adapter.name)
        return child_environment(
            os.environ,
            prefixes=adapter.prefixes,
            configured=configured.env if configured else None,
            given=given,
        )

    def _lane(self, agent: str) -> Slots | None:
        """Give the slots of one agent, with the limit that it has now; None without one."""
        configured = self._agents.get(agent)
        if configured is None or not configured.max_running:
            return None
        lane = self._lanes.setdefault(agent, Slots(configured.max_running))
        lane.resize(configured.max_running)
        return lane

    def _path(self, adapter: Adapter) -> str:
        configured = self._agents.get(adapter.name)
        return configured.path if configured else ""

    def live(self, session: Session, prepared: Prepared, first: Sequence[Words]) -> LiveSession:
        """Make the session's live side, of the kind that its agent needs."""
        dialogue = prepared.adapter.dialogue()
        if dialogue is None:
            return PlainSession(
                session, prepared.invocation, bus=self._bus, save=self._save, gone=self._gone
            )
        return Conversation(
            session,
            dialogue,
            first=first,
            settings=self._settings,
            archive=self._archive,
            bus=self._bus,
            save=self._save,
            gone=self._gone,
            before_turn=self._before_turn,
        )

    def ended(self, session_id: str) -> None:
        """Remove what a session needed while its program ran."""
        self._private.remove(session_id)

    def start(self, live: LiveSession, prepared: Prepared) -> None:
        """Hand it to the supervisor."""
        program = prepared.program
        if prepared.invocation.in_files:
            argv = self._private.moved(
                live.session.id, prepared.invocation.argv, prepared.invocation.in_files
            )
            program = replace(program, argv=argv)
        limits = self._task_settings.of("session")
        if prepared.timeout is not None:
            limits = msgspec.structs.replace(limits, run_timeout=prepared.timeout)
        self._tasks.start(
            Task(
                id_=live.session.id,
                kind="session",
                channel=f"session:{live.session.id}",
                user=live.session.user,
                program=program,
                owner=live,
                limits=limits,
                stop_signal=prepared.invocation.stop_signal,
                lane=self._lane(prepared.adapter.name),
            )
        )


class Prepared:
    """What is started: checked, and not yet begun."""

    __slots__ = ("adapter", "invocation", "program", "timeout")

    def __init__(
        self, adapter: Adapter, invocation: Invocation, program: Program, timeout: float | None
    ) -> None:
        """Hold it; `timeout` is in seconds, None for that of the settings."""
        self.adapter = adapter
        self.invocation = invocation
        self.program = program
        self.timeout = timeout


def check_variables(env: Mapping[str, str]) -> None:
    """Raise BadRequest for what no environment can hold."""
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise BadRequest(
                f"{name[:80]!r} cannot be set: a name is not empty and has no '=', and neither it "
                "nor its value has a NUL"
            )
