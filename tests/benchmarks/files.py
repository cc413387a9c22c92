"""The first page of the tree of a repository of 50,000 files, and of a folder with as many."""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fanout import post
from git_files import FILES, git, lags_while, large_repository, timed
from harness import Figure, Inside, daemon, percentile


def run(*, quick: bool) -> Iterator[Figure]:
    """Measure both."""
    rounds = 5 if quick else 20
    with daemon() as inside:
        with large_repository() as folder:
            yield from first_page(inside, folder, f"tree of {FILES} files", rounds)
        with flat_repository() as folder:
            yield from first_page(inside, folder, f"folder of {FILES} files", rounds)


@contextmanager
def flat_repository() -> Iterator[Path]:
    """Make a repository whose files are all in one folder, every second ignored."""
    folder = Path(tempfile.mkdtemp(prefix="agentcmd-benchmark-"))
    try:
        git(folder, "init", "-q", "-b", "main")
        (folder / ".gitignore").write_text("*.o\n")
        for number in range(FILES):
            (folder / f"file{number:05}.{'o' if number % 2 else 'c'}").touch()
        git(folder, "add", "-A")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def first_page(inside: Inside, folder: Path, name: str, rounds: int) -> Iterator[Figure]:
    """Ask for the first page again and again, and see how late the loop is meanwhile."""
    project = post(inside, "/api/projects", {"path": str(folder)})["projectId"]
    page = tree(inside, project)  # the spawner is up, and GitPython is loaded
    took = [timed(lambda: tree(inside, project)) for _ in range(rounds)]
    lags = lags_while(inside, lambda: tree(inside, project), rounds / 5)
    detail = f"{len(page['entries'])} entries over HTTP; max {max(took) * 1000:.0f} ms"
    yield Figure(f"file.tree, {name}", statistics.median(took) * 1000, 300, "ms", detail)
    detail = f"max {max(lags):.0f} ms"
    yield Figure("loop lag p99, file.tree", percentile(lags, 0.99), 30, "ms", detail)


def tree(inside: Inside, project: str) -> Any:
    """Ask for the first page of a project's own folder."""
    request = urllib.request.Request(  # our own URL
        f"{inside.url}/api/files/{project}/tree",
        headers={"Authorization": f"Bearer {inside.token}"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)
