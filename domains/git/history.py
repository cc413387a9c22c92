"""Tells what led to where a repository is: pages of its log, and who wrote which line."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
import re
import sys
from collections.abc import Iterator

import msgspec

from daemon.core.commands import Caller, handles
from daemon.core.errors import BadRequest, Conflict, NotFound, TooLarge
from domains.git.arguments import relative_path, revision
from domains.git.commands.history import Blame, Commits, GetBlame, GetLog
from domains.git.commits import FORMAT, read_blame, read_commits
from domains.git.desk import Desk, Work
from domains.git.looking import path_arguments

TIPS = 40
"""Most commits that the pages of one log may begin and end at; they stand in the cursor."""

BLAME_BYTES = 4 << 20
"""Most of git's output on one blame that is read; what is missing is the next page."""

_TIP = re.compile(r"\^?[0-9a-f]{40,64}")
_SHORT = re.compile(r"has only (\d+) lines?")


class _Cursor(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A place in a log: how many commits stand before it, and whether the page ends there.

    Commits never change, so the log from the same tips is always the same list.
    """

    tips: list[str]
    place: int
    ends: bool
    filters: str

    def text(self) -> str:
        """Give it as it is told."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")


class History:
    """What looks at commits that were."""

    def __init__(self, desk: Desk) -> None:
        """Work at this desk."""
        self._desk = desk

    @handles(GetLog)
    async def log(self, command: GetLog, caller: Caller) -> Commits:
        """Give one page of a log."""
        wanted = revision(command.revision)
        if command.follow and len(command.paths) != 1:
            raise BadRequest("follow goes with the path of one file")
        paths = path_arguments(command.paths)
        filters = _digest(command)
        cursor = None if command.cursor is None else _cursor_of(command.cursor, filters)
        async with self._desk.at_work(command, caller) as git:
            tips = await _tips(git, wanted) if cursor is None else cursor.tips
            if not tips:
                return Commits(commits=[])
            place, count = 0, command.limit
            if cursor is not None and cursor.ends:
                count = min(count, cursor.place)
                place = cursor.place - count
            elif cursor is not None:
                place = cursor.place
            # With --follow, git skips commits before it knows whether they touch the file.
            skipped = 0 if command.follow else place
            most = place - skipped + count + 1
            finished = await git.run(
                "log",
                *FORMAT,
                "--follow" if command.follow else "--no-follow",
                f"--skip={skipped}",
                f"--max-count={most}",
                *_filters(command),
                "--end-of-options",
                *tips,
                "--",
                *paths,
            )
        found = await asyncio.to_thread(read_commits, finished.stdout, most)
        found = found[place - skipped :]
        end = place + count

        def cursor_at(at: int, *, ends: bool) -> str:
            return _Cursor(tips, at, ends, filters).text()

        return Commits(
            commits=found[:count],
            tip=next((tip for tip in tips if tip[0] != "^"), None),
            next_cursor=cursor_at(end, ends=False) if len(found) > count else None,
            previous_cursor=cursor_at(place, ends=True) if place else None,
        )

    @handles(GetBlame)
    async def blame(self, command: GetBlame, caller: Caller) -> Blame:
        """Tell who has written which lines."""
        path = relative_path(command.path)
        at = None if command.revision is None else revision(command.revision)
        first = command.start_line
        if command.end_line is not None and command.end_line < first:
            raise BadRequest("end_line stands before start_line")
        last = min(first + command.limit, command.end_line or sys.maxsize)  # one more than told
        async with self._desk.at_work(command, caller) as git:
            commit = None if at is None else await _commit(git, at)
            output = await _blame(git, command, commit, (first, last), path)
        found = await asyncio.to_thread(read_blame, output, limit=command.limit)
        cut = len(output) >= BLAME_BYTES
        if cut and not found.told:
            raise TooLarge(f"line {first} is too long to be told")
        return Blame(
            path=path,
            commits=found.commits,
            lines=found.lines,
            revision=commit,
            next_line=first + found.told if found.more or cut else None,
            lossy=found.lossy,
        )


def _digest(command: GetLog) -> str:
    """Tell logs apart that have other commits, so that no cursor is taken for one of another."""
    asked = (
        command.revision,
        command.paths,
        command.follow,
        command.author,
        command.grep,
        command.since,
        command.until,
    )
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()[:16]


def _cursor_of(text: str, filters: str) -> _Cursor:
    """Read a cursor; BadRequest for what is none, or one of another log."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        cursor = msgspec.json.decode(raw, type=_Cursor)
    except (binascii.Error, UnicodeError, ValueError, msgspec.DecodeError):
        raise BadRequest("that is no cursor of a log; without one the log begins") from None
    if cursor.filters != filters:
        raise BadRequest("the cursor is of another log: give the same filters as for its page")
    known = all(_TIP.fullmatch(tip) for tip in cursor.tips)
    if not known or not 0 <= cursor.place <= 1 << 31 or not 0 < len(cursor.tips) <= TIPS:
        raise BadRequest("that is no cursor of a log; without one the log begins")
    return cursor


def _filters(command: GetLog) -> Iterator[str]:
    if command.author is not None or command.grep is not None:
        yield from ("--fixed-strings", "--regexp-ignore-case")
    if command.author is not None:
        yield f"--author={command.author}"
    if command.grep is not None:
        yield f"--grep={command.grep}"
    if command.since is not None:
        yield f"--since=@{command.since} +0000"
    if command.until is not None:
        yield f"--until=@{command.until} +0000"


async def _tips(git: Work, wanted: str) -> list[str]:
    """Find the commits that a log begins at, and with ^ those that it leaves out, by their ids.

    There are none before the first commit.
    """
    try:
        said = await git.text("rev-parse", "--revs-only", "--end-of-options", wanted)
    except NotFound:
        said = ""
    tips = [line for line in said.splitlines() if _TIP.fullmatch(line)]
    if not tips and wanted != "HEAD":
        raise NotFound(f"there is no such revision: {wanted[:80]!r}")
    if len(tips) > TIPS:
        raise BadRequest(f"{wanted[:80]!r} is more than {TIPS} commits; name fewer")
    return tips


async def _commit(git: Work, wanted: str) -> str:
    """Find the id of a commit."""
    said = await git.text("rev-parse", "--verify", "--end-of-options", f"{wanted}^{{commit}}")
    return said.splitlines()[-1]


async def _require_revisions_inside(git: Work) -> None:
    """Refuse `blame.ignoreRevsFile` outside of the work tree: git tells what it cannot read there.

    Every file is read, although the list is emptied afterwards.
    """
    args = ("--null", "--show-scope", "--type=path", "--get-all", "blame.ignoreRevsFile")
    said = (await git.run("config", *args, ok=(0, 1))).stdout
    if await asyncio.to_thread(_leads_out, said, git.root):
        raise Conflict(
            "blame.ignoreRevsFile of the repository names a file outside of it; if you know what "
            "it is, trust the project: 'agentcmd project trust ID'",
            keys=["blame.ignorerevsfile"],
        )


def _leads_out(said: bytes, root: str) -> bool:
    """Return whether a path that the repository configures is outside of the work tree."""
    top = os.path.realpath(root)
    scopes, paths = said.split(b"\0")[0::2], said.split(b"\0")[1::2]
    places = (
        os.path.realpath(os.path.join(top, os.fsdecode(path)))  # noqa: PTH118  # bytes of anybody
        for scope, path in zip(scopes, paths, strict=False)
        if path and scope in (b"local", b"worktree")
    )
    return not all(place.startswith(f"{top}/") for place in places)


async def _blame(
    git: Work, command: GetBlame, commit: str | None, lines: tuple[int, int], path: str
) -> bytes:
    """Have git blame these lines; nothing where the file ends right before them."""
    first, last = lines
    if not git.trusted:
        await _require_revisions_inside(git)
    try:
        finished = await git.run(
            "blame",
            "--porcelain",
            "--encoding=UTF-8",
            "--no-textconv",
            "--ignore-revs-file=",
            *(("-w",) if command.ignore_whitespace else ()),
            f"-L{first},{last}",
            *(() if commit is None else (commit,)),
            "--",
            path,
            limit=BLAME_BYTES,
            cut=True,
        )
    except Conflict as error:
        found = _SHORT.search(error.details.get("git", ""))  # the message ends at a newline
        if found is None:
            raise
        if int(found[1]) == first - 1:
            return b""
        raise BadRequest(f"{path[:200]!r} has only {found[1]} lines") from None
    return finished.stdout
