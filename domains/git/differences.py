"""What differs between two snapshots: paths of their trees, and bytes that are kept beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from daemon.core.errand import Finished
from domains.git.raw_files import REGULAR

SUBMODULE = b"160000"
"""The mode of a submodule in a tree."""

NOTHING = b"000000"
"""The mode of what is not there."""

_NOTE = "Raw-files: "
_NONE = "none"


class Runs(Protocol):
    """What runs git: a work, or what runs it with an index of its own."""

    async def run(self, *args: str) -> Finished:
        """Run `git ARGS`."""


class Change(NamedTuple):
    """One path that differs between two snapshots, and what it is in the second.

    `object_id` is what the tree has, `raw` the blob of its bytes where git would write others.
    `old_id` is what the first tree has.
    """

    path: bytes
    old_mode: bytes
    mode: bytes
    object_id: bytes
    raw: bytes = b""
    old_id: bytes = b""

    @classmethod
    def removal(cls, path: bytes) -> Change:
        """Make one of a file that will be gone."""
        return cls(path, b"100644", NOTHING, b"")

    @property
    def removed(self) -> bool:
        """Return whether the second tree lacks it."""
        return self.mode == NOTHING


class State(NamedTuple):
    """A tree, and the files whose bytes git would write otherwise, by their paths.

    `raw` is None where that is not known: in snapshots of earlier versions. `raw_commit` keeps it.
    """

    tree: str
    raw: Mapping[bytes, bytes] | None
    raw_commit: str = ""

    def same(self, other: State) -> bool:
        """Return whether both states have the same files."""
        return (self.tree, self.raw) == (other.tree, other.raw)

    def noted(self, message: str) -> str:
        """Add to the message of a commit of the tree where the bytes are."""
        return f"{message.rstrip()}\n\n{_NOTE}{self.raw_commit or _NONE}\n"


def without_note(message: str) -> str:
    """Return what the message of a snapshot was before it was noted where the bytes are."""
    above, _, last = message.rstrip("\n").rpartition("\n")
    return above.rstrip("\n") if last.startswith(_NOTE) else message.strip("\n")


async def state_of(git: Runs, commit: str) -> State:
    """Return the state that a snapshot holds."""
    said = await git.run("cat-file", "commit", "--end-of-options", commit)
    last = said.stdout.decode(errors="replace").rstrip("\n").rpartition("\n")[2]
    if not last.startswith(_NOTE):
        return State(commit, None)
    raw_commit = last.removeprefix(_NOTE)
    if raw_commit == _NONE:
        return State(commit, {})
    raw = {path: id_ for path, (_, id_) in (await _files(git, raw_commit)).items()}
    return State(commit, raw, raw_commit)


async def differences(git: Runs, old: State, new: State) -> list[Change]:
    """List how one snapshot differs from another."""
    found = {each.path: each for each in await changes(git, old.tree, new.tree)}
    if new.raw is None:
        return list(found.values())
    for path in new.raw.keys() & found.keys():
        if found[path].mode in REGULAR:
            found[path] = found[path]._replace(raw=new.raw[path])
    before = new.raw if old.raw is None else old.raw
    paths = {
        path for path in before.keys() | new.raw.keys() if before.get(path) != new.raw.get(path)
    }
    other = paths - found.keys()
    files = await _files(git, new.tree) if other else {}
    for path in other & files.keys():
        mode, object_id = files[path]
        found[path] = Change(path, mode, mode, object_id, new.raw.get(path, b""))
    return sorted(found.values())


async def changes(git: Runs, old: str, new: str) -> list[Change]:
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
        old_mode, mode, old_id, object_id, _ = said.removeprefix(b":").split(b" ")
        found.append(Change(path, old_mode, mode, object_id, old_id=old_id))
    return found


async def _files(git: Runs, tree: str) -> dict[bytes, tuple[bytes, bytes]]:
    """List the regular files of a tree with their modes and blobs."""
    said = await git.run("ls-tree", "-r", "-z", "--full-tree", "--end-of-options", tree)
    return await asyncio.to_thread(lambda: dict(_regular(said.stdout.split(b"\0")[:-1])))


def _regular(entries: Iterable[bytes]) -> Iterable[tuple[bytes, tuple[bytes, bytes]]]:
    """Read `ls-tree -z`: MODE, TYPE, ID, a tab, the path."""
    for entry in entries:
        about, _, path = entry.partition(b"\t")
        mode, _, object_id = about.split(b" ")
        if mode in REGULAR:
            yield path, (mode, object_id)
