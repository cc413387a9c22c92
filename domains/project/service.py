"""The project service: which folders are projects, and which project a folder belongs to."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec import structs

from daemon.core.bus import EventBus
from daemon.core.commands import Caller, handles
from daemon.core.damage import sound
from daemon.core.errors import AgentcmdError, BadRequest, Conflict, NotFound
from daemon.core.journal import Journal
from domains.project.commands import (
    AddProject,
    Capabilities,
    GetCapabilities,
    GetProject,
    ListProjects,
    ManyProjects,
    OneProject,
    Project,
    RemoveProject,
    RenameProject,
    TrustProject,
)
from domains.project.events import ProjectCreated, ProjectRemoved, ProjectUpdated

WORKTREES = "worktrees"
"""Where git keeps work trees for projects, in the state dir: `worktrees/PROJECT/NAME`."""

SCRATCH = "scratch"
"""Id of the project for what is started without one; its folder is in the state dir."""

SCRATCH_GRANT = "project:*"
"""What creating in the scratch project needs: it belongs to nobody in particular."""

NAME_LENGTH = 200

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What would reach into the terminal that a name is shown on."""

WORKFLOW_FILES = 1000
"""Most workflow files that are told."""

WALKED = 20_000
"""Names below the folder of workflows that are looked at for those."""

WORKFLOWS = Path(".agent") / "workflows"
"""Where a project keeps its workflows."""

SCHEMA = (
    """
    CREATE TABLE project (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, path TEXT UNIQUE NOT NULL, created REAL NOT NULL
    )
    """,
    "ALTER TABLE project ADD COLUMN trusted INTEGER NOT NULL DEFAULT 0",
)


class ProjectService:
    """All projects are in memory: there are few, and every start of anything asks for one."""

    def __init__(
        self,
        *,
        bus: EventBus,
        journal: Journal,
        state_dir: Path,
        find_agents: Callable[[], Sequence[str]],
    ) -> None:
        """Know no project yet; `open_service` reads them. `find_agents` looks for programs."""
        self._bus = bus
        self._journal = journal
        self._scratch = state_dir / "scratch"
        self._worktrees = str(state_dir.resolve() / WORKTREES)
        self._find_agents = find_agents
        self._projects: dict[str, Project] = {}

    async def load(self) -> None:
        """Read the known projects, and make the scratch one at the first start."""
        rows = await self._journal.store.read(
            lambda db: db.execute("SELECT id, name, path, created, trusted FROM project").fetchall()
        )
        kinds = (str, str, str, float, int)
        for id_, name, path, created, trusted in sound(rows, kinds, "project"):
            self._projects[id_] = Project(
                id=id_, name=name, path=path, created_at=created, trusted=bool(trusted)
            )
        path = await asyncio.to_thread(_made, self._scratch)
        known = self._projects.get(SCRATCH)
        if known is None or known.path != path:  # the state dir may have been moved
            self._projects.pop(SCRATCH, None)
            self._remember(Project(id=SCRATCH, name="scratch", path=path, created_at=time.time()))

    def knows(self, project_id: str) -> bool:
        """Tell whether there is such a project."""
        return project_id in self._projects

    def root(self, project_id: str) -> str:
        """Give the folder of a project; NotFound for an unknown one."""
        return self._get(project_id).path

    def trusts(self, project_id: str) -> bool:
        """Tell whether what a project's own files configure may be run."""
        return self._get(project_id).trusted

    async def locate(self, project_id: str | None, cwd: str | None) -> tuple[str, str]:
        """Find the project and the folder for something new: `(project_id, folder)`.

        Without either it is the scratch project. NotFound for an unknown project or a folder in
        none; BadRequest for a folder that does not exist or is not inside the project named.
        """
        if project_id is None and cwd is None:
            project_id = SCRATCH
        if project_id is None:
            if not Path(str(cwd)).is_absolute():
                raise BadRequest(
                    f"{str(cwd)[:200]!r} is relative: to which project? Give projectId"
                )
            folder = await asyncio.to_thread(_resolved, str(cwd))
            return (self._in_worktree(folder) or self._around(folder)).id, folder
        project = self._get(project_id)
        if cwd is None:
            folder = await asyncio.to_thread(_resolved, project.path)
            return project.id, folder
        folder = await asyncio.to_thread(_resolved, str(Path(project.path) / cwd))
        if not (_inside(folder, project.path) or self._in_worktree(folder) is project):
            raise BadRequest(f"{folder} is outside the project {project.name} ({project.path})")
        return project.id, folder

    async def place(
        self, project_id: str | None, cwd: str | None, caller: Caller
    ) -> tuple[str, str]:
        """Find the project and the folder for something new that this caller may make there."""
        if project_id is None and cwd is None:
            caller.require("write", SCRATCH_GRANT)
        elif project_id is not None:
            caller.require("write", f"project:{project_id}")
        try:
            found, folder = await self.locate(project_id, cwd)
        except AgentcmdError:
            if project_id is None:  # which folders there are is for those who may use any
                caller.require("write", "project:*")
            raise
        if cwd is not None:
            caller.require("write", f"project:{found}")
        return found, folder

    @handles(AddProject)
    async def add(self, command: AddProject, _: Caller) -> OneProject:
        """Make a folder a project."""
        if not Path(command.path).is_absolute():
            raise BadRequest(
                f"{command.path[:200]!r} is relative; give the absolute path of the folder"
            )
        name = command.name
        if name is not None:
            _check_name(name)
        path = await asyncio.to_thread(_resolved, command.path)
        known = next((each for each in self._projects.values() if each.path == path), None)
        if known is None:
            id_ = f"{_slug(path)}-{secrets.token_hex(3)}"
            known = self._remember(
                Project(
                    id=id_, name=name or Path(path).name or "/", path=path, created_at=time.time()
                )
            )
        elif name is not None and name != known.name:
            known = self._change(known, name=name)
        await self._journal.flushed()
        return OneProject(project_id=known.id, project=known)

    @handles(ListProjects)
    def list(self, _: ListProjects, caller: Caller) -> ManyProjects:
        """List what the token may read."""
        projects = [
            each for each in self._projects.values() if caller.may("read", f"project:{each.id}")
        ]
        return ManyProjects(projects=projects)

    @handles(GetProject)
    def get(self, command: GetProject, _: Caller) -> OneProject:
        """Tell about one project."""
        project = self._get(command.project_id)
        return OneProject(project_id=project.id, project=project)

    @handles(GetCapabilities)
    async def capabilities(self, command: GetCapabilities, _: Caller) -> Capabilities:
        """Look what can be done in a project."""
        project = self._get(command.project_id)
        git, workflows = await asyncio.to_thread(_look_around, Path(project.path))
        agents = await asyncio.to_thread(self._find_agents)
        return Capabilities(
            project_id=project.id, git=git, workflows=workflows, agents=sorted(agents)
        )

    @handles(RenameProject)
    async def rename(self, command: RenameProject, _: Caller) -> OneProject:
        """Give a project another name."""
        _check_name(command.name)
        return await self._changed(command.project_id, name=command.name)

    @handles(TrustProject)
    async def trust(self, command: TrustProject, _: Caller) -> OneProject:
        """Trust a project, or no longer."""
        return await self._changed(command.project_id, trusted=command.trusted)

    @handles(RemoveProject)
    async def remove(self, command: RemoveProject, _: Caller) -> OneProject:
        """Forget a project."""
        project = self._get(command.project_id)
        if project.id == SCRATCH:
            raise Conflict("the scratch project stays")
        del self._projects[project.id]
        self._journal.execute("DELETE FROM project WHERE id = :id", id=project.id)
        self._bus.emit(ProjectRemoved(project_id=project.id, path=project.path))
        await self._journal.flushed()
        return OneProject(project_id=project.id, project=project)

    def _get(self, project_id: str) -> Project:
        project = self._projects.get(project_id)
        if project is None:
            raise NotFound(f"there is no project {project_id[:80]!r}; 'agentcmd project list'")
        return project

    def _in_worktree(self, folder: str) -> Project | None:
        """Find the project of whose repository a folder is in another work tree, kept by git's."""
        if not _inside(folder, self._worktrees) or folder == self._worktrees:
            return None
        return self._projects.get(Path(folder).relative_to(self._worktrees).parts[0])

    def _around(self, folder: str) -> Project:
        """Find the innermost project that a folder is in."""
        around = [each for each in self._projects.values() if _inside(folder, each.path)]
        if not around:
            raise NotFound(f"{folder} is in no project; add one with 'agentcmd project add PATH'")
        return max(around, key=lambda each: len(each.path))

    def _remember(self, project: Project) -> Project:
        self._projects[project.id] = project
        self._journal.execute(
            "INSERT OR REPLACE INTO project VALUES (:id, :name, :path, :created, 0)",
            id=project.id,
            name=project.name,
            path=project.path,
            created=project.created_at,
        )
        self._bus.emit(ProjectCreated(project_id=project.id, name=project.name, path=project.path))
        return project

    async def _changed(self, project_id: str, **fields: Any) -> OneProject:
        project = self._get(project_id)
        if any(getattr(project, name) != value for name, value in fields.items()):
            project = self._change(project, **fields)
            await self._journal.flushed()
        return OneProject(project_id=project.id, project=project)

    def _change(self, project: Project, **fields: Any) -> Project:
        changed = structs.replace(project, **fields)
        self._projects[project.id] = changed
        self._journal.execute(
            "UPDATE project SET name = :name, trusted = :trusted WHERE id = :id",
            id=changed.id,
            name=changed.name,
            trusted=int(changed.trusted),
        )
        self._bus.emit(
            ProjectUpdated(
                project_id=changed.id,
                name=changed.name,
                path=changed.path,
                trusted=changed.trusted,
            )
        )
        return changed


@asynccontextmanager
async def open_service(
    *,
    bus: EventBus,
    journal: Journal,
    state_dir: Path,
    find_agents: Callable[[], Sequence[str]],
) -> AsyncIterator[ProjectService]:
    """Open the project service."""
    service = ProjectService(bus=bus, journal=journal, state_dir=state_dir, find_agents=find_agents)
    journal.vouch("project", service.knows, keeps=True)
    await service.load()
    yield service


def _check_name(name: str) -> None:
    if not 0 < len(name) <= NAME_LENGTH or _CONTROLS.search(name):
        raise BadRequest(f"a name has 1 to {NAME_LENGTH} characters, and is one line of text")


def _look_around(folder: Path) -> tuple[bool, list[str]]:
    """Tell whether a folder is a repository, and which workflow files it has."""
    workflows = folder / WORKFLOWS
    found = (
        str(path.relative_to(workflows))
        for path in (_walked(workflows) if _is_below(workflows, folder) else ())
        if path.suffix in (".yaml", ".yml", ".py") and path.is_file()
    )
    return (folder / ".git").exists(), sorted(itertools.islice(found, WORKFLOW_FILES))


def _walked(workflows: Path) -> Iterator[Path]:
    """Go over what lies below the folder of workflows, as far as WALKED names."""
    return itertools.islice(workflows.rglob("*"), WALKED)


def _is_below(path: Path, folder: Path) -> bool:
    """Tell whether a path stays in a folder, whatever symlinks there are on its way."""
    return _inside(os.path.realpath(path), os.path.realpath(folder))


def _made(folder: Path) -> str:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(folder.resolve())


def _resolved(path: str) -> str:
    """Resolve symlinks; BadRequest when it is no folder that can be entered."""
    try:
        folder = Path(path).expanduser().resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadRequest(f"the folder {path[:200]!r} cannot be used: {why}") from None
    if not folder.is_dir():
        raise BadRequest(f"{path[:200]!r} is not a folder")
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise BadRequest(f"{path[:200]!r} leads to a folder whose name is not UTF-8") from None
    return str(folder)


def _inside(folder: str, root: str) -> bool:
    return folder == root or Path(folder).is_relative_to(root)


def _slug(path: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", Path(path).name.lower()).strip("-")[:40] or "root"
