"""Status on a repository of 50,000 files, beside `git status --porcelain=v2` itself."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fanout import post
from harness import Figure, Inside, daemon, percentile

FILES = 50_000
IN_A_FOLDER = 100
CHANGED = 500

STATUS = ("git", "status", "--porcelain=v2")

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
}


def run(*, quick: bool) -> Iterator[Figure]:
    """Measure both, in one repository."""
    with large_repository() as folder, daemon() as inside:
        yield from status(inside, folder, rounds=5 if quick else 20)


@contextmanager
def large_repository(files: int = FILES) -> Iterator[Path]:
    """Make a repository of so many files while this is open, with some changed, new and gone."""
    folder = Path(tempfile.mkdtemp(prefix="agentcmd-benchmark-"))
    try:
        build(folder, files)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def build(folder: Path, files: int) -> None:
    """Make a repository by git-fast-import(1), and change a few of its files."""
    git(folder, "init", "-q", "-b", "main")
    (folder / ".git/info/exclude").write_text("*.ignored\n")
    stream = ["commit refs/heads/main\ncommitter Ada <ada@example.org> 1767322000 +0000\ndata 0\n"]
    for number in range(files):
        text = f"file {number}\n"
        stream.append(f"M 100644 inline {path(number)}\ndata {len(text)}\n{text}\n")
    git(folder, "fast-import", "--quiet", stdin="".join(stream).encode())
    git(folder, "reset", "-q", "--hard")
    time.sleep(1.1)  # what has the time of the index is looked into, each time
    git(folder, "status")
    for number in range(0, files, max(1, files // CHANGED)):
        (folder / path(number)).write_text("changed\n")
        (folder / f"{path(number)}.new").write_text("")
        (folder / f"{path(number)}.ignored").write_text("")
    git(folder, "mv", path(1), "renamed.txt")
    (folder / path(2)).unlink()


def path(number: int) -> str:
    """Name a file, two folders deep."""
    folder = number // IN_A_FOLDER
    return f"part{folder // 25:02}/folder{folder % 25:02}/file{number:05}.txt"


def git(folder: Path, *args: str, stdin: bytes = b"") -> bytes:
    """Run git in a repository."""
    done = subprocess.run(
        ["git", "-C", folder, *args], input=stdin, capture_output=True, check=True, env=ENVIRONMENT
    )
    return done.stdout


def status(inside: Inside, folder: Path, rounds: int) -> Iterator[Figure]:
    """Compare the command with the program, in turn, and see how late the loop is meanwhile."""
    project = post(inside, "/api/projects", {"path": str(folder)})["projectId"]
    told = ours(inside, project)  # the spawner is up, and GitPython is loaded
    own, other = [], []
    for _ in range(rounds):
        own.append(timed(lambda: ours(inside, project)))
        other.append(timed(lambda: git(folder, *STATUS[1:])))
    lags = lags_while(inside, lambda: ours(inside, project), rounds / 5)
    idle = lags_while(inside, lambda: git(folder, *STATUS[1:]), rounds / 5)
    medians = [statistics.median(side) for side in (own, other)]
    detail = (
        f"{medians[0] * 1000:.0f} against {medians[1] * 1000:.0f} ms over HTTP; "
        f"{len(told['files'])} files told of {FILES}"
    )
    yield Figure("git.status, 50,000 files", medians[0] / medians[1], 1.3, "of git", detail)
    alone = percentile(idle, 0.99)
    detail = (
        f"max {max(lags):.0f}; of an idle daemon beside that git: p99 {alone:.1f}, "
        f"max {max(idle):.0f} ms"
    )
    yield Figure("loop lag p99, git.status", percentile(lags, 0.99), 30, "ms", detail)


def ours(inside: Inside, project: str) -> Any:
    """Ask for the status, and read the answer."""
    request = urllib.request.Request(  # our own URL
        f"{inside.url}/api/git/{project}/status",
        data=b"{}",
        headers={"Authorization": f"Bearer {inside.token}"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def lags_while(inside: Inside, work: Callable[[], object], seconds: float) -> list[float]:
    """Give the lags of the daemon's loop while something is done again and again."""
    with ThreadPoolExecutor(1) as threads:
        lagging = threads.submit(inside.program.ask, do="lag", seconds=seconds)
        while not lagging.done():
            work()
    lags: list[float] = lagging.result()
    return lags


def timed(work: Callable[[], object]) -> float:
    """Give the seconds that something takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
