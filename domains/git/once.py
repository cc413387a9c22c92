"""Operations that are done once: what their git processes did outlives a daemon that dies.

Each process that an operation runs is on disk with its answer, and one that changes something is
there before it begins. An operation that is asked for again is replayed from that. Only the process
that was under way is in doubt: git's own reflogs tell whether it was done, for its entries there
are marked with the operation. So the same done by somebody else is not mistaken for it.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from daemon.core.errand import Finished
from daemon.core.errors import Conflict
from daemon.core.journal import Journal
from domains.git.hooks import MARK
from domains.git.repository import Repository
from domains.git.standing import under_way

SCHEMA = """
    CREATE TABLE git_once (
        operation TEXT NOT NULL, number INTEGER NOT NULL, args BLOB NOT NULL, began REAL NOT NULL,
        code INTEGER, stdout BLOB, stderr TEXT, PRIMARY KEY (operation, number)
    ) WITHOUT ROWID
"""

KEPT = 1000
"""Operations of which it is known what they did."""

KEPT_BYTES = 64 << 10
"""Longest answer that is kept; a longer one is asked for again."""

LOG_BYTES = 1 << 20
"""How much of the end of a reflog is read."""

READS = frozenset(
    {
        *("cat-file", "check-ref-format", "diff", "diff-index", "diff-tree", "for-each-ref"),
        *("log", "ls-files", "ls-remote", "ls-tree", "merge-base", "name-rev", "rev-list"),
        *("rev-parse", "show", "show-ref", "status", "symbolic-ref", "var"),
    }
)
"""What changes nothing, of what operations run."""

BY_ACTION = frozenset({"cherry-pick", "commit", "merge", "rebase", "reset", "revert", "tag"})
"""What takes the words of its entries from the environment; `stash` does, where it resets."""

BY_NAME = frozenset({"branch", "push", "switch"})
"""What has words of its own there, and makes no object that would have the name."""

_OBJECT = re.compile(r"[0-9a-f]{40,64}")
_ENTRY = re.compile(r"([0-9a-f]{40,64}) ([0-9a-f]{40,64}) (.*?) <[^>]*> \d+ [+-]\d{4}\t?(.*)")


class Ran(NamedTuple):
    """One process of an operation; without a `code` nobody knows what it came to."""

    args: list[str]
    began: float
    code: int | None
    stdout: bytes
    stderr: str


class Entry(NamedTuple):
    """One entry of a reflog."""

    before: str
    after: str
    by: str
    words: str


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


async def settled(journal: Journal, id_: str, repository: Repository | None) -> Once:
    """Return an operation as it is to go on, after it was seen what was under way.

    Where that did nothing, and nothing before it changed anything, it begins anew.
    """
    known = await read(journal, id_)
    doubtful = _doubtful(known)
    if doubtful is None:
        return Once(id_, journal, known)
    place = known.index(doubtful)
    found = await _found(id_, repository, known, doubtful)
    if found is not None:
        done = doubtful._replace(code=0, stdout=found)
        return Once(id_, journal, [*known[:place], done])
    if not any(changes(each.args) for each in known[:place]):
        known = []
    return Once(id_, journal, known)


async def is_known(journal: Journal, id_: str, repository: Repository | None) -> bool:
    """Return whether nothing that an operation does when it goes on may be done twice."""
    known = await read(journal, id_)
    doubtful = _doubtful(known)
    return doubtful is None or await _found(id_, repository, known, doubtful) is not None


def _doubtful(known: Sequence[Ran]) -> Ran | None:
    """Return the process that was under way, where it may have changed something."""
    found = next((each for each in known if each.code is None), None)
    return found if found is not None and changes(found.args) else None


async def _found(
    id_: str, repository: Repository | None, known: Sequence[Ran], doubtful: Ran
) -> bytes | None:
    if repository is None:
        return None
    before = known[: known.index(doubtful)]
    return await asyncio.to_thread(_seen, repository, mark_of(id_), doubtful, before)


def _seen(place: Repository, mark: str, ran: Ran, before: Sequence[Ran]) -> bytes | None:
    """Return what a process printed that did what it was to do; None where it did not."""
    verb, args = verb_of(ran.args), ran.args
    if verb in ("tag", "branch"):
        return _named(place, mark, verb, args)
    if verb == "push":
        return _pushed(place, mark, args)
    if verb == "worktree":
        return _work_tree(args)
    if verb == "stash":
        return _stashed(place, mark, args, before)
    if verb == "merge" and "--squash" in args:
        return b"" if _is_newer(Path(place.git_dir, "SQUASH_MSG"), ran.began) else None
    ours = [each for each in entries(Path(place.git_dir)) if _is_by(each, mark)]
    what = under_way(place.git_dir)
    if what is not None and ours:
        raise Conflict(
            f"a {what} was cut off half-way: run operation abort, or continue, then retry the run",
            underWay=what,
        )
    if verb == "rebase":
        ours = [each for each in ours if "(finish)" in each.words]
    wanted = 1
    if verb in ("cherry-pick", "revert"):
        wanted = sum(1 for each in args if _OBJECT.fullmatch(each))
    return b"" if len(ours) >= wanted else None


def _is_by(entry: Entry, mark: str) -> bool:
    return entry.by == mark or f"({mark})" in entry.words


def _named(place: Repository, mark: str, verb: str, args: Sequence[str]) -> bytes | None:
    kind = "tags" if verb == "tag" else "heads"
    if "--delete" in args:
        return None if _has_ref(place, f"refs/{kind}/{args[-1]}") else b""
    if "--move" in args:
        name = args[-1]
    else:
        name = args[args.index("--end-of-options") + 1] if "--end-of-options" in args else args[-1]
    ref = f"refs/{kind}/{name}"
    found = any(_is_by(each, mark) for each in entries(Path(place.common_dir), ref))
    return b"" if found and _has_ref(place, ref) else None


def _pushed(place: Repository, mark: str, args: Sequence[str]) -> bytes | None:
    """Return what a push printed, by the remote-tracking branch, which git moves with it."""
    *_, remote, spec = args
    if "*" in spec:
        return None
    ref = spec.rpartition(":")[2]
    known = f"refs/remotes/{remote}/{ref.removeprefix('refs/heads/')}"
    ours = [each for each in entries(Path(place.common_dir), known) if _is_by(each, mark)]
    if not ours:
        return None
    first = not ours[-1].before.strip("0")
    flag, words = ("*", "[new branch]") if first else (" ", "pushed")
    return f"{flag}\t{spec}\t{words}\n".encode()


def _work_tree(args: Sequence[str]) -> bytes | None:
    path = next((each for each in args if each.startswith("/")), None)
    if path is None:
        return None
    link = Path(path, ".git")
    if "remove" in args:
        return None if link.exists() else b""
    with suppress(OSError):
        folder = Path(link.read_text().strip().removeprefix("gitdir: "))
        return b"" if (folder / "index").exists() else None  # it is written last
    return None


def _stashed(
    place: Repository, mark: str, args: Sequence[str], before: Sequence[Ran]
) -> bytes | None:
    if "push" in args:
        return b"" if any(_is_by(each, mark) for each in entries(Path(place.git_dir))) else None
    found = re.fullmatch(r"stash@\{(\d+)\}", args[-1])
    listed = next((each.stdout.split() for each in before if "list" in each.args), [])
    if found is None or not {"pop", "drop"} & {*args} or int(found[1]) >= len(listed):
        return None
    now = {each.after for each in entries(Path(place.common_dir), "refs/stash")}
    return None if listed[int(found[1])].decode() in now else b""


def _has_ref(place: Repository, ref: str) -> bool:
    if Path(place.common_dir, ref).is_file():
        return True
    with suppress(OSError):
        packed = Path(place.common_dir, "packed-refs").read_text(errors="surrogateescape")
        return any(line.endswith(f" {ref}") for line in packed.splitlines())
    return False


def _is_newer(path: Path, moment: float) -> bool:
    with suppress(OSError):
        return path.stat().st_mtime >= moment
    return False


def entries(folder: Path, ref: str = "HEAD") -> list[Entry]:
    """Read the end of a reflog, the oldest entry first; none where there is no such log."""
    try:
        with (folder / "logs" / ref).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - LOG_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    found = (_ENTRY.fullmatch(line) for line in text.split("\n"))
    return [Entry(*match.groups()) for match in found if match]
