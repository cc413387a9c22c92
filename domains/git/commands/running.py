"""Any operation by its name, and what is under way."""

from __future__ import annotations

from typing import Any

from daemon.core.events import Answer, Command, command
from domains.git.desk import OperationId


class OperationResult(Answer):
    """What an operation has answered with: `result` is the answer of `git.OPERATION`."""

    operation_id: str
    result: Any


class RunningOperation(Answer):
    """An operation that has not ended."""

    operation_id: str
    operation: str
    project_id: str
    user: str


class RunningOperations(Answer):
    """The operations under way that the token may read of."""

    operations: list[RunningOperation]


@command(
    "git.run", action="write", channel="git:project:{project_id}", answer=OperationResult, cost=1.0
)
class RunOperation(Command):
    """Run an operation by its name: `git.OPERATION` with `args`, told on the project's channels.

    The answer comes when it has ended; `operationId`, the client's choice or ours, is that of the
    events meanwhile and of the task, for `task.cancel`. With `once` it is not done twice under one
    `operationId`, even where the daemon died meanwhile: what was done then is answered again.
    """

    project_id: str
    operation: str
    args: dict[str, Any] | None = None
    operation_id: OperationId | None = None
    once: bool = False


class OperationOutcome(Answer):
    """Whether running an operation again with `once` repeats nothing that may be half done."""

    operation_id: str
    known: bool


@command("git.outcome", action="read", channel="git:project:{project_id}", answer=OperationOutcome)
class GetOutcome(Command):
    """Return whether it is known what an operation did that ran with `once` when the daemon died.

    `known` is false where one of its processes that change something had begun, and nothing tells
    that it came to its end.
    """

    project_id: str
    operation_id: OperationId
    worktree: str | None = None


@command(
    "git.cancel",
    action="write",
    channel="git:project:{project_id}",
    answer=RunningOperation,
    urgent=True,
)
class CancelOperation(Command):
    """End an operation, also one that waits for its turn; `git.operation.failed` tells its end."""

    project_id: str
    operation_id: OperationId


@command("git.list", action="read", answer=RunningOperations)
class ListOperations(Command):
    """List the operations under way."""

    project_id: str | None = None
