"""Fixtures of the domains' tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from filed import Files
from repositories import Repo, added
from support import Running


@pytest.fixture
async def files(running: Running, tmp_path: Path) -> AsyncIterator[Files]:
    """The files of a project in a repository."""
    repo = Repo(tmp_path / "own")
    async with running.client() as client:
        yield Files(client, await added(client, repo.path), repo.path)


@pytest.fixture
async def plain(running: Running, tmp_path: Path) -> AsyncIterator[Files]:
    """The files of a project in a folder that is no repository."""
    (tmp_path / "own").mkdir()
    async with running.client() as client:
        yield Files(client, await added(client, tmp_path / "own"), tmp_path / "own")


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """Return a folder of a user whom permissions hold for; root is another one meanwhile."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    own, nobody = os.geteuid(), 65534
    if own == 0:
        os.chown(folder, nobody, nobody)
        os.seteuid(nobody)
    try:
        yield folder
    finally:
        os.seteuid(own)
        for path, _, _ in os.walk(folder):
            Path(path).chmod(0o700)
        shutil.rmtree(folder)


@pytest.fixture
async def trusted(running, tmp_path):
    """A client, a trusted project, and its repository with one commit."""
    repo = Repo(tmp_path / "own")
    repo.commit({"a.txt": "1\n"})
    async with running.client() as client:
        project = await added(client, repo.path)
        await client.call("project.trust", {"projectId": project})
        yield client, project, repo
