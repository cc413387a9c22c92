"""What can be asked of projects."""

from __future__ import annotations

from daemon.core.events import Answer, Command, command


class Project(Answer):
    """A root folder: `path` is absolute and resolved, `created_at` is in Unix seconds.

    Only where it is `trusted` does git run the hooks and programs that its own files configure.
    """

    id: str
    name: str
    path: str
    created_at: float
    trusted: bool = False


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


class Capabilities(Answer):
    """What can be done in a project.

    `git`: it is a repository. `workflows` are the files below `.agent/workflows`, `agents` those
    that this machine has.
    """

    project_id: str
    git: bool
    workflows: list[str]
    agents: list[str]


@command("project.capabilities", action="read", channel="project:{project_id}", answer=Capabilities)
class GetCapabilities(Command):
    """Look what can be done in a project: whether it is a repository, which workflows it has.

    The agents are those that are found on this machine.
    """

    project_id: str


@command("project.rename", action="write", channel="project:{project_id}", answer=OneProject)
class RenameProject(Command):
    """Give a project another `name`, of 1 to 200 characters; its folder keeps its own."""

    project_id: str
    name: str


@command("project.trust", action="write", channel="project:{project_id}", answer=OneProject)
class TrustProject(Command):
    """Let git run what the project's own files configure, its hooks too.

    `trusted` false takes that back.
    """

    project_id: str
    trusted: bool = True


@command("project.remove", action="write", channel="project:{project_id}", answer=OneProject)
class RemoveProject(Command):
    """Forget a project; no file is touched."""

    project_id: str
