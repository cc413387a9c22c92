"""Traces that git leaves of what an operation has done: they outlive a daemon that dies.

Of a process that was under way nobody knows whether it was done. Git's own reflogs tell, for its
entries there are marked with the operation; else files and refs do. So the same done by somebody
else is not mistaken for it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from daemon.core.errors import Conflict
from daemon.core.journal import Journal
from domains.git.once import (
    BY_ACTION,
    DISCARDED,
    GOES_ON,
    KEPT_AS,
    STOPPED,
    Once,
    Ran,
    changes,
    mark_of,
    observation,
    read,
    verb_of,
)
from domains.git.repository import Repository
from domains.git.standing import stopped_commit, under_way

LOG_BYTES = 1 << 20
"""How much of the end of a reflog is read."""

_OBJECT = re.compile(r"[0-9a-f]{40,64}")
_ENTRY = re.compile(r"([0-9a-f]{40,64}) ([0-9a-f]{40,64}) (.*?) <[^>]*> \d+ [+-]\d{4}\t?(.*)")


class Entry(NamedTuple):
    """One entry of a reflog."""

    before: str
    after: str
    by: str
    words: str


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
    before = known[:place]
    if not any(changes(each.args) for each in before) and not _has_kept(repository, before):
        known = []
    return Once(id_, journal, known)


async def is_known(journal: Journal, id_: str, repository: Repository | None) -> bool:
    """Return whether nothing that an operation does when it goes on may be done twice."""
    known = await read(journal, id_)
    doubtful = _doubtful(known)
    return doubtful is None or await _found(id_, repository, known, doubtful) is not None


def has_cloned(id_: str, folder: Path) -> bool:
    """Return whether the repository in a folder is one that an operation has cloned."""
    return any(_is_by(each, mark_of(id_)) for each in entries(folder / ".git"))


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
    if verb == "remote":
        return _configured(place, ran)
    if verb == "push":
        return _pushed(place, mark, args)
    if verb == "worktree":
        return _work_tree(args)
    if verb == "stash":
        return _stashed(place, mark, args, before)
    return _combined(place, mark, ran, before)


def _gone_on(
    place: Repository, verb: str, args: Sequence[str], before: Sequence[Ran]
) -> bytes | None:
    """Return what is printed by what ends something that had stopped, or stops again later."""
    what = under_way(place.git_dir)
    if what is None:
        return b""
    seen = [each.stdout.decode() for each in before if each.args == list(observation(STOPPED))]
    if "--abort" in args or not seen or stopped_commit(place.git_dir, verb) == seen[-1]:
        return None
    if seen[-1] and not stopped_commit(place.git_dir, verb) and "--continue" in args:
        return None  # that commit is made, by ours before this one
    raise _half_way(what)


def _half_way(what: str) -> Conflict:
    return Conflict(
        f"a {what} was cut off half-way: run operation abort, or continue, then retry the run",
        underWay=what,
    )


def _combined(place: Repository, mark: str, ran: Ran, before: Sequence[Ran]) -> bytes | None:
    verb, args = verb_of(ran.args), ran.args
    if GOES_ON & {*args}:
        return _gone_on(place, verb, args, before)
    if verb == "merge" and "--squash" in args:
        return b"" if _is_newer(Path(place.git_dir, "SQUASH_MSG"), ran.began) else None
    by = f"{verb} ({mark})" if verb in BY_ACTION else ""
    found = entries(Path(place.git_dir))
    ours = [each for each in found if _is_by(each, mark) and by in each.words]
    what = under_way(place.git_dir)
    if what is not None and ours and verb != "commit":
        raise _half_way(what)
    if verb == "rebase":
        ours = [each for each in ours if "(finish)" in each.words]
    wanted = 1
    if verb in ("cherry-pick", "revert"):
        wanted = sum(1 for each in args if _OBJECT.fullmatch(each))
    return b"" if len(ours) >= wanted else None


def _has_kept(place: Repository | None, before: Sequence[Ran]) -> bool:
    """Return whether a snapshot is there of what an operation was about to throw away."""
    names = [each.stdout.decode() for each in before if each.args == list(observation(KEPT_AS))]
    return place is not None and any(_has_ref(place, f"{DISCARDED}{name}") for name in names)


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


def _configured(place: Repository, ran: Ran) -> bytes | None:
    """Return what is printed by the change of a remote, by the file that it is written into."""
    path = Path(place.common_dir, "config")
    if not _is_newer(path, ran.began):
        return None
    written = path.read_text(errors="surrogateescape")
    how = next(each for each in ("add", "remove", "set-url") if each in ran.args)
    name, url = (ran.args[-1], "") if how == "remove" else ran.args[-2:]
    there = f'[remote "{name}"]' in written
    return b"" if there is (how != "remove") and url in written else None


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
