"""Fixtures of the domains' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
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
