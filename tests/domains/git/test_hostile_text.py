"""Text that others have written holds up nobody, however it is made."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from loop_watch import allowed
from repositories import Repo, added, ran

from daemon.core.errand import Finished
from daemon.core.errors import AgentcmdError
from domains.git import (
    commits,
    conflicts,
    diffs,
    failures,
    porcelain,
    progress,
    pushing,
    references,
    standing,
    worktree_listing,
)
from domains.git.configuration import local_path, running
from domains.git.layout import Layouts, nested
from domains.git.repository import Repository, look_up

SIZE = 1 << 20
LAG = allowed()
TRIES = 12

PIECES = (
    *(b"\n", b" ", b"\t", b"\0", b"a", b"A ", b"://", b"a://b", b"://a", b"'", b'"', b"\\", b"@"),
    *(b"(fetch)", b" (fetch) [", b"x\t", b"o\tu (push) [", b"exec", b"\nexec", b"remote: ", b"1"),
    *(b"%", b"-", b"Aa: ", b"A: 1% (", b"Unable to create '", b"diff --git ", b"WIP on ", b"\xff"),
    *(b"\ndiff --git a/x b/x\n", b"ref: refs/heads/", b":100644 ", b"? a\0", b"\0\0"),
    b"worktree a\0\0",
)

LIMITS = diffs.Limits(files=100, file_bytes=1_000, all_bytes=10_000)


def text(raw: bytes) -> str:
    return raw.decode(errors="replace")


def each_line(raw: bytes) -> None:
    """Read progress as it comes: of each chunk its last lines."""
    for line in raw.splitlines()[-200:]:
        progress.parse_progress(text(line[-65536:]))


async def explained(raw: bytes) -> AgentcmdError:
    repository = Repository("/nonexistent", "/nonexistent/.git", "/nonexistent/.git")
    return await failures.explained(("status",), Finished(1, raw, text(raw[-65536:])), repository)


PARSERS: dict[str, Callable[[bytes], Any]] = {
    "status": lambda raw: porcelain.read_status(raw, limit=100),
    "branches": porcelain.read_branches,
    "tags": porcelain.read_tags,
    "remotes": lambda raw: porcelain.read_remotes(text(raw)),
    "stashes": porcelain.read_stashes,
    "log": lambda raw: commits.read_commits(raw, 1_001),
    "blame": lambda raw: commits.read_blame(raw, limit=1_000),
    "quoted": lambda raw: commits.unquoted(b'"' + raw + b'"'),
    "diff": lambda raw: diffs.read_diff(raw, LIMITS),
    "patch": lambda raw: diffs.read_diff(b"\0" + raw, LIMITS),
    "unmerged": conflicts.parse_unmerged,
    "push": pushing.parse_push,
    "remote's words": lambda raw: pushing.said_by_remote(text(raw[-65536:])),
    "ls-remote": lambda raw: references.ls_remote_of(raw, 100),
    "worktrees": worktree_listing.parse_worktrees,
    "configuration": lambda raw: list(
        running(raw + b"\0" + raw, Repository("/nonexistent", "/nonexistent", "/nonexistent"))
    ),
    "address": lambda raw: local_path("/", text(raw)),
    "redacted": lambda raw: failures.redacted(text(raw)),
    "progress": each_line,
    "explained": explained,
}
"""Every reader of git's output; what git prints may hold anything that others have written."""

ON_THE_LOOP = ("explained", "progress", "remote's words", "address")
"""What is short where it is read: it is read on the loop."""


async def lag_of(work: Callable[[], Awaitable[Any]]) -> float:
    """Return the longest time for which the loop did nothing else; the best of some tries."""
    best = float("inf")
    for _ in range(TRIES):
        longest = 0.0

        async def tick() -> None:
            nonlocal longest
            while True:
                began = time.perf_counter()
                await asyncio.sleep(0.002)
                longest = max(longest, time.perf_counter() - began - 0.002)

        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0)
        with suppress(AgentcmdError, ValueError, KeyError, IndexError):
            await work()
        await asyncio.sleep(0.004)
        ticking.cancel()
        best = min(best, longest)
        if best < LAG:
            break
    return best


@pytest.mark.parametrize("name", PARSERS)
async def test_no_reader_of_what_git_prints_holds_up_the_loop(name):
    parser = PARSERS[name]
    slow = {}
    for piece in PIECES:
        raw = (piece * (SIZE // len(piece)))[:SIZE]

        async def read(raw: bytes = raw) -> None:
            if inspect.iscoroutinefunction(parser):
                await parser(raw)
            elif name in ON_THE_LOOP:
                parser(raw)
            else:
                await asyncio.to_thread(parser, raw)

        lag = await asyncio.wait_for(lag_of(read), 30)
        if lag >= LAG:
            slow[piece] = lag
    assert slow == {}


def _git_dir(place: Path) -> Path:
    git_dir = place / ".git"
    for folder in ("objects", "refs", "rebase-merge", "sequencer"):
        (git_dir / folder).mkdir(parents=True, exist_ok=True)
    (git_dir / "HEAD").write_text("ref: refs/heads/main\n")
    return git_dir


@pytest.mark.parametrize(
    "name",
    ["config", "index", "rebase-merge/git-rebase-todo", "sequencer/todo", "commondir", "HEAD"],
)
async def test_no_reader_of_a_repositorys_files_holds_up_the_loop(name, tmp_path):
    git_dir = _git_dir(tmp_path)
    repository = Repository(str(tmp_path), str(git_dir), str(git_dir))
    apart = tmp_path / "apart"
    apart.mkdir()
    (apart / ".git").write_text(f"gitdir: {git_dir}\n")
    slow = {}
    for piece in (*PIECES, b"\x00\x00\xe0\x00", b"[core]\nworktree=", b'worktree="'):
        (git_dir / name).write_bytes((piece * (SIZE // len(piece)))[:SIZE])

        async def read() -> None:
            await asyncio.to_thread(Layouts().faults, repository)
            await asyncio.to_thread(standing.under_way, str(git_dir))
            await asyncio.to_thread(lambda: list(nested(repository, everywhere=False)))
            await look_up(str(apart))

        lag = await asyncio.wait_for(lag_of(read), 60)
        if lag >= LAG:
            slow[piece] = lag
    assert slow == {}


async def test_long_foreign_configuration_and_lists_are_looked_at_in_no_time(running, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "1\n"})
    config = repo.path / ".git" / "config"
    plain = config.read_text()
    async with running.client() as client:
        project = await added(client, repo.path)

        async def within_seconds(operation: str) -> None:
            began = time.monotonic()
            with suppress(AgentcmdError):
                await ran(client, project, operation)
            assert time.monotonic() - began < 10

        config.write_text(f'{plain}[x "{"a" * 120_000}"]\n\ty = 1\n')
        await within_seconds("status")
        config.write_text(f'{plain}[remote "o"]\n\turl = {"a://" * 15_000} (fetch) [\n')
        await within_seconds("remotes")
        await within_seconds("fetch")
        config.write_text(plain)
        todo = repo.path / ".git" / "rebase-merge" / "git-rebase-todo"
        todo.parent.mkdir()
        todo.write_text("\n" * 60_000)
        await within_seconds("status")


def test_a_command_in_the_list_of_a_rebase_is_found_behind_blanks(tmp_path):
    git_dir = _git_dir(tmp_path)
    repository = Repository(str(tmp_path), str(git_dir), str(git_dir))
    todo = git_dir / "rebase-merge" / "git-rebase-todo"
    for line in ("exec ls\n", "x ls\n", "pick 1\n\n \t exec ls", "\n" * 70_000 + "x ls\n"):
        todo.write_text(line)
        assert Layouts().faults(repository) == ["rebase-merge/git-rebase-todo (exec)"], line[:40]
    for line in ("pick 1 exec ls\n", "executed\n", "# x\n", "pick " + "x " * 50_000):
        todo.write_text(line)
        assert Layouts().faults(repository) == [], line[:40]
