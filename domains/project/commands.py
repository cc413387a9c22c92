"""What can be asked of projects."""

from __future__ import annotations

from daemon.core.events import Answer, Command, command


class Project(Answer):
    """A root folder: `path` is absolute and resolved, `created_at` is in Unix seconds."""

    id: str
    name: str
    path: str
    created_at: float


class OneProject(Answer):
    """One project."""

    project_id: str
    project: Project


class ManyProjects(Answer):
    """Every project that the token may read."""

    projects: list[Project]


@command("project.add", action="write", channel="project:*", answer=OneProject)
class AddProject(Command):
    """Make a folder a project; one that is known already is given back as it is."""

    path: str
    name: str | None = None


@command("project.list", action="read", answer=ManyProjects)
class ListProjects(Command):
    """List the projects that the token may read."""


@command("project.get", action="read", channel="project:{project_id}", answer=OneProject)
class GetProject(Command):
    """Tell about one project."""

    project_id: str


@command("project.remove", action="write", channel="project:{project_id}", answer=OneProject)
class RemoveProject(Command):
    """Forget a project; no file is touched."""

    project_id: str
