"""Ears: threads in which watchfiles listens to folders, and what they hear, as hints only."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
from collections.abc import Callable, Collection, Container, Sequence
from pathlib import Path

import structlog

from daemon.core.errors import Unavailable

log = structlog.get_logger(__name__)

STEP_MS = 50
"""Hints are handed over once as long as this brings no further one; watchfiles looks this often."""

DEBOUNCE_MS = 250
"""And at the latest after this."""

AT_ONCE = 500
"""Folders of one ear. Watchfiles holds the interpreter's lock while it arms a watch on each, which
takes 14 to 50 us: 500 hold the loop up for some 10 ms, where 10,000 did for 540 ms, and one that is
recursive for 200 ms."""

FEW = 6
"""Ears that a large tree is shared out to: each has a file descriptor of inotify, of which a user
has 128 by default. Of a very large one they have more than AT_ONCE folders each."""

MANY = 16
"""Ears from which the small ones are put together: each new folder begins one."""

TRIES = 5
"""Times that an ear is armed anew because a folder has gone meanwhile."""

UNDECODABLE = "Unable to decode"
"""What watchfiles says from then on where it has met a name that is no UTF-8."""

Hinted = Collection[tuple[int, str]]


class Full(Unavailable):
    """The kernel watches no more folders for this user."""


class Ear(threading.Thread):
    """One watcher of watchfiles, on some folders without what is below them.

    It is `watch` in a thread of our own: `awatch` arms on the loop, and shares 40 threads of anyio
    with everybody. No timeout is asked for: on one, watchfiles forgets what came in that instant.
    """

    def __init__(
        self, paths: Sequence[str], heard: Callable[[Hinted], None], failed: Callable[[Ear], None]
    ) -> None:
        """Listen to nothing yet."""
        super().__init__(name="file.watch", daemon=True)
        self.folders: Collection[str] = ()
        self._loop = asyncio.get_running_loop()
        self.armed: asyncio.Future[None] = self._loop.create_future()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._paths = paths
        self._heard = heard
        self._failed = failed
        self._over = False
        self._asked = False

    def stop(self) -> None:
        """Have it end; `ended` tells when it has."""
        self._over = True

    def is_set(self) -> bool:
        """Tell watchfiles whether to stop; that it asks says that its watches are armed."""
        if not self._asked:
            self._asked = True
            self._tell(self._resolve, self.armed)
        return self._over

    def run(self) -> None:
        """Listen until stopped, or until watchfiles fails."""
        from watchfiles import watch  # noqa: PLC0415  # with anyio 6 MB, for those who watch

        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it has a line for each batch
        try:
            for hinted in watch(
                *self._paths,
                watch_filter=None,
                debounce=DEBOUNCE_MS,
                step=STEP_MS,
                stop_event=self,
                rust_timeout=0,
                recursive=False,
            ):
                self._tell(self._hand, hinted)
        except (OSError, RuntimeError) as error:
            self._tell(self._fail, error)
        finally:
            self._tell(self._resolve, self.ended)

    def _tell(self, what: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *args)
        except RuntimeError:  # the loop has ended before us
            self._over = True

    def _hand(self, hinted: Hinted) -> None:
        if not self._over:
            self._heard(hinted)

    def _fail(self, error: Exception) -> None:
        if not self.armed.done():
            self.armed.set_exception(error)
            self.armed.exception()  # it may be that nobody waits for it any more
        elif not self._over:
            log.debug("file.ear_failed", why=str(error), folders=len(self._paths))
            self._failed(self)

    @staticmethod
    def _resolve(future: asyncio.Future[None]) -> None:
        if not future.done():
            future.set_result(None)


class Ears:
    """All ears of one tree."""

    def __init__(
        self,
        path: Callable[[str], str],
        heard: Callable[[Hinted], None],
        failed: Callable[[Collection[str]], None],
    ) -> None:
        """Hear for a tree whose folders have these paths.

        `failed` is told the folders of an ear that has gone deaf: watchfiles goes on no more once
        it has met a name that is no UTF-8.
        """
        self._path = path
        self._heard = heard
        self._failed = failed
        self._ears: set[Ear] = set()

    def __len__(self) -> int:
        """Count the ears."""
        return len(self._ears)

    async def arm(self, folders: Collection[str]) -> None:
        """Listen to these as well; all are armed when this returns. Full where the kernel is."""
        rest = list(folders)
        size = max(AT_ONCE, math.ceil(len(rest) / FEW))
        for start in range(0, len(rest), size):
            await self._begin(rest[start : start + size])

    async def gather(self, known: Container[str]) -> list[str]:
        """Put small ears together where there are many; gives the folders, to be looked at."""
        if len(self._ears) <= MANY:
            return []
        total = sum(len(ear.folders) for ear in self._ears)
        small = max(AT_ONCE, math.ceil(total / FEW)) // 2
        return await self._replace({e for e in self._ears if len(e.folders) < small}, known)

    async def renew(self, folders: Collection[str]) -> None:
        """Listen to these, with new ears only."""
        old = set(self._ears)
        try:
            await self.arm(folders)
        except Full:  # there is no room for both
            await self._end(self._ears)
            await self.arm(folders)
        else:
            await self._end(old)

    async def close(self) -> None:
        """Listen no more."""
        await self._end(self._ears)

    def stop(self) -> None:
        """Have all of them end, without waiting for it."""
        for ear in self._ears:
            ear.stop()

    async def _replace(self, old: set[Ear], known: Container[str]) -> list[str]:
        folders = {folder for ear in old for folder in ear.folders if folder in known}
        await self.arm(folders)
        await self._end(old)
        return list(folders)

    async def _begin(self, folders: list[str]) -> None:
        for _ in range(TRIES):
            paths = [self._path(folder) for folder in folders]
            ear = Ear(paths, self._heard, self._deaf)
            ear.folders = folders
            self._ears.add(ear)
            ear.start()
            try:
                await ear.armed
            except (FileNotFoundError, PermissionError):
                self._ears.discard(ear)
                there = await asyncio.to_thread(_there, paths)
                folders = [folder for folder, is_ in zip(folders, there, strict=True) if is_]
                if not folders:
                    return
            except (OSError, RuntimeError) as error:
                self._ears.discard(ear)
                if UNDECODABLE not in str(error):
                    raise full(error) from error
                break
            else:
                return
        self._failed(folders)

    async def _end(self, ears: Collection[Ear]) -> None:
        ending = list(ears)
        for ear in ending:
            ear.stop()
            self._ears.discard(ear)
        if ending:
            await asyncio.wait([ear.ended for ear in ending], timeout=5.0)

    def _deaf(self, ear: Ear) -> None:
        if ear in self._ears:
            self._ears.discard(ear)
            self._failed(ear.folders)


def full(error: Exception) -> Full:
    """Say which limit of the kernel is reached, and how it is raised."""
    if "watch limit" in str(error) or getattr(error, "errno", None) == 28:
        what = "fs.inotify.max_user_watches"
    elif "Too many open files" in str(error):
        what = "fs.inotify.max_user_instances"
    else:
        return Full(f"watchfiles cannot watch here: {str(error)[:300]}")
    return Full(
        f"the kernel watches no more for this user; raise it: sysctl {what} (see {_now(what)})"
    )


def _now(what: str) -> str:
    return "/proc/sys/" + what.replace(".", "/")


def _there(paths: Sequence[str]) -> list[bool]:
    """Tell which folders there still are, and can be watched."""
    return [Path(path).is_dir() and os.access(path, os.R_OK) for path in paths]
