"""Where a repository stands, in a few words or file by file: read from one `git status`."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from domains.git.answers import Summary
from domains.git.commands.looking import Standing
from domains.git.desk import Work
from domains.git.porcelain import Reading, read_status

UNDER_WAY = (
    ("rebase-merge", "rebase"),
    ("rebase-apply", "rebase"),
    ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("BISECT_LOG", "bisect"),
)
"""What stands in the git dir while something waits to be continued or aborted."""

STOPPED_AT = {
    "rebase": "REBASE_HEAD",
    "cherry-pick": "CHERRY_PICK_HEAD",
    "revert": "REVERT_HEAD",
    "merge": "MERGE_HEAD",
}
"""Where git notes the commit that it could not merge; a REBASE_HEAD may be left of one before."""

STATUS = ("status", "--porcelain=v2", "--branch", "--show-stash", "--ahead-behind", "-z")


async def summarise(git: Work) -> Summary:
    """Look where a repository stands."""
    return (await look(git, untracked="all", limit=0)).summary


async def look(git: Work, *, untracked: str, limit: int) -> Standing:
    """Look where a repository stands, and at so many files that are not as they were committed.

    `untracked` is none, normal or all: what git-status(1) calls so, with `no` for none.
    """
    mode = "no" if untracked == "none" else untracked
    finished = await git.run(*STATUS, "--find-renames", f"--untracked-files={mode}")
    return await asyncio.to_thread(
        standing_of, finished.stdout, git.repository.git_dir, limit=limit
    )


def standing_of(output: bytes, git_dir: str, *, limit: int) -> Standing:
    """Read a status, and out of the git dir what is under way."""
    reading = read_status(output, limit=limit)
    return Standing(
        summary=_summary(reading, git_dir), files=reading.files, truncated=reading.truncated
    )


def _summary(reading: Reading, git_dir: str) -> Summary:
    heads = reading.heads
    head, branch = heads.get("branch.oid"), heads.get("branch.head")
    ahead, behind = None, None
    if "branch.ab" in heads:
        ahead, behind = (abs(int(each)) for each in heads["branch.ab"].split())
    return Summary(
        head=None if head == "(initial)" else head,
        branch=None if branch == "(detached)" else branch,
        upstream=heads.get("branch.upstream"),
        ahead=ahead,
        behind=behind,
        under_way=under_way(git_dir),
        stashes=int(heads.get("stash", "0")),
        counts=reading.counts,
    )


def under_way(git_dir: str) -> str | None:
    """Tell what waits to be continued or aborted."""
    place = Path(git_dir)
    found = next((what for name, what in UNDER_WAY if (place / name).exists()), None)
    return found or _rest(place)


def stopped_commit(git_dir: str, what: str) -> str:
    """Return the commit at which it stopped; empty without one, or once it is made."""
    name = STOPPED_AT.get(what)
    with contextlib.suppress(OSError, IndexError):
        return (Path(git_dir) / name).read_text().split()[0] if name else ""
    return ""


def _rest(place: Path) -> str | None:
    """Tell what the rest of several commits is for, the one that it stopped at being committed."""
    try:
        path = place / "sequencer" / "todo"
        if not path.is_file():
            return None
        with path.open("rb") as todo:
            begins = todo.read(6)
    except OSError:
        return None
    return "revert" if begins == b"revert" else "cherry-pick"
