"""What must be there before anything new is started: disk, descriptors, and our own files.

Running short of either hurts everything that runs already. So new tasks are refused in time, with
a sentence, and everything else goes on. Where the daemon's own files have been removed or replaced,
whatever is written would be lost: then nothing may be changed any more.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import structlog

from daemon.core.errors import Unavailable
from daemon.core.section import Bytes, Seconds, Section, described

log = structlog.get_logger(__name__)


class GuardSettings(Section):
    """What must be left before anything new is started."""

    free_bytes: Annotated[Bytes, described("Free disk at the state dir; 0: not looked at")] = (
        64 << 20
    )
    free_descriptors: Annotated[
        int, described("Descriptors that stay free for clients and the journal", ge=0)
    ] = 64
    interval: Annotated[Seconds, described("Seconds between two looks")] = 1.0


class Guard:
    """Looks, again and again, and says why nothing new may be started."""

    def __init__(self, settings: GuardSettings, folder: Path) -> None:
        """Look at the disk of a folder, and at our own descriptors."""
        self.reason: str | None = None
        self.lost: str | None = None
        self._was_lost = False
        self.on_change: Callable[[str | None], None] = lambda _: None
        self.settings = settings
        self._folder = folder
        self._identities: dict[Path, tuple[int, int]] = {}
        self._filled: Path | None = None
        self._emptied = False

    def hold_filled(self, path: Path) -> None:
        """Watch from now on that this file is not emptied in its place."""
        self.hold(path)
        self._filled = path

    def hold(self, *paths: Path) -> None:
        """Look from now on whether these are still the files and folders that they are now."""
        for path in paths:
            if (found := _identity(path)) is not None:
                self._identities[path] = found

    def require(self) -> None:
        """Raise Unavailable while something is short."""
        self.require_files()
        if self.reason is not None:
            raise Unavailable(f"{self.reason}; try again later")

    def require_files(self) -> None:
        """Raise Unavailable while files of ours are missing: what is written would be lost."""
        if self.lost is not None:
            raise Unavailable(self.lost)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self._note(await asyncio.to_thread(self.look))
            await asyncio.sleep(max(0.05, self.settings.interval))

    def look(self) -> str | None:
        """Say what is short now, None when nothing is; a disk may take its time to tell."""
        self.lost = self._missing()
        if self.lost is not None:
            return self.lost
        least = self.settings.free_bytes
        if least and (free := _free_bytes(self._folder)) is not None and free < least:
            return (
                f"the disk of the state dir has {free >> 20} MiB left, less than [guard] "
                f"free_bytes ({least >> 20} MiB)"
            )
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = _descriptors()
        if used is not None and limit - used < self.settings.free_descriptors:
            return (
                f"{used} of {limit} descriptors are in use, which leaves less than [guard] "
                f"free_descriptors ({self.settings.free_descriptors})"
            )
        return None

    def _missing(self) -> str | None:
        """Say which file of ours is no longer in its place."""
        for path, identity in self._identities.items():
            found = _identity(path)
            if found != identity:
                what = "removed" if found is None else "replaced"
                return (
                    f"{path} was {what} while the daemon runs: nothing more can be kept. Put the "
                    "very same file back if you moved it; else save what you need from this "
                    "daemon, and restart it"
                )
        # a checkpoint may write pages back into an emptied file, which mends nothing
        self._emptied = self._emptied or _is_empty(self._filled)
        if self._emptied:
            return (
                f"{self._filled} was emptied while the daemon runs: nothing more can be kept. Save "
                "what you need from this daemon, put a backup in place, and restart it"
            )
        return None

    def _note(self, reason: str | None) -> None:
        was, self.reason = self.reason, reason
        was_lost, self._was_lost = self._was_lost, self.lost is not None
        if (was is None) == (reason is None) and was_lost == self._was_lost:
            return  # figures move all the time
        if reason is None:
            log.info("guard.recovered")
        elif self._was_lost:
            log.error("guard.files_lost", reason=reason)
        else:
            log.warning("guard.short", reason=reason)
        self.on_change(reason)


def raise_descriptor_limit() -> tuple[int, int]:
    """Take as many descriptors as are allowed; gives the limits that there were, for children.

    Programs that use select(2) break with more than 1,024, so theirs stay as they are.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # a system whose hard limit is no number that it takes
        log.debug("descriptors.unchanged", soft=soft, hard=hard)
    return soft, hard


def _identity(path: Path) -> tuple[int, int] | None:
    """Return which file or folder this is; None where there is none."""
    try:
        found = path.stat(follow_symlinks=True)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_empty(path: Path | None) -> bool:
    try:
        return path is not None and path.stat().st_size == 0
    except OSError:
        return False


def _free_bytes(folder: Path) -> int | None:
    try:
        stat = os.statvfs(folder)
    except OSError:
        return None
    return stat.f_bavail * stat.f_frsize


def _descriptors() -> int | None:
    """Count our open descriptors; None where the system does not tell."""
    for listing in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(listing))  # noqa: PTH208  # names alone
        except OSError:
            continue
    return None
