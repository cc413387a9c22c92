"""The task service: looks at the supervisor's tasks from outside."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from daemon.core.commands import Caller, handles
from daemon.core.errors import NotFound
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

Usage = tuple[float, int]


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
    cpu, rss = usage.get(task.pid or 0, (None, None))
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
        cpu_seconds=cpu,
        rss_bytes=rss,
    )


def _usage(pids: Iterable[int | None]) -> dict[int, Usage]:
    """Add up CPU seconds and resident bytes of each leader and its descendants (proc(5))."""
    wanted = {pid for pid in pids if pid}
    if not wanted or not Path("/proc/self/stat").exists():
        return {}
    children: dict[int, list[int]] = {}
    own: dict[int, Usage] = {}
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name may hold spaces and brackets: the fields begin after the last bracket.
            fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        pid = int(entry.name)
        children.setdefault(int(fields[1]), []).append(pid)
        own[pid] = ((int(fields[11]) + int(fields[12])) / ticks, int(fields[21]) * page)
    return {pid: _sum(pid, children, own) for pid in wanted if pid in own}


def _sum(pid: int, children: dict[int, list[int]], own: dict[int, Usage]) -> Usage:
    cpu, rss = 0.0, 0
    pending = [pid]
    while pending:
        each = pending.pop()
        cpu += own[each][0]
        rss += own[each][1]
        pending.extend(children.get(each, ()))
    return round(cpu, 2), rss
