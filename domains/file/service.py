"""The file service: looks into the folders of projects and changes them, in parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from daemon.core.bus import EventBus
from daemon.core.calendar import Calendar
from daemon.core.errand import Errands
from daemon.core.journal import Journal
from daemon.core.supervisor import Supervisor
from daemon.core.task import Tasks, TaskSettings
from domains.file.changing import Changing
from domains.file.discarding import Discarding
from domains.file.ground import FileSettings, Git, Ground, Projects
from domains.file.looking import Looking
from domains.file.searching import KIND, Searching
from domains.file.watching import Connections, Watching, WatchSettings

SCHEMA: tuple[str, ...] = ()


class Settings(FileSettings, WatchSettings, Protocol):
    """The section of the settings for files, as all parts need it."""


class FileService:
    """Each part handles commands that belong together; all of them stand on one ground."""

    def __init__(self, parts: tuple[object, ...]) -> None:
        """Be made of these parts."""
        self.parts = parts


@asynccontextmanager
async def open_service(
    *,
    bus: EventBus,
    journal: Journal,
    tasks: Tasks,
    supervisor: Supervisor,
    project: Projects,
    git: Git,
    task_settings: TaskSettings,
    file_settings: Settings,
    connections: Connections,
    calendar: Calendar,
    state_dir: Path,
) -> AsyncIterator[FileService]:
    """Open the file service."""
    ground = Ground(projects=project, git=git, settings=file_settings)
    errands = Errands(tasks, task_settings, KIND)
    journal.vouch("file:project", project.knows)
    discarding = Discarding(ground, supervisor, calendar, state_dir)
    bus.on("project.removed", lambda event: discarding.forget(event.project_id))
    watching = Watching(
        projects=project,
        git=git,
        settings=file_settings,
        bus=bus,
        supervisor=supervisor,
        connections=connections,
    )
    parts = (Looking(ground), Changing(ground), discarding, Searching(ground, errands), watching)
    yield FileService(parts)
