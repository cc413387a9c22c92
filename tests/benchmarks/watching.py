"""The file watcher on a large repository: how soon it tells, its memory, how late the loop is."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
from fanout import post
from harness import PYTHON, Figure, Inside, daemon, percentile, resident

FILES = 20_000
FOLDERS = 1000
IGNORED = 20_000
ENOUGH = 60.0
"""Seconds after which what has not been told is missing."""


class Seen(NamedTuple):
    """What one run saw."""

    arming: float
    last: float
    missing: int
    overflows: int
    lags: list[float]
    held: int
    after: int


def run(*, quick: bool) -> Iterator[Figure]:
    """Measure on a tree of its own."""
    files = FILES // 4 if quick else FILES
    with tempfile.TemporaryDirectory(prefix="agentcmd-benchmark-") as folder:
        root = Path(folder)
        make(root, files)
        with daemon() as inside:
            seen = asyncio.run(touched(inside, root, files))
    of = f"{files} files touched, {IGNORED} ignored beside them"
    missing = f"{seen.missing} missing, {seen.overflows} overflows"
    yield Figure("watch armed", seen.arming, 3, "s", f"{files} files in {FOLDERS} folders")
    yield Figure("last change told", seen.last, 2, "s", f"after the end of {of}; {missing}")
    yield Figure("memory of a watch", seen.held / 1e6, 40, "MB", "once armed, with watchfiles")
    yield Figure("the same after all that", seen.after / 1e6, 80, "MB", "")
    p50, worst = percentile(seen.lags, 0.5), max(seen.lags)
    detail = f"p50 {p50:.1f}, max {worst:.0f}, while they change"
    yield Figure("loop lag p99, watching", percentile(seen.lags, 0.99), 30, "ms", detail)


def make(root: Path, files: int) -> None:
    """Make a repository, with a large folder that git ignores."""
    subprocess.run(["git", "init", "-q", root], check=True)
    (root / ".gitignore").write_text("node_modules/\n")
    for number in range(FOLDERS):
        (root / f"d{number % 40}" / f"e{number}").mkdir(parents=True)
    for number in range(files):
        place(root, number).write_text("")
    for number in range(IGNORED // 10):
        (root / "node_modules" / f"p{number}").mkdir(parents=True)
        for each in range(10):
            (root / "node_modules" / f"p{number}" / f"{each}.js").touch()


def place(root: Path, number: int) -> Path:
    """Give the path of one file."""
    folder = number % FOLDERS
    return root / f"d{folder % 40}" / f"e{folder}" / f"f{number}"


def plan(root: Path, files: int) -> dict[str, str]:
    """Tell what the changes come to: `touch` makes them."""
    wanted = {}
    for number in range(files):
        path = str(place(root, number).relative_to(root))
        what = number % 20
        if what < 10:
            wanted[path] = "modified"
        elif what < 14:
            wanted[path] = "deleted"
        elif what < 17:
            wanted |= {path: "deleted", f"{path}-renamed": "added"}
        else:
            wanted[f"{path}-new"] = "added"
    return wanted


def touch(root: Path, files: int) -> None:
    """Touch each file, in no order, as fast as it goes."""
    numbers = list(range(files))
    random.Random(1).shuffle(numbers)
    for number in numbers:
        path = place(root, number)
        what = number % 20
        if what < 10:
            path.write_text("changed")
        elif what < 14:
            path.unlink()
        elif what < 17:
            path.rename(f"{path}-renamed")
        else:
            Path(f"{path}-new").touch()


async def touched(inside: Inside, root: Path, files: int) -> Seen:
    """Watch, have all files touched by another process, and take the reports."""
    project = post(inside, "/api/projects", {"path": str(root)})["projectId"]
    before = resident(inside.program.pid)
    headers = {"Authorization": f"Bearer {inside.token}"}
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{inside.url}/ws", headers=headers, max_msg_size=0) as ws,
    ):
        await ws.send_json({"type": "subscribe", "channel": f"file:project:{project}"})
        began = time.perf_counter()
        await ws.send_json({"type": "file.watch", "data": {"projectId": project}})
        while (await ws.receive_json())["type"] != "file.watch.ok":
            continue
        arming = time.perf_counter() - began
        await asyncio.sleep(1)
        held = resident(inside.program.pid) - before
        lagging = asyncio.to_thread(inside.program.ask, do="lag", seconds=4)
        lags = asyncio.ensure_future(lagging)
        child = await asyncio.create_subprocess_exec(
            PYTHON, __file__, str(root), str(files), stdout=subprocess.DEVNULL
        )
        wanted, told, overflows = plan(root, files), {}, 0
        ends: list[float] = []
        ended = asyncio.ensure_future(child.wait())
        ended.add_done_callback(lambda _: ends.append(time.perf_counter()))
        last = 0.0
        try:
            async with asyncio.timeout(ENOUGH):
                while told != wanted:
                    data = (await ws.receive_json())["data"]
                    overflows += data.get("overflow", False)
                    for each in data["changes"]:
                        if each["change"] != "modified" or each["path"] not in told:
                            told[each["path"]] = each["change"]
                    last = time.perf_counter()
        except TimeoutError:
            last = float("inf")
        await ended
        await asyncio.sleep(0)
        after = resident(inside.program.pid) - before
        missing = len(wanted.keys() - told.keys())
        return Seen(arming, last - ends[0], missing, overflows, await lags, held, after)


if __name__ == "__main__":
    touch(Path(sys.argv[1]), int(sys.argv[2]))
