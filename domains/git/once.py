"""Operations that are done once: what their git processes did outlives a daemon that dies.

Each process that an operation runs is on disk with its answer, and one that changes something is
there before it begins. An operation that is asked for again is replayed from that. Only the process
that was under way is in doubt: see `traces`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from daemon.core.errand import Finished
from daemon.core.journal import Journal
from domains.git.hooks import MARK

SCHEMA = """
    CREATE TABLE git_once (
        operation TEXT NOT NULL, number INTEGER NOT NULL, args BLOB NOT NULL, began REAL NOT NULL,
        code INTEGER, stdout BLOB, stderr TEXT, PRIMARY KEY (operation, number)
    ) WITHOUT ROWID
"""

PREFIX = "refs/agentcmd/"
"""Below it are all of our refs: neither branches nor tags, so nothing that git pushes by itself."""

DISCARDED = f"{PREFIX}discarded/"
"""Where what was overwritten or deleted is kept for a while."""

KEPT = 1000
"""Operations of which it is known what they did."""

KEPT_BYTES = 64 << 10
"""Longest answer that is kept; a longer one is asked for again."""

READS = frozenset(
    {
        *("blame", "cat-file", "check-ignore", "check-ref-format", "diff", "diff-index"),
        *(
            "diff-tree",
            "for-each-ref",
            "log",
            "ls-files",
            "ls-remote",
            "ls-tree",
            "merge-base",
            "name-rev",
            "rev-list",
        ),
        *("observed", "rev-parse", "show", "show-ref", "status", "symbolic-ref", "var"),
    }
)
"""What changes nothing, of what operations run."""

BY_ACTION = frozenset({"cherry-pick", "commit", "merge", "rebase", "reset", "revert", "tag"})
"""What takes the words of its entries from the environment; `stash` does, where it resets."""

BY_NAME = frozenset({"branch", "clone", "push", "switch"})
"""What has words of its own there, and makes no object that would have the name."""


class Ran(NamedTuple):
    """One process of an operation; without a `code` nobody knows what it came to."""

    args: list[str]
    began: float
    code: int | None
    stdout: bytes
    stderr: str


def observation(what: str) -> tuple[str, ...]:
    """Return what stands for the arguments of a process where something was looked at by us."""
    return ("observed", what)


KEPT_AS = "the name of what is thrown away"
"""What is observed before a snapshot is made."""


STOPPED = "the commit at which it has stopped"
"""What is observed before it goes on."""

GOES_ON = frozenset({"--continue", "--skip", "--abort"})
"""What has something go on, or back, that had stopped."""


class Once:
    """What one operation has run so far, on disk."""

    def __init__(self, id_: str, journal: Journal, known: Sequence[Ran]) -> None:
        """Replay what is `known`, then go on."""
        self.id = id_
        self._journal = journal
        self._known = {number: each for number, each in enumerate(known) if each.code is not None}
        self._number = 0

    def known(self, args: Sequence[str]) -> Finished | None:
        """Return what the next process answered, where it ran already."""
        found = self._known.get(self._number)
        if found is None or not self.is_next(args) or found.code is None:
            self._known.clear()  # from here on it goes another way
            return None
        self._number += 1
        return Finished(found.code, found.stdout, found.stderr)

    def is_next(self, args: Sequence[str]) -> bool:
        """Return whether the next process ran already, with these arguments."""
        found = self._known.get(self._number)
        return found is not None and found.args == list(args)

    def marks(self, args: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return options and variables by which git marks its reflogs' entries as of this."""
        verb = verb_of(args)
        if not changes(args):
            return (), {}
        logs = "always" if verb == "tag" else "true"
        options = ("-c", f"core.logAllRefUpdates={logs}")
        if verb in BY_ACTION or (verb == "stash" and "push" in args):
            return options, {"GIT_REFLOG_ACTION": f"{verb} ({self._mark})"}
        if verb in BY_NAME:
            who = {"GIT_COMMITTER_NAME": self._mark, "GIT_COMMITTER_EMAIL": "agentcmd@localhost"}
            return options, who
        return (), {}

    @property
    def _mark(self) -> str:
        return mark_of(self.id)

    async def begins(self, args: Sequence[str], now: float) -> None:
        """Write down that a process is about to begin; on disk first where it changes something."""
        self._journal.execute(
            "INSERT OR REPLACE INTO git_once VALUES (:id, :number, :args, :now, NULL, NULL, NULL)",
            id=self.id,
            number=self._number,
            args=msgspec.json.encode([each.encode("utf-8", "surrogateescape") for each in args]),
            now=now,
        )
        if changes(args):
            await self._journal.flushed()

    def ended(self, args: Sequence[str], finished: Finished) -> None:
        """Write down what it answered."""
        size = len(finished.stdout) + len(finished.stderr)
        if size <= KEPT_BYTES or changes(args):
            self._journal.execute(
                "UPDATE git_once SET code = :code, stdout = :stdout, stderr = :stderr "
                "WHERE operation = :id AND number = :number",
                id=self.id,
                number=self._number,
                code=finished.code,
                stdout=finished.stdout,
                stderr=finished.stderr,
            )
        self._number += 1


def changes(args: Sequence[str]) -> bool:
    """Return whether a process may change something."""
    verb = verb_of(args)
    if verb == "update-index":
        return "--refresh" not in args
    if verb == "config":
        return not any(each.startswith("--get") for each in args)
    if verb in ("stash", "worktree"):
        return "list" not in args
    return verb not in READS


def mark_of(id_: str) -> str:
    """Return the word by which an operation is known in reflogs."""
    return f"{MARK} {id_}"


def verb_of(args: Sequence[str]) -> str:
    """Return which command of git is run."""
    rest = iter(args)
    for each in rest:
        if each == "-c":
            next(rest, None)
        elif not each.startswith("-"):
            return each
    return ""


async def read(journal: Journal, id_: str) -> list[Ran]:
    """Read what an operation has run."""
    await journal.flushed()
    query = (
        "SELECT args, began, code, stdout, stderr FROM git_once WHERE operation = ? ORDER BY number"
    )

    def rows(db: sqlite3.Connection) -> list[Ran]:
        return [
            Ran(_decoded(args), began, code, stdout or b"", stderr or "")
            for args, began, code, stdout, stderr in db.execute(query, (id_,))
        ]

    return await journal.store.read(rows)


def _decoded(args: bytes) -> list[str]:
    found = msgspec.json.decode(args, type=list[bytes])
    return [each.decode("utf-8", "surrogateescape") for each in found]


def prune(journal: Journal) -> None:
    """Forget all but the newest operations."""
    journal.execute(
        "DELETE FROM git_once WHERE operation NOT IN "
        "(SELECT DISTINCT operation FROM git_once ORDER BY operation DESC LIMIT :kept)",
        kept=KEPT,
    )
