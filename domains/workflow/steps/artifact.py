"""Files kept with a run, and where they are had again."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
import stat
from pathlib import Path

from daemon.core.errors import BadRequest, Conflict, NotFound, TooLarge
from daemon.core.ids import new_id
from domains.workflow.definition import Json
from domains.workflow.events import ArtifactKept
from domains.workflow.failures import StepFailure
from domains.workflow.live import LiveRun

FILE_BYTES = 256 << 20
RUN_FILES = 1000
"""Largest file that is kept, and how many of one run."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE})
"""What is no fault of the file's."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}")


class Artifacts:
    """Keeps files in the state dir, each run's in a folder of its own."""

    def __init__(self, folder: Path, *, base_path: str = "") -> None:
        """Keep them below this folder; `base_path` stands before their paths over HTTP."""
        self._base_path = base_path
        self._folder = folder

    async def keep(self, live: LiveRun, step_id: str, fields: dict[str, Json]) -> Json:
        """Copy a file of the run's folder; the same name again replaces it."""
        path = str(fields["artifact"])
        name = str(fields.get("name") or Path(path).name)
        try:
            size = await asyncio.to_thread(self._copy, live.run.id, live.folder(), path, name)
        except RuntimeError:  # what pathlib says before Python 3.13
            raise StepFailure("not_found", f"{path} is a link to itself", permanent=True) from None
        except OSError as error:
            ours = error.errno in NO_ROOM  # it may be there when it is tried again
            raise StepFailure(
                "unavailable" if ours else "not_found",
                f"{path[:200]} cannot be kept: {error.strerror}",
                permanent=not ours,
            ) from None
        live.bus.emit(
            ArtifactKept(
                run_id=live.run.id,
                step_id=step_id,
                name=name,
                size=size,
                href=f"{self._base_path}/api/runs/{live.run.id}/artifact?name={name}",
            )
        )
        return {"name": name, "size": size}

    async def find(self, run_id: str, name: str) -> tuple[str, int]:
        """Give where a file is, and its size; NotFound where there is none."""
        if not _NAME.fullmatch(name):
            raise BadRequest(f"{name[:80]!r} is no name of an artifact")
        if not _NAME.fullmatch(run_id):  # it is a client's: it could be /etc, or ..
            raise NotFound(f"there is no run {run_id[:80]!r}; see workflow.runs")
        path = self._folder / run_id / name
        try:
            found = await asyncio.to_thread(path.stat)
        except OSError:
            raise NotFound(f"the run {run_id} has kept no {name[:80]!r}") from None
        return str(path), found.st_size

    async def drop(self, run_id: str) -> None:
        """Remove what a run has kept."""
        await asyncio.to_thread(shutil.rmtree, self._folder / run_id, ignore_errors=True)

    def _copy(self, run_id: str, root: str, path: str, name: str) -> int:
        if not _NAME.fullmatch(name):
            raise BadRequest(f"{name[:80]!r} cannot be an artifact's name: letters, digits, _ . -")
        if "\0" in path:
            raise BadRequest("a path of an artifact holds no NUL character")
        real = Path(root, path).resolve(strict=True)
        if not real.is_relative_to(Path(root).resolve()):
            raise BadRequest(f"{path[:200]!r} leads out of the run's folder")
        folder = self._folder / run_id
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if sum(1 for each in folder.iterdir() if each.name != name) >= RUN_FILES:
            raise Conflict(f"a run keeps at most {RUN_FILES} files")
        source = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(source, "rb") as file:  # noqa: PTH123  # a descriptor
            about = os.fstat(source)
            if not stat.S_ISREG(about.st_mode):
                raise BadRequest(f"{path[:200]!r} is no file")
            if about.st_size > FILE_BYTES:
                raise TooLarge(f"{path[:200]!r} has {about.st_size} bytes; {FILE_BYTES} are kept")
            half = folder / f".{new_id()}.half"  # of several at once the last one stays
            try:
                with half.open("wb") as copy:
                    shutil.copyfileobj(file, copy)
                half.replace(folder / name)
            finally:
                half.unlink(missing_ok=True)
        return about.st_size
