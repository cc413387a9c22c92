"""Searches names and contents: through ripgrep, else git, else by looking into each file."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from typing import Literal

from daemon.core.commands import Caller, handles
from daemon.core.environment import child_environment
from daemon.core.errand import Asked, Errands
from daemon.core.errors import BadRequest, Conflict, Unavailable
from daemon.core.ids import new_id
from domains.file.commands.looking import CHANNEL
from domains.file.commands.searching import Match, Matches, SearchFiles
from domains.file.disk import scanning
from domains.file.disk.scanning import Checked
from domains.file.ground import Ground
from domains.file.matching import Globs, of_git, of_ripgrep, ranges_of, ranked
from domains.file.names import is_decodable, parts_of

KIND = "search"
"""What the tasks are called that search, in `[task.kinds.search]` too."""

AT_ONCE = 4
"""Searches at once; others wait for these."""

SEARCHED = 0.8
"""Share of the time limit in which programs search; the rest is for looking at what they found."""

OUTPUT = 2 << 20
OUTPUT_CHOSEN = 16 << 20
"""Bytes of another program's findings that are looked at; more where globs choose among them."""

_CHOICE = (
    *("--no-config", "--hidden", "--no-messages", "--no-follow"),
    *("--no-ignore-dot", "--glob=!**/.git"),
)
"""Which files ripgrep searches."""

_LISTING = ("--files", "--null", *_CHOICE)

_RIPGREP = (
    *("--json", *_CHOICE, "--crlf"),
    f"--max-filesize={scanning.FILE_BYTES}",  # it holds a line in memory, which may be a whole file
)

_GREP = (
    *("grep", "-z", "-n", "--column", "-o", "-I", "--no-color", "--untracked"),
    "--exclude-standard",
)


class Searching:
    """What searches."""

    def __init__(self, ground: Ground, errands: Errands) -> None:
        """Search here, by these errands."""
        self._ground = ground
        self._errands = errands
        self._turns = asyncio.Semaphore(AT_ONCE)

    @handles(SearchFiles)
    async def search(self, command: SearchFiles, caller: Caller) -> Matches:
        """Search a project."""
        root = self._ground.projects.root(command.project_id)
        asked = parts_of(command.path, empty=True)
        _require_searchable(command)
        limit = self._ground.settings.search_timeout or None
        try:
            async with asyncio.timeout(limit), self._turns:
                parts = await asyncio.to_thread(scanning.located, root, asked)
                if command.in_ == "names":
                    return await self._names(command, root, parts)
                return await self._contents(command, root, parts, caller)
        except TimeoutError:
            raise Unavailable(
                f"the search took longer than the {limit:g} s of [file] search_timeout; name a "
                "path, or ask for something that is found less often"
            ) from None

    async def _names(self, command: SearchFiles, root: str, parts: tuple[str, ...]) -> Matches:
        where = ("--", "/".join(parts)) if parts else ()
        listed = await self._ground.git.read(
            command.project_id, "ls-files", "-z", "-c", "-o", "--exclude-standard", *where
        )

        def found() -> list[Match]:
            paths = _listed(listed) if listed is not None else scanning.walked(root, parts)
            if command.globs:
                globs = Globs(command.globs)
                paths = (path for path in paths if globs.allow(path.split("/")))
            most = command.limit * 2  # some may be gone
            best = dict(ranked(paths, command.query, sensitive=_minds_case(command), most=most))
            return [
                Match(path=path, ranges=ranges_of(best[path]))
                for path in scanning.existing(root, best, command.limit + 1)
            ]

        matches = await asyncio.to_thread(found)
        return Matches(
            project_id=command.project_id,
            matches=matches[: command.limit],
            by="walk" if listed is None else "git",
            truncated=len(matches) > command.limit,
        )

    async def _contents(
        self, command: SearchFiles, root: str, parts: tuple[str, ...], caller: Caller
    ) -> Matches:
        program = await asyncio.to_thread(scanning.ripgrep)
        if program is not None:
            found = await self._by_ripgrep(program, command, root, parts, caller)
            return _matches(command, found, "ripgrep")
        found_by_git = await self._by_git(command, root, parts)
        if found_by_git is not None:
            return _matches(command, found_by_git, "git")
        if command.regex:
            raise BadRequest(
                "regex needs ripgrep or a git repository here: install ripgrep, or search for text"
            )
        found = await asyncio.to_thread(
            scanning.scanned,
            root,
            parts,
            command.query.encode(),
            Globs(command.globs),
            sensitive=_minds_case(command),
            most=command.limit,
            deadline=time.monotonic() + self._ends_in(),
        )
        return _matches(command, found, "walk")

    async def _by_ripgrep(
        self, program: str, command: SearchFiles, root: str, parts: Sequence[str], caller: Caller
    ) -> Checked:
        kind = () if command.regex else ("--fixed-strings",)
        case = "--case-sensitive" if _minds_case(command) else "--ignore-case"
        where, globs = "/".join((".", *parts)), Globs(command.globs)
        named = "/".join(parts)
        if await asyncio.to_thread(scanning.is_large, root, named):  # it asks no size of one named
            more = await asyncio.to_thread(scanning.leaves_out, root, [named], globs)
            return Checked([], truncated=more)
        deadline = time.monotonic() + self._ends_in()
        finished = await self._errands.run(
            [program, *_RIPGREP, *kind, case, "-e", command.query, "--", where],
            Asked(new_id(), CHANNEL.format(project_id=command.project_id), caller.sub),
            cwd=root,
            env=child_environment(os.environ),
            limit=_most(command),
            cut=True,
            seconds=self._ends_in(),
        )
        if finished.cut and not finished.stdout:
            raise TimeoutError
        if finished.code not in (0, 1) and not finished.stdout:
            raise BadRequest(f"ripgrep refuses that: {finished.stderr.strip()[-500:]}")
        found = await asyncio.to_thread(
            lambda: scanning.checked(
                root,
                of_ripgrep(finished.stdout),
                globs,
                most=command.limit,
            )
        )
        if found.truncated or finished.cut:
            return Checked(found.matches, truncated=True)
        listing = [program, *_LISTING, "--", where]
        more = await self._leaves_out(listing, root, globs, command, caller, deadline)
        return Checked(found.matches, more)

    async def _leaves_out(
        self, listing: Sequence[str], root: str, globs: Globs, command: SearchFiles,
        caller: Caller, deadline: float,
    ) -> bool:  # fmt: skip
        """Return whether ripgrep has left out a text for its size, which it does not say."""
        finished = await self._errands.run(
            listing,
            Asked(new_id(), CHANNEL.format(project_id=command.project_id), caller.sub),
            cwd=root,
            env=child_environment(os.environ),
            cut=True,
            seconds=max(0.0, deadline - time.monotonic()),
        )
        paths = (path.removeprefix("./") for path in os.fsdecode(finished.stdout).split("\0"))
        return finished.cut or await asyncio.to_thread(scanning.leaves_out, root, paths, globs)

    def _ends_in(self) -> float:
        """Return the seconds after which a search gives what it has found, to be looked at yet."""
        return SEARCHED * (self._ground.settings.search_timeout or 3600.0)

    async def _large(self, project_id: str, root: str, where: tuple[str, ...]) -> list[str] | None:
        """List files that git would read whole into memory; None for too many to name."""
        listed = await self._ground.git.read(
            project_id, "ls-files", "-z", "-c", "-o", "--exclude-standard", *where
        )
        return await asyncio.to_thread(scanning.large, root, (listed or b"").split(b"\0"))

    async def _by_git(
        self, command: SearchFiles, root: str, parts: Sequence[str]
    ) -> Checked | None:
        kind = ("-P",) if command.regex else ("-F",)
        case = () if _minds_case(command) else ("-i",)
        where = ("--", "/".join(parts)) if parts else ()
        large = await self._large(command.project_id, root, where)
        if large is None:
            raise Unavailable("too many files are too large for git to search; install ripgrep")
        named = f":(literal){'/'.join(parts)}" if parts else "."
        without = (f":(exclude,literal){path}" for path in large)
        left_out = ("--", named, *without) if large else where
        args = (*kind, *case, "-e", command.query, *left_out)
        options = ("--no-literal-pathspecs",) if large else ()
        try:
            said = await self._ground.git.read(
                command.project_id, *options, *_GREP, *args, limit=_most(command), cut=True
            )
        except Conflict as error:
            if command.regex:
                raise BadRequest(f"git refuses that expression: {error.message}") from None
            raise
        if said is None:
            return None
        found = await asyncio.to_thread(
            lambda: scanning.checked(root, of_git(said), Globs(command.globs), most=command.limit)
        )
        more = found.truncated or len(said) >= _most(command)
        more = more or await asyncio.to_thread(
            scanning.leaves_out, root, large, Globs(command.globs)
        )
        return Checked(found.matches, more)


def _require_searchable(command: SearchFiles) -> None:
    if "\0" in command.query or "\n" in command.query or "\r" in command.query:
        raise BadRequest("a query is one line; search for a part of it")
    try:
        command.query.encode()
    except UnicodeEncodeError:
        raise BadRequest("the query holds half a character") from None
    if command.regex and command.in_ == "names":
        raise BadRequest("regex is for contents; names are chosen by globs")


def _most(command: SearchFiles) -> int:
    return OUTPUT_CHOSEN if command.globs else OUTPUT


def _minds_case(command: SearchFiles) -> bool:
    if command.case == "smart":
        return command.query.lower() != command.query
    return command.case == "sensitive"


def _listed(output: bytes) -> Iterator[str]:
    """Read what `git ls-files -z` prints: a conflict's paths thrice, and what is no UTF-8 too."""
    last = ""
    for path in os.fsdecode(output).split("\0"):
        if path and path != last and (path.isascii() or is_decodable(path)):
            yield path
        last = path


def _matches(
    command: SearchFiles, found: Checked, by: Literal["ripgrep", "git", "walk"]
) -> Matches:
    return Matches(
        project_id=command.project_id,
        matches=found.matches,
        by=by,
        truncated=found.truncated,
    )
