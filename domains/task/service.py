"""The task service: looks at the supervisor's tasks from outside."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from daemon.core.commands import Caller, handles
from daemon.core.errors import NotFound
from daemon.core.spawner import stat_fields
from daemon.core.task import Task, Tasks
from domains.task.commands import (
    CancelTask,
    GetTask,
    KillTask,
    ListTasks,
    ManyTasks,
    OneTask,
    TaskInfo,
)


class Usage(NamedTuple):
    """What the processes of a tree have used: seconds of CPU, bytes now and at their most."""

    cpu: float
    rss: int
    peak: int


class TaskService:
    """Lists and stops tasks; each needs the grant on the channel that the task tells on."""

    def __init__(self, tasks: Tasks) -> None:
        """Look at these."""
        self._tasks = tasks

    @handles(ListTasks)
    async def list(self, _: ListTasks, caller: Caller) -> ManyTasks:
        """List what the token may read."""
        visible = [task for task in self._tasks if caller.may("read", task.channel)]
        usage = await asyncio.to_thread(_usage, [task.pid for task in visible])
        return ManyTasks(tasks=[_info(task, usage) for task in visible])

    @handles(GetTask)
    async def get(self, command: GetTask, caller: Caller) -> OneTask:
        """Tell about one task."""
        return await self._one(self._find(command.task_id, caller, "read"))

    @handles(CancelTask)
    async def cancel(self, command: CancelTask, caller: Caller) -> OneTask:
        """Ask a task to stop."""
        task = self._find(command.task_id, caller, "write")
        task.stop()
        return await self._one(task)

    @handles(KillTask)
    async def kill(self, command: KillTask, caller: Caller) -> OneTask:
        """Kill a task."""
        task = self._find(command.task_id, caller, "write")
        task.stop(hard=True)
        return await self._one(task)

    def _find(self, id_: str, caller: Caller, action: str) -> Task:
        task = self._tasks.get(id_)
        if task is None:
            caller.require(action, "*")  # whether it exists is only for those who may see any
            raise NotFound(f"there is no running task {id_[:80]!r}; see 'agentcmd ps'")
        caller.require(action, task.channel)
        return task

    @staticmethod
    async def _one(task: Task) -> OneTask:
        usage = await asyncio.to_thread(_usage, [task.pid])
        return OneTask(task_id=task.id, state=task.state, task=_info(task, usage))


@asynccontextmanager
async def open_service(*, tasks: Tasks) -> AsyncIterator[TaskService]:
    """Open the task service."""
    yield TaskService(tasks)


def _info(task: Task, usage: dict[int, Usage]) -> TaskInfo:
    used = usage.get(task.pid or 0)
    return TaskInfo(
        id=task.id,
        kind=task.kind,
        state=task.state,
        channel=task.channel,
        user=task.user,
        created_at=task.created_at,
        age=round(time.time() - task.created_at, 3),
        started_at=task.started_at,
        pid=task.pid,
        cpu_seconds=used.cpu if used else None,
        rss_bytes=used.rss if used else None,
        peak_bytes=used.peak if used else None,
    )


def _usage(pids: Iterable[int | None]) -> dict[int, Usage]:
    """Add up what each leader's reaper has below it: the leader and all it has left (proc(5))."""
    wanted = {pid for pid in pids if pid}
    if not wanted or not Path("/proc/self/stat").exists():
        return {}
    parents: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    own: dict[int, tuple[float, int]] = {}
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or not (fields := stat_fields(entry.name)):
            continue
        pid, parent = int(entry.name), int(fields[1])
        parents[pid] = parent
        children.setdefault(parent, []).append(pid)
        own[pid] = ((int(fields[11]) + int(fields[12])) / ticks, int(fields[21]) * page)
    trees = {pid: _below(parents[pid], children) for pid in wanted if pid in parents}
    return {
        pid: Usage(
            cpu=round(sum(own[each][0] for each in tree), 2),
            rss=sum(own[each][1] for each in tree),
            peak=sum(_peak(each) for each in tree),
        )
        for pid, tree in trees.items()
    }


def _below(root: int, children: dict[int, list[int]]) -> list[int]:
    found = list(children.get(root, ()))
    for pid in found:  # grows while it is read
        found.extend(children.get(pid, ()))
    return found


def _peak(pid: int) -> int:
    """Read the most memory that a process has held, in bytes."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    _, _, rest = status.partition("VmHWM:")
    return int(rest.split()[0]) * 1024 if rest else 0
