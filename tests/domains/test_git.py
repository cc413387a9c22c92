"""Git operations as such: told, queued, trusted, cancelled, recovered."""

from __future__ import annotations

import asyncio

import pytest
from repositories import Repo, added, ran

from daemon.core.errors import BadRequest, Conflict


async def test_a_folder_becomes_a_repository_and_its_channel_tells_so(running, tmp_path):
    (tmp_path / "own").mkdir()
    async with running.client() as client:
        project = await added(client, tmp_path / "own")
        answer = await client.call("git.run", {"projectId": project, "operation": "init"})
        told = [m async for m in client.history(f"git:project:{project}")]
    assert answer["result"]["summary"]["branch"] == "main"
    assert [m.type for m in told][:2] == ["git.operation.started", "git.operation.completed"]
    assert {m.data["operationId"] for m in told[:2]} == {answer["operationId"]}


async def test_what_is_sent_at_once_is_done_in_the_order_that_it_was_sent(running, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "1\n"})
    author = {"author": "Ada <ada@example.org>"}
    async with running.client() as client:
        project = await added(client, repo.path)
        for number in range(8):
            repo.write("a", f"{number}\n")
            _, committed, branch = await asyncio.gather(
                ran(client, project, "stage", all=True),
                ran(client, project, "commit", message="m", **author),
                ran(client, project, "branch_create", name=f"b{number}"),
            )
            assert branch["commit"] == committed["commit"]


async def test_an_unknown_operation_or_argument_is_told_what_there_is(running, tmp_path):
    Repo(tmp_path / "own")
    async with running.client() as client:
        project = await added(client, tmp_path / "own")
        with pytest.raises(BadRequest, match=r"there is: .*init"):
            await ran(client, project, "frobnicate")
        with pytest.raises(BadRequest, match="args are: branch"):
            await ran(client, project, "init", bare=True)


async def test_what_a_repository_itself_would_run_is_run_only_when_trusted(running, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.git("config", "filter.x.clean", f"touch {tmp_path}/ran")
    async with running.client() as client:
        project = await added(client, repo.path)
        with pytest.raises(Conflict, match="trust"):
            await ran(client, project, "unlock")
        await client.call("project.trust", {"projectId": project})
        assert await ran(client, project, "unlock") == {"removed": []}
