"""Snapshots of a whole work tree as commits under private refs, and their way back.

A snapshot is made in a copy of the index: neither the index, a branch, HEAD nor the work tree knows
of it. It holds what is tracked and what is not, but nothing that git ignores; of a submodule only
which commit it is at, and a restore leaves submodules alone.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from msgspec import field

from daemon.core.errors import Conflict
from daemon.core.events import Answer
from daemon.core.ids import new_id
from domains.git.copied_index import (
    HEAD,
    QUIET,
    CopiedIndex,
    copied_index,
    index_info,
    lines,
)
from domains.git.desk import Work
from domains.git.differences import (
    NOTHING,
    SUBMODULE,
    Change,
    State,
    changes,
    differences,
    state_of,
)
from domains.git.once import DISCARDED, KEPT_AS
from domains.git.raw_files import REGULAR
from domains.git.raw_writing import RawFile, modes_of, take_modes, write_back

SHOWN = 1000
"""Paths of a restore that are named; the counts are of all."""


class Restored(Answer):
    """What a restore has changed in the work tree.

    `written` and `removed` name at most 1000 paths each, `written_count` and `removed_count` count
    all. What stood there before is the snapshot `undo`, under the ref `undo_ref`; both are absent
    where nothing had to change.
    """

    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    written_count: int = 0
    removed_count: int = 0
    undo: str | None = None
    undo_ref: str | None = None


class Kept:
    """What stood in the work tree before something was done to it.

    `commit` and `changes` are there once it is done; `commit` stays None where nothing was lost.
    """

    def __init__(self, git: Work, index: CopiedIndex, ref: str, message: str) -> None:
        """Keep it under this ref."""
        self.ref = ref
        self.commit: str | None = None
        self.changes: list[Change] = []
        self.index = index
        self.before = State("", None)
        self._now = self.before
        self._git = git
        self._message = message

    async def begin(self) -> None:
        """Keep what stands there now, or stood there when a daemon began this that died."""
        self._now = await self.index.state()
        earlier = await self.index.earlier(self.ref) if self._git.once is not None else None
        if earlier is not None:
            self.before = earlier
        else:
            await self._keep(self._now)

    async def _keep_hidden(self, hidden: list[bytes]) -> None:
        await self.index.add_ignored(hidden)
        old, self._now = self._now, await self.index.state()
        if self.before.same(old):
            await self._keep(self._now)
        elif more := await changes(self.index, old.tree, self._now.tree):
            tree = await self.index.with_more(self.before.tree, more)
            await self._keep(self.before._replace(tree=tree))

    async def _keep(self, state: State) -> None:
        """Keep what stands there now: should the work break off half-way, it is all there."""
        self.before = state
        await self.index.keep(self.ref, self._message, state)

    async def write(self, wanted: list[Change], *, sparing: bool = False) -> None:
        """Carry changes out in the work tree, keeping also what git ignores in their way.

        `sparing` leaves files alone that rules ignore which are written back with the others.
        """
        new = [each.path for each in wanted if each.old_mode == NOTHING]
        hidden = await asyncio.to_thread(in_the_way, self._git.root, new)
        if hidden:
            await self._keep_hidden(hidden)
        rules = [each for each in wanted if each.path.rpartition(b"/")[2] == b".gitignore"]
        now, written = self._now.tree, set[bytes]()
        files = [each.path for each in wanted if each.old_mode in REGULAR and each.mode in REGULAR]
        modes = await asyncio.to_thread(modes_of, self._git.root, files)
        if sparing and rules and any(each.removed for each in wanted):
            now = await _apply(self._git, self.index, now, rules, written)
            wanted = await _without_ignored(self._git, wanted)
        if wanted:
            await _apply(self._git, self.index, now, wanted, written)
        await self._write_bytes([each for each in wanted if each.mode in REGULAR], written)
        await asyncio.to_thread(take_modes, self._git.root, modes)

    async def _write_bytes(self, wanted: list[Change], written: set[bytes]) -> None:
        """Write what differs in bytes only, and what git would have written otherwise."""
        known = self.before.raw or {}
        again = [
            each
            for each in wanted
            if not each.raw and each.path in known and each.path not in written
        ]
        if again:
            await self.index.check_out(again)
        raw = [each for each in wanted if each.raw]
        files = [RawFile(each.path, each.raw, each.mode == b"100755") for each in raw]
        await write_back(self._git, files)

    async def close(self) -> None:
        """Keep of it what is lost."""
        after = await self.index.state()
        if after.same(self.before):
            await drop(self._git, [self.ref.encode()])
            return
        base = await self.index.commit("what followed", after, await self.index.head())
        self.changes = await differences(self._git, self.before, after)
        self.commit = await self.index.keep(self.ref, self._message, self.before, parent=base)


async def take(git: Work, ref: str, message: str) -> str:
    """Keep a snapshot of the work tree under a ref, and give the id of its commit."""
    async with copied_index(git) as index:
        return await index.keep(ref, message, await index.state(), parent=HEAD)


@asynccontextmanager
async def kept(git: Work, ref: str, message: str) -> AsyncIterator[Kept]:
    """Keep what is lost of the work tree while this is open, as `what_it_changed` of a restore.

    The commit's tree is what stood there before, its parent's is what stands there afterwards.
    """
    async with copied_index(git) as index:
        found = Kept(git, index, ref, message)
        await found.begin()
        yield found
        await found.close()


async def name_for(git: Work) -> str:
    """Return the name under which a discarded change is kept."""
    return await git.observed(KEPT_AS, new_id)


async def restore(
    git: Work,
    commit: str,
    paths: Sequence[str] | None,
    *,
    what_it_changed: bool = False,
    undo_ref: str | None = None,
    message: str = "what a restore has overwritten",
) -> Restored:
    """Make the work tree, or these files and folders of it, like a snapshot.

    With `what_it_changed` only where the commit differs from its parent: what `kept` has kept.
    Index, HEAD and submodules stay as they are.
    """
    ref = undo_ref or f"{DISCARDED}{await name_for(git)}"
    async with kept(git, ref, message) as overwritten:
        now = overwritten.before
        base = await state_of(git, f"{commit}^") if what_it_changed else now
        wanted = await differences(git, base, await state_of(git, commit))
        wanted = await asyncio.to_thread(_selected, wanted, paths)
        await overwritten.write(wanted, sparing=True)
    written = [each.path for each in overwritten.changes if not each.removed]
    removed = [each.path for each in overwritten.changes if each.removed]
    return Restored(
        written=shown(written),
        removed=shown(removed),
        written_count=len(written),
        removed_count=len(removed),
        undo=overwritten.commit,
        undo_ref=overwritten.commit and ref,
    )


async def prune(git: Work, prefix: str, keep_after: float) -> int:
    """Delete the refs below a prefix whose commit is older than a time; gives how many."""
    listed = await git.run("for-each-ref", "--format=%(committerdate:unix) %(refname)", prefix)
    old = [
        ref
        for when, _, ref in (line.partition(b" ") for line in listed.stdout.splitlines())
        if float(when or b"0") < keep_after
    ]
    await drop(git, old)
    return len(old)


async def drop(git: Work, refs: Iterable[bytes]) -> None:
    """Delete refs, all in one go."""
    said = b"".join(b"delete %s\0\0" % ref for ref in refs)
    if said:
        await git.run(*QUIET, "update-ref", "--no-deref", "-z", "--stdin", stdin=said)


def shown(paths: Sequence[bytes]) -> list[str]:
    """Give the first paths for an answer; what is not UTF-8 in a name is replaced."""
    return [path.decode(errors="replace") for path in paths[:SHOWN]]


async def _without_ignored(git: Work, wanted: list[Change]) -> list[Change]:
    """Spare what the rules ignore that are back now: a snapshot lacks it for that reason."""
    said = await git.run(
        *("check-ignore", "-z", "--stdin"),
        stdin=lines(b"./" + each.path for each in wanted if each.removed),  # so without magic
        ok=(0, 1, 128),
    )
    ignored = {path.removeprefix(b"./") for path in said.stdout.split(b"\0")}
    return [each for each in wanted if not (each.removed and each.path in ignored)]


async def _apply(
    git: Work, index: CopiedIndex, now: str, wanted: list[Change], written: set[bytes]
) -> str:
    """Carry changes out but for raw files, in the work tree and in the index that is like it.

    It gives its tree then. What stands in the place of raw files or their folders goes; a file
    stays until it is replaced. What git has written is added to `written`.
    """
    nothing = b"0" * len(now)
    async with copied_index(git) as target:
        await asyncio.to_thread(shutil.copy2, index.path, target.path)
        said = await asyncio.to_thread(index_info, wanted, nothing)
        await target.run("update-index", "-z", "--index-info", stdin=said)
        then = await target.written()
        found = await changes(git, now, then)
        raw = {each.path for each in wanted if each.raw}
        left = [_as_before(each) for each in found if each.path in raw]
        if left:
            said = index_info(left, nothing)
            await target.run("update-index", "-z", "--index-info", stdin=said)
            then = await target.written()
    for each in found:
        if each.old_mode == SUBMODULE:
            name = each.path.decode(errors="replace")
            raise Conflict(f"{name[:200]!r} is a repository of its own now; move it away first")
        written.add(each.path)
    await index.run(
        *("read-tree", "--reset" if index.refused else "-m", "-u"),
        *("--no-sparse-checkout", "--no-recurse-submodules", now, then),
    )
    return then


def _as_before(change: Change) -> Change:
    """Leave a file to be replaced later; have anything else make room for one."""
    if change.old_mode in REGULAR:
        return Change(change.path, change.old_mode, change.old_mode, change.old_id)
    return Change.removal(change.path)


def _selected(found: list[Change], paths: Sequence[str] | None) -> list[Change]:
    """Keep what is named itself or by a folder, and what stands where its folders will be."""
    found = [each for each in found if SUBMODULE not in (each.old_mode, each.mode)]
    if paths is None:
        return found
    wanted = Below(paths)
    kept = [each for each in found if each.path in wanted]
    folders = {above for each in kept if not each.removed for above in _upwards(each.path)}
    taken = {each.path for each in kept}
    return kept + [
        each for each in found if each.removed and each.path in folders and each.path not in taken
    ]


class Below:
    """The files and folders that somebody names, and all that is in them."""

    def __init__(self, paths: Iterable[str]) -> None:
        """Take them as they come from a client."""
        self._named = {path.rstrip("/").encode() for path in paths}

    def __contains__(self, path: bytes) -> bool:
        """Tell whether a path is one of them."""
        return not self._named.isdisjoint(_upwards(path))


def _upwards(path: bytes) -> Iterable[bytes]:
    """Yield a path and the folders that it is in."""
    while path:
        yield path
        path = path.rpartition(b"/")[0]


def in_the_way(root: str, new: Iterable[bytes]) -> list[bytes]:
    """Find what stands where new files will be, or their folders; links are not followed."""
    top = os.fsencode(root)
    found: dict[bytes, None] = {}
    for path in new:
        for place in [*_upwards(path)][::-1]:
            try:
                mode = os.lstat(os.path.join(top, place)).st_mode  # noqa: PTH118  # bytes
            except OSError:
                break
            if place == path or not stat.S_ISDIR(mode):
                found[place] = None
                break
    return list(found)
