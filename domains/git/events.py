"""What git does in projects."""

from __future__ import annotations

from daemon.core.events import Answer, Event, event
from domains.git.answers import Summary


class Progress(Answer):
    """How far it is: `total` and `percentage` are null while git does not know."""

    current: int
    total: int | None
    percentage: float | None


@event("git.operation.started", "git:project:{project_id}", "project:{project_id}")
class OperationStarted(Event):
    """Somebody has asked for an operation, and it begins."""

    project_id: str
    operation_id: str
    operation: str
    user: str


@event("git.operation.progress", "git:project:{project_id}")
class OperationProgress(Event):
    """How far an operation is; `stage` is what git calls it, as in `Receiving objects`."""

    project_id: str
    operation_id: str
    operation: str
    stage: str
    progress: Progress


@event("git.operation.completed", "git:project:{project_id}", "project:{project_id}")
class OperationCompleted(Event):
    """An operation did what it was asked for."""

    project_id: str
    operation_id: str
    operation: str
    duration_ms: int


@event("git.operation.failed", "git:project:{project_id}", "project:{project_id}")
class OperationFailed(Event):
    """An operation did not do what it was asked for, or not all of it: `message` says what is next.

    `code` is that of the error, or one of cancelled, timeout, daemon_stopped, and lost where the
    daemon died.
    """

    project_id: str
    operation_id: str
    operation: str
    code: str
    message: str
    duration_ms: int


@event("git.status.changed", "git:project:{project_id}", "project:{project_id}")
class StatusChanged(Event):
    """Where the repository stands is something else than was last told."""

    project_id: str
    summary: Summary
