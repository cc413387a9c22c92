"""The project service: which folders are projects, and which project a folder belongs to."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from daemon.core.bus import EventBus
from daemon.core.commands import Caller, handles
from daemon.core.errors import AgentcmdError, BadRequest, Conflict, NotFound
from daemon.core.journal import Journal
from domains.project.commands import (
    AddProject,
    GetProject,
    ListProjects,
    ManyProjects,
    OneProject,
    Project,
    RemoveProject,
)
from domains.project.events import ProjectCreated, ProjectRemoved, ProjectUpdated

SCRATCH = "scratch"
"""Id of the project for what is started without one; its folder is in the state dir."""

SCRATCH_GRANT = "project:*"
"""What creating in the scratch project needs: it belongs to nobody in particular."""

NAME_LENGTH = 200

SCHEMA = (
    """
    CREATE TABLE project (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, path TEXT UNIQUE NOT NULL, created REAL NOT NULL
    )
    """,
)


class ProjectService:
    """All projects are in memory: there are few, and every start of anything asks for one."""

    def __init__(self, *, bus: EventBus, journal: Journal, scratch: Path) -> None:
        """Know no project yet; `open_service` reads them."""
        self._bus = bus
        self._journal = journal
        self._scratch = scratch
        self._projects: dict[str, Project] = {}

    async def load(self) -> None:
        """Read the known projects, and make the scratch one at the first start."""
        rows = await self._journal.store.read(
            lambda db: db.execute("SELECT id, name, path, created FROM project").fetchall()
        )
        for id_, name, path, created in rows:
            self._projects[id_] = Project(id=id_, name=name, path=path, created_at=created)
        path = await asyncio.to_thread(_made, self._scratch)
        known = self._projects.get(SCRATCH)
        if known is None or known.path != path:  # the state dir may have been moved
            self._projects.pop(SCRATCH, None)
            self._remember(Project(id=SCRATCH, name="scratch", path=path, created_at=time.time()))

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
            return self._around(folder).id, folder
        project = self._get(project_id)
        if cwd is None:
            folder = await asyncio.to_thread(_resolved, project.path)
            return project.id, folder
        folder = await asyncio.to_thread(_resolved, str(Path(project.path) / cwd))
        if not _inside(folder, project.path):
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
        if name is not None and not 0 < len(name) <= NAME_LENGTH:
            raise BadRequest(f"a name has 1 to {NAME_LENGTH} characters")
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
            known = self._rename(known, name)
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

    def _around(self, folder: str) -> Project:
        """Find the innermost project that a folder is in."""
        around = [each for each in self._projects.values() if _inside(folder, each.path)]
        if not around:
            raise NotFound(f"{folder} is in no project; add one with 'agentcmd project add PATH'")
        return max(around, key=lambda each: len(each.path))

    def _remember(self, project: Project) -> Project:
        self._projects[project.id] = project
        self._journal.execute(
            "INSERT OR REPLACE INTO project VALUES (:id, :name, :path, :created)",
            id=project.id,
            name=project.name,
            path=project.path,
            created=project.created_at,
        )
        self._bus.emit(ProjectCreated(project_id=project.id, name=project.name, path=project.path))
        return project

    def _rename(self, project: Project, name: str) -> Project:
        renamed = Project(
            id=project.id, name=name, path=project.path, created_at=project.created_at
        )
        self._projects[project.id] = renamed
        self._journal.execute(
            "UPDATE project SET name = :name WHERE id = :id", id=project.id, name=name
        )
        self._bus.emit(ProjectUpdated(project_id=project.id, name=name, path=project.path))
        return renamed


@asynccontextmanager
async def open_service(
    *, bus: EventBus, journal: Journal, state_dir: Path
) -> AsyncIterator[ProjectService]:
    """Open the project service."""
    service = ProjectService(bus=bus, journal=journal, scratch=state_dir / "scratch")
    await service.load()
    yield service


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
