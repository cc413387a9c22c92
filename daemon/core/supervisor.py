"""The owner of everything that runs: asyncio tasks by name, and the slots that programs run in."""

from __future__ import annotations

import asyncio
import contextvars
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Self, TypeVar

import structlog

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


class Supervisor:
    """Starts asyncio tasks, notes their failures and ends them at the end; all have an owner."""

    def __init__(self) -> None:
        """Own nothing yet."""
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        """Begin; tasks are started as they come."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancel what still runs, and wait until it has ended."""
        while self._tasks - {asyncio.current_task()}:  # one that ends may start another
            await self.cancel(self._tasks)

    def start(self, work: Coroutine[Any, Any, Result], *, name: str) -> asyncio.Task[Result]:
        """Run a coroutine under a name; a failure is logged even when nobody awaits it."""
        # A context of its own: what the starter has bound for its log is not the task's.
        context = contextvars.Context()
        task = asyncio.get_running_loop().create_task(work, name=name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def cancel(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Cancel tasks and wait until each has ended."""
        ours = [task for task in tasks if task is not asyncio.current_task()]
        for task in ours:
            task.cancel()
        if ours:
            await asyncio.wait(ours)

    def __len__(self) -> int:
        """Count the asyncio tasks that run."""
        return len(self._tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task.failed", task=task.get_name(), exc_info=error)


class Slots:
    """A limit on how many programs run at once, shared out fairly: owners take turns."""

    def __init__(self, limit: int) -> None:
        """Allow `limit` holders at a time."""
        self.limit = limit
        self.taken = 0
        self._queues: OrderedDict[str, deque[Waiter]] = OrderedDict()

    @property
    def queued(self) -> int:
        """Count who waits."""
        return sum(len(queue) for queue in self._queues.values())

    def request(self, owner: str, moved: Callable[[int], None]) -> Waiter:
        """Ask for a slot; `moved` is told the place in the queue (1 is next) as it changes."""
        waiter = Waiter(owner, moved)
        if self.taken < self.limit and not self._queues:
            self.taken += 1
            waiter.granted.set_result(None)
        else:
            self._queues.setdefault(owner, deque()).append(waiter)
            self._tell_places()
        return waiter

    def withdraw(self, waiter: Waiter) -> None:
        """Leave the queue, or give the slot back where it was granted meanwhile."""
        if waiter.granted.done():
            self.release()
            return
        queue = self._queues[waiter.owner]
        queue.remove(waiter)
        if not queue:
            del self._queues[waiter.owner]
        self._tell_places()

    def release(self) -> None:
        """Give a slot back; the next owner in turn gets it."""
        self.taken -= 1
        self._grant()

    def resize(self, limit: int) -> None:
        """Allow another number; where that is less, those who have a slot keep it."""
        if limit != self.limit:
            self.limit = limit
            self._grant()

    def _grant(self) -> None:
        while self._queues and self.taken < self.limit:
            owner, queue = self._queues.popitem(last=False)
            waiter = queue.popleft()
            if queue:
                self._queues[owner] = queue  # behind the other owners
            self.taken += 1
            waiter.granted.set_result(None)
        self._tell_places()

    def _tell_places(self) -> None:
        """Walk the queue in the order in which slots will be granted."""
        rounds = [list(queue) for queue in self._queues.values()]
        place = 0
        for turn in range(max(map(len, rounds), default=0)):
            for queue in rounds:
                if turn < len(queue):
                    place += 1
                    queue[turn].move(place)


class Waiter:
    """One who waits for a slot."""

    __slots__ = ("_moved", "_place", "granted", "owner")

    def __init__(self, owner: str, moved: Callable[[int], None]) -> None:
        """Wait at no place yet."""
        self.owner = owner
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._moved = moved
        self._place = 0

    def move(self, place: int) -> None:
        """Tell the place when it is another than before."""
        if place == self._place:
            return
        self._place = place
        try:
            self._moved(place)
        except Exception:  # whoever has moved the queue is another one
            log.exception("slots.failed", owner=self.owner)
