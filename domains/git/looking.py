"""Tells where a repository stands, what has changed in it, and what it holds."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Literal

from daemon.core.commands import Caller, handles
from daemon.core.errors import BadRequest, NotFound, TooLarge
from domains.git import diffs
from domains.git.answers import Commit, Diff
from domains.git.arguments import literal, relative_path, revision
from domains.git.arguments import paths as require_paths
from domains.git.commands.looking import (
    FileAtRevision,
    GetDiff,
    GetStatus,
    Shown,
    ShowRevision,
    Standing,
)
from domains.git.commits import FORMAT, WIDTH, read_commits
from domains.git.desk import Desk, Work
from domains.git.standing import look

DIFF_BYTES = 32 << 20
"""Most of git's output on one diff that is read; what is told of it has lower limits."""

SNIFFED = 8_000
"""A file with a NUL in its first bytes is binary; git itself looks at as many."""

ONE_COMMIT = ("log", "--no-walk", "-1", "-m", "--first-parent", "--root", *FORMAT)

NOTHING = Diff(files=[], file_count=0, additions=0, deletions=0)


class Looking:
    """What only looks at files and commits."""

    def __init__(self, desk: Desk) -> None:
        """Work at this desk."""
        self._desk = desk

    @handles(GetStatus)
    async def status(self, command: GetStatus, caller: Caller) -> Standing:
        """Tell where a repository stands."""
        async with self._desk.at_work(command, caller) as git:
            return await look(git, untracked=command.untracked, limit=command.limit)

    @handles(GetDiff)
    async def diff(self, command: GetDiff, caller: Caller) -> Diff:
        """Show what has changed."""
        paths = ("--", *path_arguments(command.paths))
        compared = _compared(command)
        async with self._desk.at_work(command, caller) as git:
            if command.commit is not None:
                found = await _one_commit(git, command, command.commit, paths)
                return NOTHING if found is None else found[1]
            try:
                return await _between(git, command, compared, paths)
            except NotFound:
                if command.revision != "HEAD" or await _born(git):
                    raise
            empty = await git.run("hash-object", "-t", "tree", "--stdin", stdin=b"")
            compared[-1] = empty.stdout.decode().strip()
            return await _between(git, command, compared, paths)

    @handles(ShowRevision)
    async def show(self, command: ShowRevision, caller: Caller) -> Shown:
        """Show a commit, or a file of it."""
        wanted = revision(command.revision)
        path = None if command.path is None else relative_path(command.path).rstrip("/")
        async with self._desk.at_work(command, caller) as git:
            if path is not None:
                return Shown(file=await _file(git, wanted, path, command.max_bytes))
            found = await _one_commit(git, command, wanted, ("--",))
            if found is None:
                raise NotFound(f"{wanted[:80]!r} names no commit; for a file, give its path")
            return Shown(commit=found[0], diff=found[1])


async def _born(git: Work) -> bool:
    """Tell whether there is a first commit."""
    return not (await git.run("rev-parse", "-q", "--verify", "HEAD", ok=(0, 1))).code


def path_arguments(texts: Sequence[str]) -> list[str]:
    """Give paths as arguments, for commands that read no `--pathspec-from-file`."""
    return require_paths(texts).decode().split("\0")[:-1] if texts else []


def _compared(command: GetDiff) -> list[str]:
    """Give the arguments that say what is compared; BadRequest where that is not one thing."""
    ways = (command.revision, command.from_, command.commit)
    if sum(way is not None for way in ways) > 1:
        raise BadRequest("give one of revision, from and commit")
    if command.from_ is None and (command.to is not None or command.merge_base):
        raise BadRequest("to and merge_base go with from: what it is compared with")
    if command.staged and (command.from_ is not None or command.commit is not None):
        raise BadRequest("staged is compared with a revision, or with the last commit")
    for text in (*ways, command.to):
        if text is not None:
            revision(text)
    if command.from_ is not None:
        mode = ("--merge-base",) if command.merge_base else ()
        return [*mode, "--end-of-options", command.from_, command.to or "HEAD"]
    mode = ("--cached",) if command.staged else ()
    if command.revision is not None:
        return [*mode, "--end-of-options", command.revision]
    return [*(mode or ("--ours",))]  # of a file in conflict: what differs from our side


def _options(command: GetDiff | ShowRevision) -> Sequence[str]:
    return (
        *diffs.OPTIONS,
        *(() if command.stat_only else ("--patch", f"--unified={command.context_lines}")),
        *(("--ignore-all-space",) if command.ignore_whitespace else ()),
    )


async def _between(
    git: Work, command: GetDiff, compared: Sequence[str], paths: Sequence[str]
) -> Diff:
    finished = await git.run(
        "diff", *_options(command), *compared, *paths, limit=DIFF_BYTES, cut=True
    )
    return await asyncio.to_thread(_read, finished.stdout, command, 0)


async def _one_commit(
    git: Work, command: GetDiff | ShowRevision, wanted: str, paths: Sequence[str]
) -> tuple[Commit, Diff] | None:
    """Give a commit and what it did; None where that is no commit, or did nothing to the paths."""
    finished = await git.run(
        *ONE_COMMIT,
        *_options(command),
        "--end-of-options",
        wanted,
        *paths,
        limit=DIFF_BYTES,
        cut=True,
    )
    fields = finished.stdout.split(b"\0", WIDTH + 1)
    if len(fields) <= WIDTH:
        if len(finished.stdout) >= DIFF_BYTES:
            raise TooLarge(f"the message of {wanted[:80]!r} is too long to be shown")
        return None
    start = len(finished.stdout) - len(fields[-1])
    (commit,) = read_commits(finished.stdout[:start], 1)
    start += fields[-1][:1] == b"\n"
    return commit, await asyncio.to_thread(_read, finished.stdout, command, start)


def _read(output: bytes, command: GetDiff | ShowRevision, start: int) -> Diff:
    return diffs.read_diff(
        output[start:] if start else output,
        diffs.Limits(command.max_files, command.max_file_bytes, command.max_bytes),
        whole=len(output) < DIFF_BYTES,
        ignoring=command.ignore_whitespace,
    )


async def _file(git: Work, wanted: str, path: str, limit: int) -> FileAtRevision:
    """Give a file as a revision has it."""
    listed = await git.run("ls-tree", "-z", "-l", "--end-of-options", wanted, "--", literal(path))
    about = listed.stdout.partition(b"\t")[0].decode().split()
    if len(about) != 4:
        raise NotFound(f"there is no {path[:200]!r} in {wanted[:80]!r}")
    mode, kind, id_, size = about
    if kind != "blob":
        word = {"tree": "a folder", "commit": "a submodule"}.get(kind, kind)
        raise BadRequest(f"{path[:200]!r} is {word} in {wanted[:80]!r}; name a file")
    finished = await git.run("cat-file", "blob", id_, limit=limit, cut=True)
    content, encoding = await asyncio.to_thread(_content, finished.stdout, int(size) > limit)
    return FileAtRevision(
        path=path,
        id=id_,
        mode=mode,
        size=int(size),
        content=content,
        encoding=encoding,
        truncated=int(size) > limit,
    )


def _content(raw: bytes, cut: bool) -> tuple[str, Literal["utf-8", "base64"]]:
    """Give text as such, and anything else in base64; a character that was cut is left out."""
    if b"\0" not in raw[:SNIFFED]:
        for missing in range(4 if cut else 1):
            try:
                return raw[: len(raw) - missing].decode(), "utf-8"
            except UnicodeDecodeError:
                continue
    return base64.b64encode(raw).decode(), "base64"
