"""Files that a merge of any kind could not merge, and the error that tells of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

import msgspec

from daemon.core.errors import Conflict
from daemon.core.events import Answer
from domains.git.desk import Work

LISTED = 500
"""Conflicted files that an error lists; it always counts them all."""

NAMED = 3
"""Conflicted files that its sentence names."""

Kind = Literal[
    "both modified",
    "both added",
    "both deleted",
    "added by us",
    "added by them",
    "deleted by us",
    "deleted by them",
]

_KINDS: dict[frozenset[str], Kind] = {
    frozenset("123"): "both modified",
    frozenset("23"): "both added",
    frozenset("1"): "both deleted",
    frozenset("2"): "added by us",
    frozenset("3"): "added by them",
    frozenset("13"): "deleted by us",
    frozenset("12"): "deleted by them",
}
"""By the stages that the index has: 1 is what both come from, 2 is ours, 3 is theirs."""


class ConflictedFile(Answer):
    """One file that could not be merged: `path`, and the `kind` as `git status` words it.

    Bytes of a name that are no UTF-8 stand as U+FFFD.
    """

    path: str
    kind: Kind


async def conflicts(git: Work) -> list[ConflictedFile]:
    """Give the files that are in conflict now, each once, in the order of their names."""
    finished = await git.run("ls-files", "--unmerged", "-z")
    return await asyncio.to_thread(parse_unmerged, finished.stdout)


def parse_unmerged(output: bytes) -> list[ConflictedFile]:
    """Read what `git ls-files --unmerged -z` says: an entry for each stage of each file."""
    stages: dict[bytes, set[str]] = {}
    for entry in output.split(b"\0"):
        about, _, path = entry.partition(b"\t")
        if path:
            stages.setdefault(path, set()).add(chr(about[-1]))
    return [
        ConflictedFile(path=path.decode(errors="replace"), kind=_KINDS[frozenset(found)])
        for path, found in stages.items()
    ]


def stopped(
    doing: str, found: Sequence[ConflictedFile], *, under_way: str | None, commit: str | None = None
) -> Conflict:
    """Make the error of an operation that leaves files to resolve; `commit` is where it stopped.

    `under_way` is what is left to be continued or aborted, None where there is only to commit.
    """
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    named = ", ".join(each.path[:200] for each in found[:NAMED]) + more
    next_ = "run operation continue, or abort" if under_way else "commit"
    return Conflict(
        f"the {doing} stopped at conflicts in {named}: resolve and stage them, then {next_}",
        conflicts=msgspec.to_builtins(found[:LISTED]),
        conflictCount=len(found),
        underWay=under_way,
        commit=commit,
    )
