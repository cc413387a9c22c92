"""Snapshots of a whole work tree as commits under private refs, and their way back.

A snapshot is made in a copy of the index: neither the index, a branch, HEAD nor the work tree knows
of it. It holds what is tracked and what is not, but nothing that git ignores; of a submodule only
which commit it is at, and a restore leaves submodules alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from msgspec import field

from daemon.core.errand import Finished
from daemon.core.errors import Conflict, Unavailable
from daemon.core.events import Answer
from daemon.core.ids import new_id
from domains.git.desk import Work
from domains.git.looks import COPYING

PREFIX = "refs/agentcmd/"
"""Below it are all of our refs: neither branches nor tags, so nothing that git pushes by itself."""

DISCARDED = f"{PREFIX}discarded/"
"""Where what was overwritten or deleted is kept for a while."""

SHOWN = 1000
"""Paths of a restore that are named; the counts are of all."""

_STALE = 24 * 3600.0
"""Seconds after which the copy of an index is one that a dead daemon left."""

_QUIET = (
    *("-c", "core.hooksPath=/dev/null"),  # it is no commit of the user's
    *("-c", "core.splitIndex=false"),  # the copy stands alone
    *("-c", "core.sparseCheckout=false"),  # what lies outside of the cone is work too
    *("-c", "core.safecrlf=false"),
    *("-c", "core.logAllRefUpdates=false"),
    *("-c", "i18n.commitEncoding=UTF-8"),
)

_IDENTITY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "agentcmd"), ("EMAIL", "agentcmd@localhost"))
}

SUBMODULE = b"160000"
"""The mode of a submodule in a tree."""
_NOTHING = b"000000"


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


class Change(NamedTuple):
    """One path that differs between two trees, and what it is in the second."""

    path: bytes
    old_mode: bytes
    mode: bytes
    object_id: bytes

    @classmethod
    def removal(cls, path: bytes) -> Change:
        """Make one of a file that will be gone."""
        return cls(path, b"100644", _NOTHING, b"")

    @property
    def removed(self) -> bool:
        """Tell whether the second tree lacks it."""
        return self.mode == _NOTHING


class Kept:
    """What stood in the work tree before something was done to it.

    `commit` and `changes` are there once it is done; `commit` stays None where nothing was lost.
    """

    def __init__(self, git: Work, index: _Index, ref: str, message: str) -> None:
        """Keep it under this ref."""
        self.ref = ref
        self.commit: str | None = None
        self.changes: list[Change] = []
        self.index = index
        self.before = ""
        self._git = git
        self._message = message

    async def keep(self, tree: str) -> None:
        """Keep what stands there now: should the work break off half-way, it is all there."""
        self.before = tree
        await self.index.keep(self.ref, self._message, tree)

    async def write(self, wanted: list[Change], *, sparing: bool = False) -> None:
        """Carry changes out in the work tree, keeping also what git ignores in their way.

        `sparing` leaves files alone that rules ignore which are written back with the others.
        """
        new = [each.path for each in wanted if each.old_mode == _NOTHING]
        hidden = await asyncio.to_thread(in_the_way, self._git.root, new)
        if hidden:
            await self.index.add_ignored(hidden)
            await self.keep(await self.index.written())
        rules = [each for each in wanted if each.path.rpartition(b"/")[2] == b".gitignore"]
        now = self.before
        if sparing and rules and any(each.removed for each in wanted):
            now = await _apply(self._git, self.index, now, rules)
            wanted = await _without_ignored(self._git, wanted)
        if wanted:
            await _apply(self._git, self.index, now, wanted)

    async def close(self) -> None:
        """Keep of it what is lost."""
        after = await self.index.tree()
        if after == self.before:
            await drop(self._git, [self.ref.encode()])
            return
        base = await self.index.commit("what followed", after, await self.index.head())
        self.changes = await changes(self._git, self.before, after)
        self.commit = await self.index.keep(self.ref, self._message, self.before, parent=base)


async def take(git: Work, ref: str, message: str) -> str:
    """Keep a snapshot of the work tree under a ref, and give the id of its commit."""
    async with _copied_index(git) as index:
        return await index.keep(ref, message, await index.tree())


@asynccontextmanager
async def kept(git: Work, ref: str, message: str) -> AsyncIterator[Kept]:
    """Keep what is lost of the work tree while this is open, as `what_it_changed` of a restore.

    The commit's tree is what stood there before, its parent's is what stands there afterwards.
    """
    async with _copied_index(git) as index:
        found = Kept(git, index, ref, message)
        await found.keep(await index.tree())
        yield found
        await found.close()


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
    ref = undo_ref or f"{DISCARDED}{new_id()}"
    async with kept(git, ref, message) as overwritten:
        base = f"{commit}^" if what_it_changed else overwritten.before
        wanted = await changes(git, base, commit)
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
        await git.run(*_QUIET, "update-ref", "--no-deref", "-z", "--stdin", stdin=said)


def shown(paths: Sequence[bytes]) -> list[str]:
    """Give the first paths for an answer; what is not UTF-8 in a name is replaced."""
    return [path.decode(errors="replace") for path in paths[:SHOWN]]


async def changes(git: Work, old: str, new: str) -> list[Change]:
    """List how one tree differs from another, with names as bytes."""
    finished = await git.run(
        *("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-ext-diff", "--no-textconv"),
        *("--ignore-submodules=none", "--no-abbrev", "--end-of-options", old, new),
    )
    return await asyncio.to_thread(_changes_of, finished.stdout)


def _changes_of(output: bytes) -> list[Change]:
    """Read `diff-tree -z --raw`: `:MODE MODE ID ID STATUS`, NUL, path, NUL."""
    fields = output.split(b"\0")
    found = []
    for said, path in zip(fields[0::2], fields[1::2], strict=False):
        old_mode, mode, _, object_id, _ = said.removeprefix(b":").split(b" ")
        found.append(Change(path, old_mode, mode, object_id))
    return found


class _Index:
    """A copy of the index, which only we know of."""

    def __init__(self, git: Work, path: str) -> None:
        self._git = git
        self._head: str | None = None
        self.path = path

    async def run(
        self, *args: str, stdin: bytes | None = None, ok: tuple[int, ...] = (0,)
    ) -> Finished:
        """Run git with it."""
        env = {"GIT_INDEX_FILE": self.path, **_IDENTITY}
        return await self._git.run(*_QUIET, *args, stdin=stdin, ok=ok, env=env, seconds=COPYING)

    async def tree(self) -> str:
        """Bring it up to date with the work tree, and give the id of the tree that it then is.

        A file that cannot be read, and a repository without a commit inside this one, are left out.
        """
        await self.run("add", "--all", "--ignore-errors", ok=(0, 1))
        return await self.written()

    async def add_ignored(self, paths: list[bytes]) -> None:
        """Add files and folders although git ignores them."""
        await self.run(
            *("add", "--force", "--ignore-errors"),
            *("--pathspec-from-file=-", "--pathspec-file-nul"),
            stdin=_lines(b":(literal)" + path for path in paths),
            ok=(0, 1),
        )

    async def written(self) -> str:
        """Write its tree as it is; a partial clone need not have every file for that."""
        return _said(await self.run("write-tree", "--missing-ok"))

    async def head(self) -> str | None:
        """Give the commit that HEAD was at when this was asked first; None before there is one."""
        if self._head is None:
            args = ("rev-parse", "--quiet", "--verify", "HEAD^{commit}")
            self._head = _said(await self.run(*args, ok=(0, 1)))
        return self._head or None

    async def commit(self, message: str, tree: str, parent: str | None) -> str:
        """Make a commit of a tree."""
        parents = ("-p", parent) if parent else ()
        made = await self.run("commit-tree", *parents, "-F", "-", tree, stdin=message.encode())
        return _said(made)

    async def keep(self, ref: str, message: str, tree: str, *, parent: str | None = None) -> str:
        """Make a commit of a tree, and a ref that keeps it."""
        if not ref.startswith(PREFIX):
            raise ValueError(f"{ref} is no ref of ours")
        commit = await self.commit(message, tree, parent or await self.head())
        await self.run("update-ref", "--no-deref", ref, commit)
        return commit


def _said(finished: Finished) -> str:
    return finished.stdout.decode().strip()


@asynccontextmanager
async def _copied_index(git: Work) -> AsyncIterator[_Index]:
    path = Path(git.repository.git_dir) / f"agentcmd-{new_id()}.index"
    try:
        await asyncio.to_thread(_copy, path)
        yield _Index(git, str(path))
    finally:
        await asyncio.shield(asyncio.to_thread(_remove, path))


def _copy(path: Path) -> None:
    """Copy the index with its time: from that git tells which files may have changed unseen."""
    for left in path.parent.glob("agentcmd-*.index*"):
        with contextlib.suppress(OSError):
            if left.stat().st_ctime < time.time() - _STALE:  # the other time is the index's
                left.unlink()
    try:
        shutil.copy2(path.with_name("index"), path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise Unavailable(f"git's index cannot be copied to {path}: {error.strerror}") from None


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)


async def _without_ignored(git: Work, wanted: list[Change]) -> list[Change]:
    """Spare what the rules ignore that are back now: a snapshot lacks it for that reason."""
    said = await git.run(
        *("check-ignore", "-z", "--stdin"),
        stdin=_lines(b"./" + each.path for each in wanted if each.removed),  # so without magic
        ok=(0, 1, 128),
    )
    ignored = {path.removeprefix(b"./") for path in said.stdout.split(b"\0")}
    return [each for each in wanted if not (each.removed and each.path in ignored)]


async def _apply(git: Work, index: _Index, now: str, wanted: list[Change]) -> str:
    """Carry changes out, in the work tree and in the index that is like it; gives its tree then."""
    async with _copied_index(git) as target:
        await asyncio.to_thread(shutil.copy2, index.path, target.path)
        said = await asyncio.to_thread(_index_info, wanted, b"0" * len(now))
        await target.run("update-index", "-z", "--index-info", stdin=said)
        then = await target.written()
    for each in await changes(git, now, then):
        if each.old_mode == SUBMODULE:
            name = each.path.decode(errors="replace")
            raise Conflict(f"{name[:200]!r} is a repository of its own now; move it away first")
    await index.run(
        *("read-tree", "-m", "-u", "--no-sparse-checkout", "--no-recurse-submodules"),
        *(now, then),
    )
    return then


def _lines(paths: Iterable[bytes]) -> bytes:
    return b"".join(path + b"\0" for path in paths)


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


def _index_info(wanted: list[Change], nothing: bytes) -> bytes:
    """Say it for `update-index -z --index-info`: what goes first, so that it makes room."""
    return b"".join(
        b"%s %s\t%s\0"
        % ((b"0", nothing, each.path) if each.removed else (each.mode, each.object_id, each.path))
        for each in sorted(wanted, key=lambda each: not each.removed)
    )
