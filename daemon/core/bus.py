"""The EventBus: domains say what happened; listeners and channels learn of it, in order."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any

import msgspec
import structlog

from daemon.core import frames
from daemon.core.channels import is_pattern, parse_channel
from daemon.core.errors import BadRequest, UnknownEvent
from daemon.core.events import Event
from daemon.core.journal import Journal
from daemon.core.registry import Registry
from daemon.core.supervisor import Supervisor

log = structlog.get_logger(__name__)

LISTENER_BACKLOG = 10_000
"""Events that an async listener may be behind before it is cut off, as a slow client would be."""

Handler = Callable[[Any], Awaitable[None] | None]


class Emitted(Awaitable[None]):
    """What `emit` gives back: done when the async listeners are; not awaiting loses nothing."""

    __slots__ = ("_waits",)

    def __init__(self, waits: list[asyncio.Future[None]] | None = None) -> None:
        """Wait for these listeners, or for none."""
        self._waits = waits

    def __await__(self) -> Generator[Any, None, None]:
        """Wait until each async listener has had the event; their failures stay theirs."""
        if self._waits:
            yield from asyncio.wait(self._waits).__await__()


DONE = Emitted()


class EventBus:
    """Publishes typed events: journal first, then the listeners."""

    def __init__(
        self,
        registry: Registry,
        journal: Journal,
        supervisor: Supervisor,
        *,
        debug: bool = False,
    ) -> None:
        """Publish what `registry` declares. `debug` checks and logs each event, never its data."""
        self._registry = registry
        self._journal = journal
        self._supervisor = supervisor
        self.debug = debug
        self._listeners: dict[str, dict[Listener, None]] = {}
        self._resolved: dict[str, tuple[Listener, ...]] = {}

    def on(self, event: str, handler: Handler, *, as_data: bool = False) -> Callable[[], None]:
        """Listen to an event, to `session.*` or to `*`; gives back its own undo.

        A listener gets the event, with `as_data` its wire data as a dict. A coroutine function
        runs as a supervised task, one event after the other. A failing listener is logged and
        harms nobody else.
        """
        if not is_pattern(event) and event not in self._registry.events:
            raise UnknownEvent(f"no domain declares the event {event!r}")
        kind = AsyncListener if inspect.iscoroutinefunction(handler) else Listener
        listener = kind(event, handler, self._supervisor, as_data=as_data)
        listener.cut_off = lambda: self._remove(event, listener)
        self._listeners.setdefault(event, {})[listener] = None
        self._resolved.clear()
        return lambda: self._remove(event, listener)

    def emit(self, event: Event | str, data: Mapping[str, Any] | None = None) -> Emitted:
        """Tell an event on its channels and to its listeners, before this returns.

        The typed form is for our code; the name with its wire data is the seed's form.
        UnknownEvent when no domain declares it, or the data does not fit.
        """
        if isinstance(event, str):
            event = self._registry.event(event, data or {})
        info = event.__event__
        encoded = frames.encode(event)
        if self.debug:
            msgspec.json.decode(encoded, type=type(event))
        for template in info.channels:
            where = self._journal.append(template.of(event), info.name, encoded)
            if self.debug:
                log.debug(
                    "event",
                    event_name=info.name,
                    channel=where.name,
                    offset=where.head,
                    size=len(encoded),
                )
        return self._hear(info.name, lambda: event)

    def announce(self, name: str, make: Callable[[], Event]) -> Emitted:
        """Have listeners hear an event that its log holds already; it is made where there are any.

        For output that comes by the megabyte, and is encoded only for those who read it.
        """
        return self._hear(name, make)

    def _hear(self, name: str, make: Callable[[], Event]) -> Emitted:
        listeners = self._resolved.get(name)
        if listeners is None:
            listeners = self._resolved[name] = self._resolve(name)
        if not listeners:
            return DONE
        event = make()
        waits = [wait for each in listeners if (wait := each.hear(event)) is not None]
        return Emitted(waits) if waits else DONE

    def broadcast(self, channel: str, message: Mapping[str, Any]) -> None:
        """Tell `{type, data}` on a channel: the door for what is not an event of a domain."""
        type_, data = message.get("type"), message.get("data", {})
        if not isinstance(type_, str) or "." not in type_:
            raise BadRequest("a message is {type, data} with a dotted type")
        if type_ in self._registry.events:
            raise BadRequest(f"{type_} is declared: emit it, and it finds its channels by itself")
        if is_pattern(parse_channel(channel)):
            raise BadRequest("broadcast to one channel, not to a pattern")
        self._journal.append(channel, type_, frames.encode(data))

    def _resolve(self, name: str) -> tuple[Listener, ...]:
        parts = name.split(".")
        keys = ["*", *(".".join([*parts[:n], "*"]) for n in range(1, len(parts))), name]
        return tuple(each for key in keys for each in self._listeners.get(key, ()))

    def _remove(self, event: str, listener: Listener) -> None:
        listener.removed = True
        self._listeners.get(event, {}).pop(listener, None)
        self._resolved.clear()


class Listener:
    """A plain function that hears events at once."""

    def __init__(
        self, event: str, handler: Handler, supervisor: Supervisor, *, as_data: bool
    ) -> None:
        """Hear with `handler`."""
        self.name = f"{event}:{getattr(handler, '__qualname__', repr(handler))}"
        self.cut_off: Callable[[], None] = lambda: None
        self.removed = False
        self._handler = handler
        self._supervisor = supervisor
        self._as_data = as_data

    def hear(self, event: Event) -> asyncio.Future[None] | None:
        """Run the handler; what it raises is logged here and goes no further."""
        if self.removed:  # by one that has heard the same event just now
            return None
        try:
            self._handler(self._form(event))
        except Exception:
            log.exception("listener.failed", listener=self.name, event_name=event.__event__.name)
        return None

    def _form(self, event: Event) -> Any:
        return msgspec.to_builtins(event) if self._as_data else event


class AsyncListener(Listener):
    """A coroutine function that hears events in order, in a task of its own while there are any."""

    def __init__(
        self, event: str, handler: Handler, supervisor: Supervisor, *, as_data: bool
    ) -> None:
        """Hear with `handler`, one event after the other."""
        super().__init__(event, handler, supervisor, as_data=as_data)
        self._backlog: deque[tuple[Event, asyncio.Future[None]]] = deque()
        self._running = False

    def hear(self, event: Event) -> asyncio.Future[None] | None:
        """Queue the event; a listener that never keeps up is cut off, and the log says so."""
        if self.removed:
            return None
        if len(self._backlog) >= LISTENER_BACKLOG:
            log.error("listener.cut_off", listener=self.name, behind=len(self._backlog))
            self.cut_off()
            return None
        heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._backlog.append((event, heard))
        if not self._running:
            self._running = True
            self._supervisor.start(self._work(), name=f"listener:{self.name}")
        return heard

    async def _work(self) -> None:
        try:
            while self._backlog:
                event, heard = self._backlog.popleft()
                try:
                    result = self._handler(self._form(event))
                    if result is not None:
                        await result
                except (Exception, asyncio.CancelledError) as error:
                    if _cancelling(error):
                        raise
                    log.exception(
                        "listener.failed", listener=self.name, event_name=event.__event__.name
                    )
                finally:
                    if not heard.done():
                        heard.set_result(None)
        finally:
            self._running = False


def _cancelling(error: BaseException) -> bool:
    """Tell the end of this task from a listener that has awaited something cancelled."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
