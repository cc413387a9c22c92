"""Runs what may stop at conflicts: to its end, to a stop, or all the way back."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from daemon.core.errand import Ended, Finished
from daemon.core.errors import AgentcmdError, BadRequest, Conflict, NotFound
from domains.git.conflicts import ConflictedFile, conflicts, stopped
from domains.git.desk import Work
from domains.git.failures import explained, last_words
from domains.git.locks import remove_left
from domains.git.messages import KEPT
from domains.git.standing import stopped_commit, under_way

ANY = tuple(range(256))
"""Exit codes that are looked at here: git has several for a conflict."""

_OVERWRITTEN = re.compile(
    r"changes(?: to the following files)? would be overwritten|"
    r"untracked working tree files would be (?:overwritten|removed)"
)


_EMPTY = ("is now empty", "No changes - did you forget", "nothing to commit")


async def resolve(git: Work, names: Sequence[str]) -> list[str | None]:
    """Find the commits that revisions name, None where there is none, in one process.

    The names are its input: none can be taken for an option.
    """
    stdin = "".join(f"{name}^{{commit}}\n" for name in names)
    try:
        given = stdin.encode()
    except UnicodeEncodeError:
        raise BadRequest("a revision holds half a character") from None
    finished = await git.run("cat-file", "--batch-check", stdin=given)
    lines = finished.stdout.split(b"\n")[: len(names)]
    found = [re.fullmatch(rb"([0-9a-f]{40,64}) commit \d+", line) for line in lines]
    return [match[1].decode() if match else None for match in found]


async def begin(git: Work, names: Sequence[str]) -> tuple[str | None, list[str]]:
    """See that nothing is under way; gives the head, None before the first commit, and commits."""
    what = await asyncio.to_thread(under_way, git.repository.git_dir)
    if what is not None:
        raise Conflict(
            f"a {what} is under way: run operation continue or abort first", underWay=what
        )
    before, *found = await resolve(git, ["HEAD", *names])
    for name, commit in zip(names, found, strict=True):
        if commit is None:
            shown = name.removeprefix("refs/heads/")
            raise NotFound(f"there is no commit {shown[:80]!r}; look at branches, tags and the log")
    return before, [commit for commit in found if commit is not None]


async def carry(
    git: Work, what: str, verb: str, *args: str, stdin: bytes | None = None
) -> Finished:
    """Run what may stop at conflicts; Conflict tells of them, and leaves them to be resolved."""
    finished = await git.run(*KEPT, verb, *args, stdin=stdin, ok=ANY)
    if finished.code == 0:
        return finished
    said = finished.stderr + last_words(finished)
    git_dir = git.repository.git_dir
    now = await asyncio.to_thread(under_way, git_dir)
    staged = finished.code == 1 and await asyncio.to_thread(squashing, git)
    if now is None and not staged:
        raise await _refused(git, (verb, *args), finished, said)
    found = await conflicts(git)
    if found:
        raise await stopped_at(git, what, found)
    going_on = "--continue" in args or "--skip" in args or verb == "commit"
    if not going_on and await asyncio.to_thread(_commit_at, git_dir) is None:
        with contextlib.suppress(AgentcmdError):
            await git.run(verb, "--abort")
        raise await _refused(git, (verb, *args), finished, said)
    if any(sign in said for sign in _EMPTY):
        raise Conflict(
            f"the {what} stopped at a commit that changes nothing any more: run operation skip, "
            "or abort",
            underWay=now,
            commit=await asyncio.to_thread(_commit_at, git_dir),
        )
    why = await _refused(git, (verb, *args), finished, said)
    raise type(why)(
        f"the {what} stopped and is still under way: {why.message}", **why.details, underWay=now
    )


async def _refused(git: Work, args: Sequence[str], finished: Finished, said: str) -> AgentcmdError:
    if _OVERWRITTEN.search(said):
        found = [line.strip() for line in said.splitlines() if line.startswith("\t")]
        named = ", ".join(each[:200] for each in found[:3]) or "your changes"
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        return Conflict(
            f"what is not committed in {named}{more} would be overwritten: commit, stash or "
            "discard it first",
            paths=found[:500],
        )
    if "You have unstaged changes" in said or "index contains uncommitted changes" in said:
        return Conflict("there are changes that are not committed: commit or stash them first")
    if "Not possible to fast-forward" in said:
        return Conflict("both have commits of their own: merge with ff auto, or rebase")
    if "have unmerged files" in said or "unmerged files" in said:
        return Conflict("files are still in conflict: resolve and stage them first")
    return await explained(args, finished, git.repository)


async def stopped_at(git: Work, doing: str, found: Sequence[ConflictedFile]) -> Conflict:
    """Make the error of what has stopped at these conflicts."""
    git_dir = git.repository.git_dir
    now = await asyncio.to_thread(under_way, git_dir)
    commit = await asyncio.to_thread(_commit_at, git_dir)
    return stopped(doing, found, under_way=now, commit=commit)


def _commit_at(git_dir: str) -> str | None:
    """Give the commit that could not be merged."""
    return stopped_commit(git_dir, under_way(git_dir) or "") or None


def squashing(git: Work) -> bool:
    """Tell whether a squashed merge has stopped: nothing else says so."""
    place = Path(git.repository.git_dir)
    return all((place / name).exists() for name in ("SQUASH_MSG", "MERGE_MSG"))


async def head_of(git: Work) -> str | None:
    """Give the commit that is checked out, None before the first one."""
    return await git.text("rev-parse", "--quiet", "--verify", "HEAD", ok=(0, 1)) or None


async def count(git: Work, of: str | None, but: str | None) -> int:
    """Count the commits of one that another does not have."""
    if of is None or of == but:
        return 0
    return int(await git.text("rev-list", "--count", of, *([f"^{but}"] if but else [])))


@asynccontextmanager
async def undone(git: Work, before: str | None) -> AsyncIterator[None]:
    """Go back where it is cancelled, or ends otherwise before its end: it began from nothing."""
    began = time.time()
    clean = (
        before is None
        or not (await git.run("diff-index", "--cached", "--quiet", before, ok=(0, 1))).code
    )
    try:
        yield
    except Ended:
        await asyncio.to_thread(remove_left, git.repository, began)
        what = await asyncio.to_thread(under_way, git.repository.git_dir)
        with contextlib.suppress(AgentcmdError), git.taking_back():
            if what is not None:
                await git.run(what, "--abort")
            elif clean and before == await head_of(git):
                await git.run("reset", "--merge")
        raise
