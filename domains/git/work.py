"""One git operation at work: its processes, and how far it is."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.core.errand import OUTPUT_BYTES, Asked, Ended, Finished, Watch
from domains.git.asking import limited
from domains.git.blocking import LOOKED_AFTER, waited_for
from domains.git.configuration import SWITCHED_OFF
from domains.git.events import (
    OperationProgress,
    Progress,
)
from domains.git.failures import explained
from domains.git.hooks import wrapped
from domains.git.looks import SECONDS
from domains.git.once import observation
from domains.git.programs import OPTIONS, REMOTE, command_of, elsewhere, ssh_command, variables
from domains.git.progress import Stage, parse_progress
from domains.git.repository import Repository
from domains.git.users_programs import (
    KEYS_READ,
    Restored,
    configured,
    restored,
    ssh_program,
)

if TYPE_CHECKING:
    from domains.git.desk import Desk
    from domains.git.once import Once

SCRATCH_INDEX = "GIT_INDEX_FILE"
"""Variable of a process with an index that does not outlive the daemon: it is run each time."""

TOLD_EVERY = 0.1
"""Seconds between two words on the progress of one stage."""

SILENCE = 600.0
"""Seconds without a word after which a command that goes to a remote is ended."""


class Work:
    """One operation at work: its git processes, one after the other."""

    def __init__(
        self,
        desk: Desk,
        *,
        id_: str,
        name: str,
        project_id: str,
        root: str,
        user: str,
        trusted: bool,
        reads: bool,
        told: bool = True,
    ) -> None:
        """Begin nothing yet; `repository` is set once it is known."""
        self.id = id_
        self.name = name
        self.project_id = project_id
        self.root = root
        self.user = user
        self.trusted = trusted
        self._desk = desk
        self.reads = reads
        self._tells = told and not reads
        self.called_off: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.once: Once | None = None
        self._repository: Repository | None = None
        self._takes_back = False
        self._switched: tuple[str, ...] = () if trusted else SWITCHED_OFF
        self._wrapped = False
        self._asks: dict[str, str] | None = None
        self._restored = Restored()
        self._stage = ""
        self._told = 0.0

    @property
    def channel(self) -> str:
        """Return the channel that it is told on."""
        return f"git:project:{self.project_id}"

    @property
    def repository(self) -> Repository:
        """Return the repository that it works in."""
        if self._repository is None:
            raise LookupError(f"{self.name} has no repository")
        return self._repository

    @repository.setter
    def repository(self, found: Repository) -> None:
        self._repository = found

    def call_off(self) -> None:
        """Have it end: what runs of it is stopped, and nothing more of it begins."""
        if not self.called_off.done():
            self.called_off.set_result(None)
            self._desk.errands.stop(self.id)

    @contextmanager
    def taking_back(self) -> Iterator[None]:
        """Let git run although it was called off: what had begun is undone while this is open."""
        self._takes_back = True
        try:
            yield
        finally:
            self._takes_back = False

    async def run(
        self,
        *args: str,
        ok: tuple[int, ...] = (0,),
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        limit: int = OUTPUT_BYTES,
        cut: bool = False,
        seconds: float = SECONDS,
    ) -> Finished:
        """Run `git ARGS` in the work tree; another exit code than those is an error explained.

        Nothing that a client has written may stand where git reads options: revisions go behind
        `--end-of-options`, paths behind `--` or into `--pathspec-from-file`.
        """
        if self.called_off.done() and not self._takes_back:
            raise Ended("cancelled", "git")
        finished = await self._run(args, stdin, env or {}, limit, seconds, cut=cut)
        if finished.code not in ok:
            raise await explained(args, finished, self._repository)
        return finished

    async def observed(self, what: str, look: Callable[[], str]) -> str:
        """Return what a look of ours finds; after the daemon died, what it found before that."""
        once, args = self.once, observation(what)
        if once is None:
            return await asyncio.to_thread(look)
        if (known := once.known(args)) is not None:
            return os.fsdecode(known.stdout)
        await once.begins(args, time.time())
        found = await asyncio.to_thread(look)
        once.ended(args, Finished(0, os.fsencode(found), ""))
        return found

    def has_run(self, *args: str) -> bool:
        """Return whether it ran `git ARGS` next, before the daemon died."""
        return self.once is not None and self.once.is_next(args)

    async def _run(
        self,
        args: tuple[str, ...],
        stdin: bytes | None,
        env: Mapping[str, str],
        limit: int,
        seconds: float,
        *,
        cut: bool,
    ) -> Finished:
        """Run it, unless it is known what it answered before the daemon died."""
        if self.trusted and not self.reads and self._repository is not None and not self._wrapped:
            self._wrapped = True
            self._switched = await self._hooks()
        top = self._repository.root if self._repository is not None else self.root
        own = variables(os.environ, args, top=top, trusted=self.trusted, reads=self.reads)
        remote = command_of(args) in REMOTE
        if remote or (self.trusted and not self.reads and args != KEYS_READ):
            own |= await self._asking()  # any may fetch what a partial clone lacks
            if self.trusted and not elsewhere(args):
                own |= self._restored.variables
        once = self.once if args != KEYS_READ else None  # a helper may hold a password
        if SCRATCH_INDEX in env:
            once = None
        marks: tuple[str, ...] = ()
        if once is not None:
            if (known := once.known(args)) is not None:
                return known
            marks, named = once.marks(args)
            env = {**env, **named}
            await once.begins(args, time.time())
        switched = () if self.trusted and elsewhere(args) else self._switched  # not our hooks
        running = self._desk.errands.run(
            ["git", *OPTIONS, *switched, *marks, *args],
            Asked(self.id, self.channel, self.user),
            cwd=self.root,
            env={**own, **env},
            stdin=stdin,
            limit=limit,
            cut=cut,
            silence=SILENCE if remote else 0.0,
            heard=self._heard,
            watch=None if self.reads else Watch(LOOKED_AFTER, self._held_up),
        )
        looks = self._desk.looks
        finished = await (looks.run(self.root, running, seconds) if self.reads else running)
        if words := self._restored.words:
            finished = finished._replace(stderr=finished.stderr.replace(words, ""))
        if once is not None:
            once.ended(args, finished)
        return finished

    async def _held_up(self, leader: int) -> str:
        found = self._repository
        return await asyncio.to_thread(waited_for, leader, found) if found is not None else ""

    async def _asking(self) -> dict[str, str]:
        """Have the user's own ssh ask nobody, and the user's askpass not wait for ever."""
        if self._asks is None:
            entries = configured((await self.run(*KEYS_READ, ok=(0, 1))).stdout)
            self._asks = await asyncio.to_thread(self._programs, entries)
        return self._asks

    def _programs(self, entries: list[tuple[str, str]]) -> dict[str, str]:
        state_dir, own = self._desk.state_dir, dict(entries)
        ssh = ssh_command(os.environ, own.get("core.sshcommand", ""))
        found = {"GIT_SSH_COMMAND": ssh_program(ssh, state_dir, os.environ)}
        askpass = limited(own.get("core.askpass", ""), state_dir, os.environ)
        if askpass is not None:
            found["GIT_ASKPASS"] = askpass
        if self.trusted:
            self._restored = restored(entries, state_dir, os.environ)
        return found

    async def _hooks(self) -> tuple[str, ...]:
        """Have the repository's hooks run with the environment of the user's own git."""
        said = os.fsdecode((await self.run("rev-parse", "--git-path", "hooks")).stdout)
        folder = str(Path(self.root, said.removesuffix("\n")))
        place = await asyncio.to_thread(wrapped, folder, self._desk.state_dir, os.environ)
        return ("-c", f"core.hooksPath={place}") if place else ()

    async def text(self, *args: str, ok: tuple[int, ...] = (0,)) -> str:
        """Run `git ARGS` and give what it prints, without the last newline."""
        return (await self.run(*args, ok=ok)).stdout.decode(errors="replace").removesuffix("\n")

    def tell(self, stage: str) -> None:
        """Emit a stage without progress."""
        self._tell(Stage(stage, Progress(current=0, total=None, percentage=None)))

    async def claims(self, target: str) -> None:
        """Note, before anything is there, what is to be gone again should the daemon die here."""
        await self._desk.claim(self.id, target)

    def _heard(self, line: str) -> None:
        found = parse_progress(line)
        if found is not None:
            self._tell(found)

    def _tell(self, found: Stage) -> None:
        if not self._tells:
            return
        now = time.monotonic()
        complete = found.progress.current == found.progress.total
        if found.stage == self._stage and now - self._told < TOLD_EVERY and not complete:
            return
        self._stage, self._told = found.stage, now
        self._desk.bus.emit(
            OperationProgress(
                project_id=self.project_id,
                operation_id=self.id,
                operation=self.name,
                stage=found.stage,
                progress=found.progress,
            )
        )
