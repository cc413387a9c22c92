"""The composition root: puts the rooms together, opens them in order, closes them in reverse."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import structlog

from daemon import __version__, home, listening
from daemon.core import orphans
from daemon.core.bus import EventBus
from daemon.core.calendar import open_calendar
from daemon.core.cgroup import Cgroups
from daemon.core.commands import Dispatcher
from daemon.core.errors import BadRequest, Unavailable
from daemon.core.fanout import Fanout
from daemon.core.guard import Guard, raise_descriptor_limit
from daemon.core.health import Health
from daemon.core.journal import Journal
from daemon.core.launcher import Launcher
from daemon.core.registry import Registry
from daemon.core.retention import Retention
from daemon.core.spawner import start_time
from daemon.core.store import Store
from daemon.core.supervisor import Supervisor
from daemon.core.task import Tasks
from daemon.core.uploads import Uploads
from daemon.reload import Reloaded, reload, takers_of, with_taken
from daemon.sdnotify import ServiceManager, extension
from daemon.settings import Settings
from daemon.web import messages, metrics
from daemon.web.auth import Doorkeeper, Tokens, load_secret
from daemon.web.doors import Doors
from daemon.web.http_connection import HttpRunner
from daemon.web.public_path import PublicPath
from domains import DOMAINS
from domains.session.agents import ADAPTERS
from domains.workflow.schema import json_schema

log = structlog.get_logger(__name__)

LOOPBACK = ("127.", "::1", "localhost")

SHUTDOWN_STEP = 5.0
"""Seconds for what should take none: the last answers over HTTP."""

CLOSING = 30.0
"""Seconds, at most, from the end of the wait for tasks to the end: kill, commit, deliver, close."""

NAMED = 3
"""Tasks that a status line names; the others are counted."""


def build_registry(domains: Iterable[ModuleType] = DOMAINS) -> Registry:
    """Collect what the domains and the connection itself declare."""
    return Registry.of((messages, *domains))


def domain_schemas() -> dict[str, tuple[str, ...]]:
    """Collect the tables of the domains, by name."""
    return {domain.__name__.rpartition(".")[2]: domain.SCHEMA for domain in DOMAINS}


def workflow_schema() -> dict[str, Any]:
    """Give the JSON Schema of workflow files, for editors."""
    return json_schema()


class Daemon:
    """The running daemon; as a context manager it listens inside and has drained outside."""

    def __init__(
        self,
        settings: Settings,
        *,
        unix_socket: Path | None = None,
        debug: bool = False,
        manager: ServiceManager | None = None,
    ) -> None:
        """Prepare; a Unix socket is served instead of TCP when one is named.

        What the service manager hands over is served instead of either.
        """
        self.settings = settings
        self.state_dir = settings.state_dir
        self.url = ""
        self.stop_requested = asyncio.Event()
        self._manager = manager or ServiceManager()
        self._socket = unix_socket or (Path(settings.server.uds) if settings.server.uds else None)
        self._place = listening.Place()
        self._debug = debug or settings.log.level == "debug"
        self._started_at = time.time()
        self._status = "starting"
        self._deadline = 0.0
        self._hurried = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open everything, recover what a dead daemon left, listen."""
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drain and close, in order, each step within its time."""
        try:
            await self._drain()
        finally:
            await self._stack.aclose()
            log.info("daemon.stopped")

    @property
    def tasks(self) -> Tasks:
        """Give the supervised tasks, for whoever waits until they have ended."""
        return self._tasks

    def hurry(self) -> None:
        """Shorten a drain under way: what still runs is killed now."""
        self._hurried.set()

    def reload(self, new: Settings) -> Reloaded:
        """Take what can be taken of new settings; the rest is named, and waits for a restart."""
        takers = takers_of(
            doorkeeper=self._doorkeeper,
            tasks=self._tasks,
            bus=self._bus,
            guard=self._guard,
            settings=self.settings,
        )
        told = reload(self.settings, new, takers)
        self.settings = with_taken(self.settings, new, told.taken)
        log.info("daemon.reloaded", taken=told.taken, needs_restart=told.left)
        return told

    # Opening

    async def _open(self) -> None:
        settings, enter = self.settings, self._stack.enter_async_context
        self._stack.enter_context(home.owned(self.state_dir))
        self.tokens = self._make_tokens()
        registry = build_registry()
        self._public = public = PublicPath(
            settings.server.base_path, settings.server.trusted_proxies
        )
        durable = {domain.__name__.rpartition(".")[2]: domain.DURABLE for domain in DOMAINS}
        records = self.state_dir / orphans.FOLDER
        records.mkdir(mode=0o700, exist_ok=True)
        cgroups = Cgroups.delegated()
        self._guard = Guard(settings.guard, self.state_dir)
        # The launcher comes first: the spawner's boot goes on beside ours.
        self._launcher = await enter(
            Launcher(
                pipe_bytes=settings.task.pipe_bytes,
                start_timeout=settings.task.start_timeout or float("inf"),
                records=records,
                cgroups=cgroups,
                descriptors=raise_descriptor_limit(),
            )
        )
        await asyncio.to_thread(_sweep, records, cgroups)
        store = await enter(Store(self.state_dir / home.DATABASE, domain_schemas()))
        self._supervisor = await enter(Supervisor())
        self._journal = await enter(
            Journal(
                store,
                settings.journal,
                lambda name: durable.get(name.partition(":")[0], False),
                base_path=public.base,
            )
        )
        self._calendar = await open_calendar(store, self._journal)
        self._uploads = await enter(
            Uploads(self.state_dir / "uploads", settings.upload, base_path=public.base)
        )
        self._tasks = await enter(
            Tasks(
                self._supervisor,
                self._launcher,
                self._journal.gate,
                limit=settings.task.max_running,
                guard=self._guard.require,
            )
        )
        self._fanout = Fanout(self._journal, self._supervisor)
        self._bus = EventBus(registry, self._journal, self._supervisor, debug=self._debug)
        self._dispatcher = Dispatcher(registry, ready=self._require_ready)
        await self._open_services()
        self._guard.hold(*home.own_files(self.state_dir, home.DATABASE))
        self._guard.hold_filled(self.state_dir / home.DATABASE)
        self._supervisor.start(self._guard.run(), name="guard")
        retention = Retention(self._journal, settings.journal, self._calendar.now)
        self._supervisor.start(retention.run(), name="retention")
        await self._listen(registry)
        self._status = "ok"
        self._publish()
        self._manager.notify("READY=1")
        self._supervisor.start(self._manager.attend(self._states), name="attend")
        log.info("daemon.started", url=self.url, state_dir=str(self.state_dir), pid=os.getpid())

    def _make_tokens(self) -> Tokens:
        auth = self.settings.auth
        secret = load_secret(self.state_dir, auth.secret_file, os.environ)
        return Tokens(secret, algorithm=auth.algorithm, issuer=auth.issuer, audience=auth.audience)

    async def _open_services(self) -> None:
        """Open each domain's service with what its `open_service` names, earlier domains too."""
        available: dict[str, Any] = {
            "bus": self._bus,
            "journal": self._journal,
            "tasks": self._tasks,
            "supervisor": self._supervisor,
            "connections": self._fanout,
            "state_dir": self.state_dir,
            "task_settings": self.settings.task,
            "session_settings": self.settings.session,
            "shell_settings": self.settings.shell,
            "file_settings": self.settings.file,
            "agents": self.settings.agents,
            "commands": self._dispatcher,
            "guard": self._guard,
            "calendar": self._calendar,
            "uploads": self._uploads,
            "find_agents": self._find_agents,
            "request_stop": self.stop_requested.set,
            "health": self.health,
        }
        for domain in DOMAINS:
            needs = inspect.signature(domain.open_service).parameters
            given = {name: available[name] for name in needs}
            service = await self._stack.enter_async_context(domain.open_service(**given))
            available[domain.__name__.rpartition(".")[2]] = service
            self._dispatcher.bind(service)
        self._dispatcher.check()

    async def _listen(self, registry: Registry) -> None:
        settings = self.settings
        server = settings.server
        self._doorkeeper = Doorkeeper(
            bound=(server.host, *listening.hosts_of(self._manager.sockets)),
            hosts=server.hosts,
            origins=server.origins,
        )
        self._doors = Doors(
            web_settings=settings.web,
            auth_settings=settings.auth,
            doorkeeper=self._doorkeeper,
            public=self._public,
            tokens=self.tokens,
            registry=registry,
            dispatcher=self._dispatcher,
            journal=self._journal,
            fanout=self._fanout,
            supervisor=self._supervisor,
            uploads=self._uploads,
            health=self.health,
            samples=self._samples,
        )
        self._runner = HttpRunner(
            self._doors.application,
            stripped=self._public.stripped,
            limit=settings.web.max_unauthenticated,
            allowed_bytes=settings.web.unauthenticated_bytes,
            timeout=settings.auth.timeout,
            shutdown_timeout=SHUTDOWN_STEP,
        )
        await self._runner.setup()
        self._supervisor.start(self._runner.http.run(), name="unauthenticated")
        self._stack.push_async_callback(self._runner.cleanup)
        if self._manager.sockets:
            self._place = await listening.listen_on_given(self._runner, self._manager.sockets)
        else:
            self._place = await listening.listen_on_own(
                self._runner, self._stack, host=server.host, port=server.port, path=self._socket
            )
        self.url = str(self._place)

    def _publish(self) -> None:
        home.publish(
            self.state_dir,
            home.Address(
                pid=os.getpid(),
                start_time=start_time(os.getpid()),
                version=__version__,
                url=self._place.url,
                socket=self._place.path,
            ),
        )
        self._stack.callback(home.withdraw, self.state_dir)

    # Closing

    async def _drain(self) -> None:
        """Stop accepting, warn, stop the tasks, write and deliver the rest, close with 1012."""
        self._status = "draining"
        self._tasks.close()  # at once: what a command is about to start would come too late
        wait = self.settings.server.shutdown_timeout
        self._deadline = time.monotonic() + wait
        self._manager.notify("STOPPING=1", *self._states())
        log.info("daemon.draining", tasks=len(self._tasks), waits_for=self._named(), seconds=wait)
        for site in list(self._runner.sites):
            await site.stop()
        self._doors.drain()
        polite = self._supervisor.start(self._tasks.stop_all(), name="stop_all")
        hurried = self._supervisor.start(self._hurried.wait(), name="hurried")
        await asyncio.wait([polite, hurried], timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        if not polite.done():
            log.warning(
                "daemon.killing",
                tasks=len(self._tasks),
                waits_for=self._named(),
                hurried=self._hurried.is_set(),
            )
            self._deadline = 0.0
            self._manager.notify(*self._states())
            await self._tasks.end()
        self._manager.notify(*self._states())
        log.info("daemon.closing", connections=self._doors.connections, seconds=CLOSING)
        await self._journal.settle()
        self._fanout.finish()
        await self._doors.close()

    # Looking in

    def health(self) -> Health:
        """Say how the daemon is."""
        stalled = self._journal.stalled
        short = self._guard.reason
        status = "degraded" if (stalled or short) and self._status == "ok" else self._status
        return Health(
            status=status,
            version=__version__,
            pid=os.getpid(),
            uptime=round(time.time() - self._started_at, 3),
            started_at=self._started_at,
            tasks=len(self._tasks),
            queued=self._tasks.slots.queued,
            connections=self._doors.connections,
            journal=stalled or "ok",
            guard=short or "ok",
        )

    def _find_agents(self) -> list[str]:
        """Find the agents whose programs are here; this looks at files."""
        configured = self.settings.agents
        return [
            name
            for name, adapter in ADAPTERS.items()
            if not adapter.abilities.conversation
            or shutil.which((configured[name].path if name in configured else "") or name)
        ]

    def _samples(self) -> Iterator[metrics.Sample]:
        journal = self._journal
        yield metrics.Sample(metrics.UNAUTHENTICATED, len(self._runner.http.unauthenticated))
        yield metrics.Sample(metrics.DELIVERED, self._fanout.delivered)
        yield metrics.Sample(metrics.EVENTS, journal.events)
        yield metrics.Sample(metrics.EVENT_BYTES, journal.bytes)
        yield metrics.Sample(metrics.COMMIT_SECONDS, journal.commit_seconds)
        yield metrics.Sample(metrics.PENDING_BYTES, journal.pending)
        yield metrics.Sample(metrics.JOURNAL_STALLED, float(bool(journal.stalled)))
        yield metrics.Sample(metrics.TASKS_QUEUED, self._tasks.slots.queued)
        for (kind, state), count in Counter((t.kind, t.state) for t in self._tasks).items():
            yield metrics.Sample(metrics.TASKS, count, (kind, state))

    def _states(self) -> tuple[str, ...]:
        """Say in systemd's words how it is; while it stops, with the time that this may take."""
        if self._status != "draining":
            counts = Counter(
                "queued" if task.state == "queued" else "running" for task in self._tasks
            )
            stalled = f", degraded: {self._journal.stalled}" if self._journal.stalled else ""
            told = f"{counts['running']} running, {counts['queued']} queued{stalled}"
            return (f"STATUS={self.url}: {told}",)
        if not self._tasks:
            return ("STATUS=draining: writes and delivers the rest", extension(CLOSING))
        left = math.ceil(max(0.0, self._deadline - time.monotonic()))
        how = f"waits up to {left} s for" if left else "kills"
        return (f"STATUS=draining: {how} {self._named()}", extension(left + CLOSING))

    def _named(self) -> str:
        """Name what has not ended, for one line."""
        names = [task.channel for task in self._tasks]
        more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
        return ", ".join(names[:NAMED] + more)

    def _require_ready(self) -> None:
        if self._status == "draining":
            raise Unavailable("the daemon stops; try again when it is back")
        self._guard.require_files()
        self._journal.require_room()


def _sweep(records: Path, cgroups: Cgroups | None) -> None:
    """End what a daemon has left that died together with its reapers."""
    orphans.sweep(records)
    if cgroups is not None:
        cgroups.sweep()


def check_bind(settings: Settings, *, explicit_host: bool) -> None:
    """Refuse to leave loopback unless `--host` said so on the command line."""
    host = settings.server.host
    if not explicit_host and not host.startswith(LOOPBACK):
        raise BadRequest(
            f"[server] host is {host}, which others can reach: say --host {host} to mean it"
        )
