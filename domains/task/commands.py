"""What can be asked of supervised tasks."""

from __future__ import annotations

from daemon.core.events import Answer, Command, command


class TaskInfo(Answer):
    """One supervised task. Times in Unix seconds, `age` in seconds.

    `cpu_seconds`, `rss_bytes` and `peak_bytes` are those of the tree as it is now, the last the sum
    of what each process held at its most; absent where the system does not tell (/proc is Linux).
    """

    id: str
    kind: str
    state: str
    channel: str
    user: str
    created_at: float
    age: float
    started_at: float | None = None
    pid: int | None = None
    cpu_seconds: float | None = None
    rss_bytes: int | None = None
    peak_bytes: int | None = None


class OneTask(Answer):
    """One task and where it stands."""

    task_id: str
    state: str
    task: TaskInfo


class ManyTasks(Answer):
    """The tasks that the token may read."""

    tasks: list[TaskInfo]


@command("task.list", action="read", answer=ManyTasks)
class ListTasks(Command):
    """List the tasks that have not ended."""


@command("task.get", action="read", answer=OneTask)
class GetTask(Command):
    """Tell about one task."""

    task_id: str


@command("task.cancel", action="write", answer=OneTask, urgent=True)
class CancelTask(Command):
    """Ask a task to stop; its whole tree is killed after the grace period."""

    task_id: str


@command("task.kill", action="write", answer=OneTask, urgent=True)
class KillTask(Command):
    """Kill a task's whole tree at once."""

    task_id: str
