"""A copy of git's index, in which snapshots are made and which only we know of."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path

from daemon.core.errand import Finished
from daemon.core.errors import Unavailable
from daemon.core.ids import new_id
from domains.git.adding import add_all
from domains.git.desk import Work
from domains.git.differences import Change, State, state_of
from domains.git.looks import COPYING
from domains.git.once import PREFIX
from domains.git.raw_files import Settings, converted, settings
from domains.git.work import SCRATCH_INDEX

HEAD = "HEAD"

_STALE = 24 * 3600.0
"""Seconds after which the copy of an index is one that a dead daemon left."""

QUIET = (
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


class CopiedIndex:
    """A copy of the index, brought up to date with the work tree."""

    def __init__(self, git: Work, path: str) -> None:
        """Take what is at this path for the copy; nothing there is an empty one."""
        self._git = git
        self._head: str | None = None
        self._settings: Settings | None = None
        self.refused = False
        self.path = path

    async def run(
        self, *args: str, stdin: bytes | None = None, ok: tuple[int, ...] = (0,)
    ) -> Finished:
        """Run git with it."""
        env = {SCRATCH_INDEX: self.path, **_IDENTITY}
        return await self._git.run(*QUIET, *args, stdin=stdin, ok=ok, env=env, seconds=COPYING)

    async def state(self) -> State:
        """Bring it up to date with the work tree, and give the state that this is in."""
        if self._settings is None:
            self._settings = await settings(self.run)
        self.refused = await add_all(self.run, self._git.root, self._settings)
        tree = await self.written()
        raw = await converted(self.run, self._git.root, self._settings)
        return State(tree, raw, await self._raw_commit(raw) if raw else "")

    async def earlier(self, ref: str) -> State | None:
        """Return the state that a ref keeps; None without the ref."""
        args = ("rev-parse", "--quiet", "--verify", f"{ref}^{{tree}}")
        tree = _said(await self.run(*args, ok=(0, 1)))
        return (await state_of(self, ref))._replace(tree=tree) if tree else None

    async def with_more(self, tree: str, more: Sequence[Change]) -> str:
        """Return a copy of a tree with these changes in it."""
        async with self._other() as other:
            await other.run("read-tree", tree)
            said = index_info(more, b"0" * len(tree))
            await other.run("update-index", "-z", "--index-info", stdin=said)
            return await other.written()

    async def _raw_commit(self, raw: Mapping[bytes, bytes]) -> str:
        """Make a commit of these blobs, at their paths."""
        async with self._other() as other:
            said = b"".join(b"100644 %s\t%s\0" % (id_, path) for path, id_ in raw.items())
            await other.run("update-index", "-z", "--index-info", stdin=said)
            tree = await other.written()
            return _said(await self.run("commit-tree", "-m", "bytes of files", tree))

    async def check_out(self, wanted: Sequence[Change]) -> None:
        """Have git write files anew, whatever it knows of those that are there."""
        async with self._other() as other:
            said = index_info(wanted, b"")
            await other.run("update-index", "-z", "--index-info", stdin=said)
            paths = lines(each.path for each in wanted)
            await other.run("checkout-index", "--force", "-z", "--stdin", stdin=paths)

    @asynccontextmanager
    async def _other(self) -> AsyncIterator[CopiedIndex]:
        """Have an empty one for a while."""
        other = CopiedIndex(self._git, f"{self.path}.other")
        try:
            yield other
        finally:
            await asyncio.shield(asyncio.to_thread(_remove, Path(other.path)))

    async def add_ignored(self, paths: list[bytes]) -> None:
        """Add files and folders although git ignores them."""
        await self.run(
            *("add", "--force", "--ignore-errors"),
            *("--pathspec-from-file=-", "--pathspec-file-nul"),
            stdin=lines(b":(literal)" + path for path in paths),
            ok=(0, 1),
        )

    async def written(self) -> str:
        """Write its tree as it is; a partial clone need not have every file for that."""
        return _said(await self.run("write-tree", "--missing-ok"))

    async def head(self) -> str | None:
        """Return the commit of HEAD, as it was at the first call; None before the first commit."""
        if self._head is None:
            args = ("rev-parse", "--quiet", "--verify", "HEAD^{commit}")
            self._head = _said(await self.run(*args, ok=(0, 1)))
        return self._head or None

    async def commit(self, message: str, state: State, parent: str | None) -> str:
        """Make a commit of a state; the parent HEAD need not be there yet."""
        said = state.noted(message).encode()
        parents = [("-p", each) for each in (parent, state.raw_commit) if each]
        args = (*chain.from_iterable(parents), "-F", "-", state.tree)
        ok = (0, 128) if parent == HEAD else (0,)
        made = await self.run("commit-tree", *args, stdin=said, ok=ok)
        if made.code:
            return await self.commit(message, state, None)
        return _said(made)

    async def keep(self, ref: str, message: str, state: State, *, parent: str | None = None) -> str:
        """Make a commit of a state, and a ref that keeps it."""
        if not ref.startswith(PREFIX):
            raise ValueError(f"{ref} is no ref of ours")
        commit = await self.commit(message, state, parent or await self.head())
        await self.run("update-ref", "--no-deref", ref, commit)
        return commit


def _said(finished: Finished) -> str:
    return finished.stdout.decode().strip()


@asynccontextmanager
async def copied_index(git: Work) -> AsyncIterator[CopiedIndex]:
    """Copy the index for a while."""
    path = Path(git.repository.git_dir) / f"agentcmd-{new_id()}.index"
    try:
        await asyncio.to_thread(_copy, path)
        yield CopiedIndex(git, str(path))
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


def lines(paths: Iterable[bytes]) -> bytes:
    """Return paths for git's standard input, each ended by a NUL."""
    return b"".join(path + b"\0" for path in paths)


def index_info(wanted: Sequence[Change], nothing: bytes) -> bytes:
    """Say it for `update-index -z --index-info`: what goes first, so that it makes room."""
    return b"".join(
        b"%s %s\t%s\0"
        % ((b"0", nothing, each.path) if each.removed else (each.mode, each.object_id, each.path))
        for each in sorted(wanted, key=lambda each: not each.removed)
    )
