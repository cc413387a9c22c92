"""What happens to projects."""

from __future__ import annotations

from daemon.core.events import Event, event


@event("project.created", "project:{project_id}")
class ProjectCreated(Event):
    """A folder became a project."""

    project_id: str
    name: str
    path: str


@event("project.updated", "project:{project_id}")
class ProjectUpdated(Event):
    """A project has another name, or is trusted now, or no longer."""

    project_id: str
    name: str
    path: str
    trusted: bool = False


@event("project.removed", "project:{project_id}")
class ProjectRemoved(Event):
    """A project is no longer known here; its files stay as they are."""

    project_id: str
    path: str
