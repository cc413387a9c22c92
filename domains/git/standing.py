"""Where a repository stands, in a few words: read from one `git status`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from domains.git.answers import Counts, Summary
from domains.git.desk import Work

UNDER_WAY = (
    ("rebase-merge", "rebase"),
    ("rebase-apply", "rebase"),
    ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("BISECT_LOG", "bisect"),
)
"""What stands in the git dir while something waits to be continued or aborted."""

STATUS = ("status", "--porcelain=v2", "--branch", "--show-stash", "--untracked-files=all", "-z")


async def summarise(git: Work) -> Summary:
    """Look where a repository stands."""
    finished = await git.run(*STATUS)
    return await asyncio.to_thread(summary_of, finished.stdout, git.repository.git_dir)


def summary_of(output: bytes, git_dir: str) -> Summary:
    """Read the summary out of a status, and out of the git dir what is under way."""
    heads: dict[str, str] = {}
    staged = unstaged = untracked = conflicted = 0
    entries = iter(output.split(b"\0"))
    for entry in entries:
        kind = entry[:1]
        if kind == b"#":
            _, name, value = entry.decode(errors="replace").split(" ", 2)
            heads[name] = value
        elif kind in b"12" and kind:
            staged += entry[2:3] != b"."
            unstaged += entry[3:4] != b"."
            if kind == b"2":
                next(entries, b"")  # what it was called before
        elif kind == b"u":
            conflicted += 1
        elif kind == b"?":
            untracked += 1
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
        counts=Counts(staged=staged, unstaged=unstaged, untracked=untracked, conflicted=conflicted),
    )


def under_way(git_dir: str) -> str | None:
    """Tell what waits to be continued or aborted."""
    place = Path(git_dir)
    return next((what for name, what in UNDER_WAY if (place / name).exists()), None)
