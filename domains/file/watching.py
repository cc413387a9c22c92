"""Who watches which project: one watch for all of them, ended when the last has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from daemon.core.bus import EventBus
from daemon.core.commands import Caller, handles
from daemon.core.errors import AgentcmdError, Conflict, Unavailable
from daemon.core.supervisor import Supervisor
from domains.file.commands.watching import UnwatchFiles, WatchFiles, WatchState
from domains.file.events import FileChanged, WatchEnded
from domains.file.ground import Git, Projects
from domains.file.reports import Told
from domains.file.watcher import Watch

log = structlog.get_logger(__name__)


class Connections(Protocol):
    """What a watch needs to know of those who follow."""

    def on_gone(self, listener: Callable[[str], None]) -> None:
        """Tell the id of each connection that has ended."""

    def ended(self, connection: str) -> bool:
        """Tell whether a connection has just ended."""

    def followed(self, channel: str) -> bool:
        """Tell whether anybody follows a channel."""


class WatchSettings(Protocol):
    """What is set of watches."""

    @property
    def watch_projects(self) -> int:
        """Give how many projects are watched at once."""

    @property
    def watch_entries(self) -> int:
        """Give how many files and folders one may have."""

    @property
    def watch_hold(self) -> float:
        """Give the seconds that one lasts that nobody's connection holds."""


class Held:
    """One watch, and who holds it: connections, and users over HTTP until some time."""

    def __init__(self, watch: Watch) -> None:
        """Be held by nobody yet."""
        self.watch = watch
        self.connections: set[str] = set()
        self.leases: dict[str, float] = {}
        self.tasks: list[asyncio.Task[None]] = []

    def __bool__(self) -> bool:
        """Tell whether anybody holds it."""
        return bool(self.connections or self.leases)


class Watching:
    """Handles `file.watch` and `file.unwatch`."""

    def __init__(
        self,
        *,
        projects: Projects,
        git: Git,
        settings: WatchSettings,
        bus: EventBus,
        supervisor: Supervisor,
        connections: Connections,
    ) -> None:
        """Watch nothing yet."""
        self._projects = projects
        self._git = git
        self._settings = settings
        self._bus = bus
        self._supervisor = supervisor
        self._connections = connections
        self._held: dict[str, Held] = {}
        connections.on_gone(self._gone)
        bus.on("project.removed", lambda event: self._drop(event.project_id))

    @handles(WatchFiles)
    async def watch(self, command: WatchFiles, caller: Caller) -> WatchState:
        """Hold the watch while the connection is there; answer when it is armed."""
        project_id = command.project_id
        if self._connections.ended(caller.connection):
            raise Conflict("the connection that asked has ended")
        held = self._held.get(project_id) or self._begin(project_id)
        if caller.connection:
            held.connections.add(caller.connection)
        else:
            held.leases[caller.sub] = self._now() + self._settings.watch_hold
            if len(held.tasks) == 1:
                lapse = self._lapse(project_id, held)
                held.tasks.append(self._supervisor.start(lapse, name=f"file.lease:{project_id}"))
        await asyncio.shield(held.watch.ready)
        snapshot = held.watch.snapshot
        return WatchState(
            project_id=project_id,
            watching=True,
            by_git=held.watch.ignored.by_git,
            entries=snapshot.entries,
            folders=len(snapshot.folders),
        )

    @handles(UnwatchFiles)
    async def unwatch(self, command: UnwatchFiles, caller: Caller) -> WatchState:
        """Let go of the watch; where nobody else holds it, it has ended with the answer."""
        project_id = command.project_id
        self._projects.root(project_id)
        held = self._held.get(project_id)
        if held is not None:
            held.connections.discard(caller.connection)
            if not caller.connection:
                held.leases.pop(caller.sub, None)
            await self._supervisor.cancel(self._release(project_id, held))
        return WatchState(project_id=project_id, watching=project_id in self._held)

    def _begin(self, project_id: str) -> Held:
        root = self._projects.root(project_id)
        limit = self._settings.watch_projects
        if len(self._held) >= limit:
            raise Unavailable(
                f"{len(self._held)} projects are watched; end one with file.unwatch, or raise "
                "[file] watch_projects"
            )

        def tell(told: Told) -> None:
            changes = list(told.changes)
            self._bus.emit(
                FileChanged(project_id=project_id, changes=changes, overflow=told.overflow)
            )

        watch = Watch(
            project_id, root, git=self._git, entries=self._settings.watch_entries, tell=tell
        )
        held = self._held[project_id] = Held(watch)
        attended = self._attend(project_id, held)
        held.tasks.append(self._supervisor.start(attended, name=f"file.watch:{project_id}"))
        return held

    async def _attend(self, project_id: str, held: Held) -> None:
        """Run a watch; one that cannot go on is told of to those who rely on it."""
        began = self._now()
        try:
            await held.watch.run()
        except AgentcmdError as error:
            log.warning("file.watch_ended", project=project_id, why=error.message)
            self._bus.emit(
                WatchEnded(project_id=project_id, code=error.code, message=error.message)
            )
        finally:
            if self._held.get(project_id) is held:
                del self._held[project_id]
            log.info("file.unwatched", project=project_id, seconds=round(self._now() - began, 1))
            for task in held.tasks[1:]:
                task.cancel()

    async def _lapse(self, project_id: str, held: Held) -> None:
        """Let leases end that nobody has renewed, unless somebody follows the channel."""
        while self._held.get(project_id) is held:
            if held.leases:
                await asyncio.sleep(max(0.0, min(held.leases.values()) - self._now()))
            else:
                await asyncio.sleep(self._settings.watch_hold)
            now = self._now()
            if self._connections.followed(f"file:project:{project_id}"):
                later = now + self._settings.watch_hold
                held.leases = {user: max(end, later) for user, end in held.leases.items()}
            else:
                held.leases = {user: end for user, end in held.leases.items() if end > now}
            self._release(project_id, held)

    def _gone(self, connection: str) -> None:
        for project_id, held in list(self._held.items()):
            if connection in held.connections:
                held.connections.discard(connection)
                self._release(project_id, held)

    def _drop(self, project_id: str) -> None:
        """End the watch on a project that is none any more."""
        held = self._held.get(project_id)
        if held is not None:
            held.connections.clear()
            held.leases.clear()
            self._release(project_id, held)

    def _release(self, project_id: str, held: Held) -> list[asyncio.Task[None]]:
        """End a watch that nobody holds; gives the tasks that are ending."""
        if held:
            return []
        if self._held.get(project_id) is held:
            del self._held[project_id]
        held.tasks[0].cancel()
        return held.tasks[:1]

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
