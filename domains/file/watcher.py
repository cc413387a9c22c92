"""The watch on one project: hints in, looks at what they name, net changes out.

Watchfiles is taken for a source of hints only. It drops what inotify says of an overflow of its
queue, fails on names that are no UTF-8, and cannot know what was made in a new folder before that
had a watch. What is told comes from comparing the tree with a snapshot; a folder is looked at again
once its watch is armed; and after some rest all of it is, for what no hint has named.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path

import structlog

from daemon.core.errors import AgentcmdError, Conflict, NotFound, TooLarge
from domains.file.ears import Ears, Full, Hinted
from domains.file.gitdir import GitSigns, Sign
from domains.file.ground import Git
from domains.file.ignored import Ignored
from domains.file.looks import Look
from domains.file.reports import Told, reports
from domains.file.snapshot import Changes, Hints, RootGone, Snapshot

log = structlog.get_logger(__name__)

TOLD_AT_ONCE = 50_000
"""Changes of one look that are told one by one; of more it is only said that there were."""

POLL = 1.0
POLLED = 500
"""Seconds between two looks at folders that cannot be watched; and one more for so many of them."""

DEAF_REST = 0.3
"""Seconds between two times that folders are armed anew because of a name that is no UTF-8."""

ROOT_CHECK = 5.0
"""Seconds between two looks whether the root is still there: nobody tells when one above goes."""

AUDIT = 5.0
AUDIT_REST = 50.0
"""Seconds after a hint, and times what it takes, before everything is looked at once."""

BURST_SHARE = 8
"""A look that was hinted at more paths than the kernel's queue has places for, divided by this,
may have been hinted at too few: a write is four events and more, and those that have no place are
lost."""

BURST_REST = 0.4
"""Seconds without hints after a burst before everything is armed and looked at anew."""

HELD_HINTS = 200_000
"""Hints that wait for a look; more are dropped, and everything is looked at."""

RULES_REST = 5.0
"""Times what it takes to ask anew what is ignored, before it is asked once more."""

ROUNDS = 20
"""Times that a look may find new folders before it tells what it has."""

RETRY = 1.0
"""Seconds after a failure before everything is looked at again."""


class Watch:
    """One project's tree, watched until `run` is cancelled or cannot go on."""

    def __init__(
        self,
        project_id: str,
        root: str,
        *,
        git: Git,
        entries: int,
        tell: Callable[[Told], None],
    ) -> None:
        """Watch nothing yet; a tree of more than so many `entries` is refused."""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ignored = Ignored(git, project_id)
        self.snapshot: Snapshot
        self._project_id = project_id
        self._root = root
        self._git = git
        self._limit = entries
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._signal = asyncio.Event()
        self._hinted: list[Hinted] = []
        self._held = 0
        self._deaf: set[str] = set()
        self._deaf_at = 0.0
        self._found = Changes()
        self._overflow = False
        self._burst = _queue_length() // BURST_SHARE
        self._doubt = False
        self._everything = False
        self._reload = False
        self._recheck = False
        self._rules_at = 0.0
        self._unarmed: set[str] = set()
        self._unheard: set[str] = set()
        self._audit_at = float("inf")
        self._poll_at = float("inf")
        self._checked_at = 0.0
        self._audit_rest = AUDIT
        self._ears = Ears(self._path, self._hear, self._go_deaf)
        self._signs = GitSigns(git, project_id, root, self._git_changed)

    async def run(self) -> None:
        """Watch; `ready` is done once everything after it will be told."""
        try:
            await self._begin()
            self.ready.set_result(None)
            while True:
                await self._wait()
                await self._turn()
                await self._report()
        except BaseException as error:
            if not self.ready.done():
                cancelled = isinstance(error, asyncio.CancelledError)
                gone = Conflict("the watch was ended while it began; ask again")
                self.ready.set_exception(gone if cancelled else _for_clients(error, self._root))
                self.ready.exception()  # whoever has asked may be gone
                if not cancelled:
                    return
            raise
        finally:
            self._ears.stop()  # both at once: the wait may be cut short
            self._signs.stop()
            await self._ears.close()
            await self._signs.close()

    # Beginning

    async def _begin(self) -> None:
        """Take the snapshot and arm: first a look for the folders, then one for the files."""
        self.snapshot = await asyncio.to_thread(Snapshot, self._root, self._limit)
        self._checked_at = self._loop.time()
        await self._signs.arm()
        self.ignored.forget()
        await self.ignored.load()
        began = self._loop.time()
        await self._look(self.snapshot.all())
        self._rest_after(self._loop.time() - began)
        await self._arm_fresh()
        self._found.clear()

    def _path(self, folder: str) -> str:
        return f"{self._root}/{folder}" if folder else self._root

    # Hints

    def _hear(self, hinted: Hinted) -> None:
        self._held += len(hinted)
        if self._held > HELD_HINTS:
            self._hinted.clear()
            self._doubt = True
        else:
            self._hinted.append(hinted)
        self._signal.set()

    def _go_deaf(self, folders: Collection[str]) -> None:
        self._deaf.update(folders)
        self._signal.set()

    def _git_changed(self, what: Sign) -> None:
        """Learn that something in the git dir has changed."""
        self._git.touched(self._project_id)
        self._reload |= what == "rules"
        self._recheck |= what != "standing"
        if self._recheck:
            self._signal.set()

    async def _wait(self) -> None:
        """Wait for hints, or for the time of a look that needs none."""
        root_at = self._checked_at + ROOT_CHECK
        rules_at = self._rules_at if self._recheck or self._reload else float("inf")
        deaf_at = self._deaf_at if self._deaf else float("inf")
        until = min(self._audit_at, self._poll_at, root_at, rules_at, deaf_at)
        try:
            async with asyncio.timeout_at(until):
                await self._signal.wait()
        except TimeoutError:
            pass
        self._signal.clear()

    # Looking

    async def _turn(self) -> None:
        """Look where there is a reason to; what fails is tried again."""
        try:
            hints = await self._reasons()
            doubtful, self._doubt, self._everything = self._doubt, False, False
            if doubtful:
                await self._renew()
                hints = self.snapshot.all()
            if hints:
                await self._look(hints, doubtful=doubtful)
            await self._arm_fresh()
            await self._attend_rules()
            if gathered := await self._ears.gather(self.snapshot.folders):
                await self._look(dict.fromkeys(gathered), doubtful=True)
        except RootGone:
            await self._lose_root()
        except TooLarge:
            raise
        except Full as error:
            log.warning("file.watch_full", project=self._project_id, why=error.message)
            self._unarmed |= self.snapshot.fresh
            self.snapshot.fresh.clear()
        except (AgentcmdError, OSError) as error:
            if isinstance(error, NotFound):
                raise
            log.warning("file.watch_failed", project=self._project_id, why=str(error))
            await asyncio.sleep(RETRY)
            self._everything = True
            self._signal.set()
        self._plan()

    async def _reasons(self) -> Hints:
        """Put together which folders to look at now, and why."""
        now = self._loop.time()
        hints: Hints = {}
        hinted, self._hinted, self._held = self._hinted, [], 0
        named: set[str] = set()
        if hinted:
            count = sum(map(len, hinted))
            for batch in hinted:
                named |= await asyncio.to_thread(self.snapshot.place, batch, hints)
            self._unheard -= hints.keys()
            if count > self._burst:
                self._audit_at, self._unheard = now + BURST_REST, {""}
            elif self._audit_at == float("inf"):
                self._audit_at = now + self._audit_rest
        self._reload |= ".gitignore" in named or ".git" in named
        if self._deaf and now >= self._deaf_at:
            self._deaf_at = now + DEAF_REST
            deaf, self._deaf = self._deaf & self.snapshot.folders.keys(), set()
            self.snapshot.fresh |= deaf
            hints.update(dict.fromkeys(deaf))
        if now >= self._poll_at:
            hints.update(dict.fromkeys((self.snapshot.odd | self._unarmed) & self._known()))
        if now >= self._checked_at + ROOT_CHECK:
            self._checked_at = now
            await asyncio.to_thread(self.snapshot.check)
            await self._signs.check()
        if self._everything:
            hints = self.snapshot.all()
        elif now >= self._audit_at and not hinted:
            await self._audit(hints)
        return hints

    async def _audit(self, hints: Hints) -> None:
        """Look at everything once; what it finds and nobody hints at soon is a reason to doubt."""
        self._audit_at = float("inf")
        self._doubt |= bool(self._unheard or self._unarmed)
        self._unheard = set()
        if self._doubt:
            return
        before = set(self._found)
        began = self._loop.time()
        await self._look({**self.snapshot.all(), **hints})
        self._rest_after(self._loop.time() - began)
        self._unheard = {path.rpartition("/")[0] for path in self._found.keys() - before}
        if self._unheard:
            self._audit_at = self._loop.time() + self._audit_rest
        hints.clear()

    def _rest_after(self, taken: float) -> None:
        self._audit_rest = max(AUDIT, AUDIT_REST * taken)

    async def _look(self, hints: Hints, *, doubtful: bool = False) -> None:
        """Look at folders, and note what differs."""
        look = Look(self.snapshot, hints, doubtful=doubtful)
        try:
            asked = await asyncio.to_thread(look.go)
            while asked:
                asked = await asyncio.to_thread(look.go, await self.ignored.judge(asked))
        finally:
            await asyncio.to_thread(self._found.add, look.changes)

    async def _arm_fresh(self) -> None:
        """Arm what is new, then look at it: what was made there before is found by that."""
        for _ in range(ROUNDS):
            self.snapshot.fresh &= self._known()
            fresh = self.snapshot.fresh - self.snapshot.odd
            if not fresh:
                self.snapshot.fresh.clear()
                return
            await self._ears.arm(fresh)
            self.snapshot.fresh -= fresh
            self._unarmed -= fresh
            await self._look(dict.fromkeys(fresh), doubtful=True)
        self._signal.set()

    async def _renew(self) -> None:
        """Arm everything anew: a hint that was lost may have been of a folder made anew."""
        self.snapshot.fresh.clear()
        self._unarmed = self._known() - self.snapshot.odd  # until it has come to its end
        await self._ears.renew(self._unarmed)
        self._unarmed = set()

    def _known(self) -> set[str]:
        return set(self.snapshot.folders)

    async def _attend_rules(self) -> None:
        """Ask anew what is tracked, and what is ignored where that may be something else now."""
        began = self._loop.time()
        if not (self._reload or self._recheck) or began < self._rules_at:
            return
        self._recheck = False
        await self._signs.arm()
        self._reload |= await self.ignored.load()
        if self._reload:
            await self._reload_rules()
            self._reload = False
        ended = self._loop.time()
        self._rules_at = ended + RULES_REST * (ended - began)

    async def _reload_rules(self) -> None:
        """Look at everything by new rules; where they are of other files, clients look again."""
        self.ignored.forget()
        old, later = self.snapshot, await asyncio.to_thread(Snapshot, self._root, self._limit)
        look = Look(later, later.all())
        asked = await asyncio.to_thread(look.go)
        while asked:
            asked = await asyncio.to_thread(look.go, await self.ignored.judge(asked))
        changes, others = await asyncio.to_thread(old.differs, later)
        self._found.add(changes)
        self._overflow |= others
        later.fresh -= old.folders.keys() - old.fresh
        self.snapshot = later
        await self._arm_fresh()

    async def _lose_root(self) -> None:
        """Say that nothing is known any more, and begin again once there is a root."""
        log.warning("file.root_gone", project=self._project_id)
        await self._ears.close()
        self._tell(Told((), overflow=True))
        while True:
            try:
                await self._begin()
            except (OSError, RootGone, AgentcmdError) as error:
                if isinstance(error, TooLarge | NotFound):
                    raise
                await self._ears.close()
                await asyncio.sleep(RETRY)
            else:
                break
        self._hinted.clear()
        self._held = 0
        self._overflow = True

    def _plan(self) -> None:
        """Choose when to look without a hint."""
        poll = bool(self.snapshot.odd or self._unarmed)
        now = self._loop.time()
        if not poll:
            self._poll_at = float("inf")
        elif self._poll_at <= now or self._poll_at == float("inf"):
            self._poll_at = now + POLL + len(self.snapshot.odd | self._unarmed) / POLLED

    # Telling

    async def _report(self) -> None:
        """Tell what was found, in events of some size."""
        if not self._found and not self._overflow:
            return
        found, self._found = self._found, Changes()
        overflow, self._overflow = self._overflow, False
        self._git.touched(self._project_id)
        if len(found) > TOLD_AT_ONCE:
            self._tell(Told((), overflow=True))
            return
        told = await asyncio.to_thread(reports, found) or [()]
        for number, changes in enumerate(told):
            self._tell(Told(changes, overflow=overflow and number == 0))
            await asyncio.sleep(0)


def _queue_length() -> int:
    """Read how many events the kernel keeps for one who listens."""
    try:
        return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    except (OSError, ValueError):  # not Linux
        return 16_384


def _for_clients(error: BaseException, root: str) -> AgentcmdError:
    if isinstance(error, AgentcmdError):
        return error
    if isinstance(error, RootGone | OSError):
        return Conflict(f"the folder {root} cannot be watched: {error}")
    return AgentcmdError("the daemon failed here; its log says how")
