"""Where a clone arrives: in a folder of its own beside its place, put there once it is whole.

So what has to be cleaned up after a failure is always ours alone, whoever died in the middle.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from daemon.core.errors import Conflict
from daemon.core.ids import new_id
from domains.git.desk import Work
from domains.git.traces import has_cloned

UNFINISHED = ".agentcmd-clone-"
"""What the folder's name begins with while git writes it."""

WHOLE = ".agentcmd-whole-"
"""And while its entries are moved to their place."""


class Arrival(NamedTuple):
    """A clone on its way: git writes `folder`, and `target` is where it belongs."""

    folder: Path
    target: Path
    fills: bool
    """Whether the target is there already, and empty."""


@asynccontextmanager
async def arriving(git: Work, path: str | None) -> AsyncIterator[str]:
    """Give the folder to clone into; at the end it is in its place, or nothing of it is left."""
    arrival = await asyncio.to_thread(_prepared, Path(git.root), path)
    await git.claims(str(arrival.folder))
    try:
        yield str(arrival.folder)
        await asyncio.shield(asyncio.to_thread(_settle, arrival))
    except BaseException:
        await asyncio.shield(asyncio.to_thread(_remove, arrival.folder))
        raise


async def has_arrived(git: Work, path: str | None) -> bool:
    """Return whether this operation had its clone in its place before the daemon died."""
    place = Path(git.root, path or "")
    return git.once is not None and await asyncio.to_thread(has_cloned, git.id, place)


def recover_clone(claimed: str) -> None:
    """Remove what a dead daemon's clone has left, or put it in its place if it was whole."""
    folder = Path(claimed)
    if not folder.name.startswith(UNFINISHED):
        return
    whole = _whole(folder)
    if whole.is_dir():
        _move_up(whole)
    _remove(folder)


def _prepared(root: Path, path: str | None) -> Arrival:
    if not root.is_dir():
        raise Conflict(f"the folder {root} is gone; make it again, or remove the project")
    target = root / path if path else root
    fills = os.path.lexists(target)
    if fills and (target.is_symlink() or not target.is_dir() or any(target.iterdir())):
        raise Conflict(f"{path or 'the folder of the project'} is not empty; name another path")
    beside = target if fills else target.parent
    while not beside.is_dir():
        if os.path.lexists(beside):
            raise Conflict(f"{beside.relative_to(root)} is no folder; name another path")
        beside = beside.parent
    if not Path(os.path.realpath(beside)).is_relative_to(os.path.realpath(root)):
        raise Conflict(f"{path} leads out of the project by a link; name another path")
    return Arrival(beside / f"{UNFINISHED}{new_id()}", target, fills)


def _settle(arrival: Arrival) -> None:
    folder, target = arrival.folder, arrival.target
    if arrival.fills:
        others = [entry for entry in target.iterdir() if entry != folder]
        if others:
            raise Conflict(
                f"{others[0].name} came into the folder meanwhile; clone again elsewhere"
            )
        whole = _whole(folder)
        folder.rename(whole)
        _move_up(whole)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        raise Conflict(f"{target.name} was made by somebody meanwhile; name another path")
    folder.rename(target)


def _whole(folder: Path) -> Path:
    return folder.with_name(WHOLE + folder.name.removeprefix(UNFINISHED))


def _move_up(whole: Path) -> None:
    """Move what is in a folder beside it; its `.git` last: without that it is no repository."""
    for entry in sorted(whole.iterdir(), key=lambda entry: entry.name == ".git"):
        if not os.path.lexists(whole.parent / entry.name):
            entry.rename(whole.parent / entry.name)
    _remove(whole)


def _remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
