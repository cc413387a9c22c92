"""An operation that changes something ends, whatever lies in the place of what git reads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import pytest
from repositories import Repo, added, ran
from support import processes_with

from daemon.core.errors import Conflict

OPERATIONS = {
    "stage": {"all": True},
    "commit": {"message": "m", "all": True, "author": "Ada <ada@example.org>"},
    "stash_save": {},
    "discard": {"all": True},
}

AT_ONCE = (
    *(".gitignore", ".gitattributes", ".gitmodules", ".mailmap"),
    *(".git/config", ".git/info/exclude", ".git/info/attributes", ".git/index", ".git/HEAD"),
)


@pytest.fixture
async def changed(running, tmp_path):
    """A client, a trusted project, and its repository with a change."""
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "1\n", "sub/b": "1\n"})
    repo.write("a", "changed\n")
    async with running.client() as client:
        project = await added(client, repo.path)
        await client.call("project.trust", {"projectId": project})
        yield client, project, repo


def piped(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)


def nothing_left(repo: Repo) -> bool:
    """Return whether no process is left but looks, which have a time limit of their own."""
    left = set(processes_with(f"GIT_CEILING_DIRECTORIES={repo.path.parent}\0"))
    left -= set(processes_with("GIT_OPTIONAL_LOCKS=0\0"))
    return not left and not list((repo.path / ".git").rglob("*.lock"))


@pytest.mark.parametrize("name", AT_ONCE)
async def test_a_fifo_where_git_reads_a_file_is_refused_at_once(name, changed):
    client, project, repo = changed
    path = repo.path / name
    before = path.read_bytes() if path.exists() else None
    piped(path)
    async with asyncio.timeout(20):
        for operation, args in OPERATIONS.items():
            with pytest.raises(Conflict, match=f"{name}: a FIFO"):
                await ran(client, project, operation, **args)
    assert nothing_left(repo)
    path.unlink()
    if before is not None:
        path.write_bytes(before)
    await ran(client, project, "stage", all=True)
    assert repo.git("diff", "--cached", "--name-only") == "a\n"


@pytest.mark.parametrize("name", ["sub/.gitignore", "sub/.gitattributes"])
async def test_an_operation_that_waits_for_a_fifo_is_ended_and_names_it(name, changed, monkeypatch):
    monkeypatch.setattr("domains.git.work.LOOKED_AFTER", 0.3)
    client, project, repo = changed
    repo.write("sub/b", "changed\n")
    piped(repo.path / name)
    for operation in ("stage", "discard"):
        async with asyncio.timeout(20):
            with pytest.raises(Conflict, match=f"waits for {name}: a FIFO"):
                await ran(client, project, operation, **OPERATIONS[operation])
        assert nothing_left(repo), operation
    (repo.path / name).unlink()
    await ran(client, project, "stage", all=True)


async def test_a_fifo_outside_that_the_users_configuration_names_is_found(
    changed, monkeypatch, tmp_path
):
    monkeypatch.setattr("domains.git.work.LOOKED_AFTER", 0.3)
    client, project, repo = changed
    os.mkfifo(tmp_path / "rules")
    repo.git("config", "core.excludesFile", str(tmp_path / "rules"))
    async with asyncio.timeout(20):
        with pytest.raises(Conflict, match="waits for a file that its configuration names"):
            await ran(client, project, "stage", all=True)
    assert nothing_left(repo)


async def test_a_hook_that_waits_for_a_fifo_of_its_own_is_left_alone(
    changed, monkeypatch, tmp_path
):
    monkeypatch.setattr("domains.git.work.LOOKED_AFTER", 0.1)
    client, project, repo = changed
    os.mkfifo(tmp_path / "pipe")
    hook = repo.write(".git/hooks/pre-commit", f"#!/bin/sh\nread word < {tmp_path}/pipe\n")
    hook.chmod(0o755)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        made = group.create_task(ran(client, project, "commit", **OPERATIONS["commit"]))
        await asyncio.sleep(1)  # ten looks
        assert not made.done()
        (tmp_path / "pipe").write_text("go on\n")
    assert made.result()["commit"]


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_fifo_in_the_place_of_a_file_that_is_committed_holds_nothing_up(operation, changed):
    client, project, repo = changed
    piped(repo.path / "sub/b")
    async with asyncio.timeout(20):
        with contextlib.suppress(Conflict):
            await ran(client, project, operation, **OPERATIONS[operation])
    assert nothing_left(repo)
    (repo.path / "sub/b").unlink(missing_ok=True)
    repo.write("sub/b", "1\n")
    await ran(client, project, "stage", all=True)


async def test_what_blocks_nothing_may_stay(changed, monkeypatch):
    client, project, repo = changed
    (repo.path / ".git/info/attributes").symlink_to(os.devnull)
    monkeypatch.chdir(repo.path / ".git")  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("fsmonitor--daemon.ipc")
    await ran(client, project, "stage", all=True)
    assert repo.git("diff", "--cached", "--name-only") == "a\n"
