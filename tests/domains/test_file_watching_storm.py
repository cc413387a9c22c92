"""The live watcher while very much changes at once: every net change is told, and soon."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from pathlib import Path

import pytest
from repositories import Repo
from watches import ROUND, in_memory, watching


@pytest.fixture
def fast_path(tmp_path):
    with in_memory(tmp_path) as folder:
        yield folder


async def test_twenty_thousand_files_touched_at_random_are_all_told(running, fast_path):
    root = fast_path / "own"
    repo = Repo(root)
    chance = random.Random(7)
    folders = [f"d{n % 20}/e{n}" for n in range(200)]
    for folder in folders:
        (root / folder).mkdir(parents=True)
    for number in range(12_000):
        (root / folders[number % 200] / f"f{number}").write_bytes(b"x")
    repo.write(".gitignore", "*.tmp\n")
    before = tree(root)
    view = await watching(running, root)
    touching = asyncio.to_thread(touch, root, chance, folders)
    last = asyncio.get_running_loop().create_task(touching)
    while not last.done():
        await view.next()
    after = tree(root)
    wanted = net(before, after)

    def told():
        """Tell what the reports come to; a folder made anew is not modified to this test."""
        return {p: c for p, c in view.net.items() if c != "modified" or after.get(p)}

    async with asyncio.timeout(ROUND):
        while told() != wanted:
            await view.next()
    assert not view.overflows
    assert max(len(event["changes"]) for event in view.events) <= 2000


def touch(root: Path, chance: random.Random, folders: list[str]) -> None:
    """Make 20,000 changes of all kinds, as fast as it goes."""
    for number in range(20_000):
        folder = root / chance.choice(folders)
        what = chance.random()
        path = folder / f"f{chance.randrange(12_000)}"
        try:
            if what < 0.35:
                (folder / f"n{number}").write_bytes(b"new")
            elif what < 0.6:
                with path.open("r+b") as file:
                    file.write(b"%d" % number)
            elif what < 0.75:
                path.unlink()
            elif what < 0.85:
                path.rename(root / chance.choice(folders) / f"m{number}")
            elif what < 0.95:
                (folder / f"t{number}.tmp").touch()
            elif what < 0.97:
                (folder / f"deep{number}" / "er").mkdir(parents=True)
                (folder / f"deep{number}" / "er" / "file").touch()
            elif what < 0.975:
                shutil.rmtree(folder)
                folder.mkdir()
            else:
                (folder / f"p{number}").touch()
                (folder / f"p{number}").unlink()
        except FileNotFoundError:
            continue
    (root / "last").touch()


def tree(root: Path) -> dict[str, tuple[int, ...]]:
    """Read a tree independently of what is tested."""
    found = {}
    for place, folders, files in os.walk(root):
        if ".git" in folders:
            folders.remove(".git")
        for name in folders:
            found[os.path.relpath(f"{place}/{name}", root)] = ()
        for name in files:
            if not name.endswith(".tmp"):
                stat = os.lstat(f"{place}/{name}")
                facts = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
                found[os.path.relpath(f"{place}/{name}", root)] = facts
    return found


def net(before, after):
    """Tell the net difference of two trees."""
    changes = dict.fromkeys(before.keys() - after.keys(), "deleted")
    changes |= dict.fromkeys(after.keys() - before.keys(), "added")
    for path in before.keys() & after.keys():
        if before[path] != after[path]:
            changes[path] = "modified"
    return changes
