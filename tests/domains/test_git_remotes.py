"""Git with other repositories: cloned, fetched, pulled, pushed, cancelled in the middle."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from git_servers import git_daemon, http_server
from repositories import ENVIRONMENT, Repo, added, ran
from support import processes_with, until

from daemon.core.errand import Finished
from daemon.core.errors import BadRequest, Conflict, NotFound, Unavailable
from domains.git.failures import explained


def remote(folder: Path, *, commits: int = 3) -> Repo:
    """Make a bare repository that others clone and push to."""
    repo = Repo(folder, bare=True)
    repo.git("config", "http.receivepack", "true")
    repo.grow(commits)
    return repo


def large(folder: Path, *, files: int = 60) -> Repo:
    """Make one of some MB that does not shrink, with many files."""
    work = Repo(folder / "made")
    for number in range(files):
        work.write(f"folder{number % 20}/{number}.bin", os.urandom(40_000))
    work.commit(message="large")
    bare = Repo(folder / "large.git", bare=True)
    work.git("push", "-q", str(bare.path), "main")
    return bare


def amended(repo: Repo, message: str) -> None:
    """Write the last commit anew, at the present time: git looks what came after a push."""
    now = {name: value for name, value in ENVIRONMENT.items() if not name.endswith("_DATE")}
    argv = ["git", "-C", str(repo.path), "commit", "-q", "--amend", "-m", message]
    subprocess.run(argv, env=now, check=True)


async def told(client: Any, project: str) -> list[Any]:
    return [m async for m in client.history(f"git:project:{project}")]


async def test_a_clone_tells_its_progress_and_fills_an_empty_project(running, tmp_path):
    remote(tmp_path / "served" / "shop.git", commits=300)
    (tmp_path / "own").mkdir()
    async with running.client() as client, http_server(tmp_path / "served") as server:
        project = await added(client, tmp_path / "own")
        url = f"{server.url}/shop.git"
        answer = await ran(client, project, "clone", url=url)
        assert answer["branch"] == "main"
        events = await told(client, project)
        stages = {m.data["stage"] for m in events if m.type == "git.operation.progress"}
        assert {"Receiving objects", "Resolving deltas", "Counting objects"} & stages
        assert events[0].type == "git.operation.started"
        assert (tmp_path / "own" / "grown" / "0.txt").exists()
        answer = await ran(
            client, project, "clone", url=url, path="sub/copy", branch="main", depth=1
        )
        assert answer["path"] == "sub/copy"
        copy = tmp_path / "own" / "sub" / "copy"
        assert (copy / "grown" / "0.txt").exists()
        assert (copy / ".git" / "shallow").exists()
        with pytest.raises(Conflict, match="not empty"):
            await ran(client, project, "clone", url=url, path="sub")
        with pytest.raises(NotFound, match="no repository"):
            await ran(client, project, "clone", url=f"{server.url}/none.git", path="x")
        with pytest.raises(NotFound, match="no such revision"):
            await ran(client, project, "clone", url=url, path="x/y", branch="none")
        assert not (tmp_path / "own" / "x").exists()
        assert not list((tmp_path / "own").rglob(".agentcmd*"))


async def test_what_is_rejected_is_told_and_replaced_only_with_a_lease(running, tmp_path):
    served = remote(tmp_path / "served" / "shop.git")
    async with running.client() as client, git_daemon(tmp_path / "served") as url:
        (tmp_path / "own").mkdir()
        project = await added(client, tmp_path / "own")
        await ran(client, project, "clone", url=f"{url}/shop.git")
        own = Repo(tmp_path / "own")
        own.git("config", "user.name", "Ada")
        first = own.commit({"a.txt": "one\n"})
        pushed = await ran(client, project, "push")
        assert [ref["state"] for ref in pushed["refs"]] == ["pushed"]
        pushed = await ran(client, project, "push")
        assert [ref["state"] for ref in pushed["refs"]] == ["up_to_date"]
        own.git("branch", "topic")
        pushed = await ran(client, project, "push", branch="topic", setUpstream=True)
        assert [ref["state"] for ref in pushed["refs"]] == ["created"]
        assert own.git("config", "branch.topic.merge").strip() == "refs/heads/topic"

        amended(own, "another")
        with pytest.raises(Conflict, match="pull first") as caught:
            await ran(client, project, "push")
        assert caught.value.details["refs"][0]["state"] == "rejected"
        with pytest.raises(Conflict, match="not where it was expected"):
            await ran(client, project, "push", forceWithLease="1" * 40)
        assert served.git("rev-parse", "main").strip() == first
        pushed = await ran(client, project, "push", forceWithLease=True)
        assert [ref["state"] for ref in pushed["refs"]] == ["forced"]
        second = own.git("rev-parse", "HEAD").strip()
        assert served.git("rev-parse", "main").strip() == second
        amended(own, "a third")
        await ran(client, project, "push", forceWithLease=second)
        with pytest.raises(BadRequest):
            await ran(client, project, "push", forceWithLease="main")
        with pytest.raises(NotFound, match="no remote upstream"):
            await ran(client, project, "push", remote="upstream")
        with pytest.raises(NotFound, match="no such revision"):
            await ran(client, project, "push", branch="none")


async def test_what_came_is_fetched_pulled_and_told_of_where_it_conflicts(running, tmp_path):
    served = remote(tmp_path / "shop.git")
    other = Repo(tmp_path / "other")
    other.git("remote", "add", "origin", str(served.path))
    other.git("pull", "-q", "origin", "main")
    (tmp_path / "own").mkdir()
    async with running.client() as client:
        project = await added(client, tmp_path / "own")
        await ran(client, project, "clone", url=str(served.path))
        own = Repo(tmp_path / "own")
        for key, value in {"user.name": "Ada", "user.email": "ada@example.org"}.items():
            own.git("config", key, value)
        new = other.commit({"b.txt": "theirs\n"})
        other.git("tag", "v1")
        other.git("push", "-q", "origin", "main", "main:topic", "v1")
        fetched = await ran(client, project, "fetch")
        refs = {each["ref"]: each for each in fetched["updated"]}
        assert refs["refs/remotes/origin/main"]["after"] == new
        assert "before" not in refs["refs/remotes/origin/topic"]
        assert fetched["updatedCount"] == 3
        pulled = await ran(client, project, "pull")
        assert pulled["fastForward"]
        assert pulled["summary"]["head"] == new
        assert (await ran(client, project, "pull"))["upToDate"]

        own.commit({"b.txt": "ours\n"})
        other.commit({"c.txt": "more\n"})
        other.git("push", "-q", "origin", "main", ":topic")
        with pytest.raises(Conflict, match="rebase"):
            await ran(client, project, "pull")
        with pytest.raises(Conflict, match="ffOnly"):
            await ran(client, project, "pull", ffOnly=True)
        pulled = await ran(client, project, "pull", rebase=True)
        assert pulled["rebased"]
        assert pulled["summary"]["ahead"] == 1
        fetched = await ran(client, project, "fetch", remote="origin", branch="main", prune=True)
        assert fetched["updated"] == []
        fetched = await ran(client, project, "fetch", prune=True)
        assert [each["ref"] for each in fetched["updated"]] == ["refs/remotes/origin/topic"]

        other.commit({"b.txt": "theirs again\n"})
        other.git("push", "-q", "origin", "main")
        with pytest.raises(Conflict, match=r"conflicts in b\.txt"):
            await ran(client, project, "pull", remote="origin", branch="main", rebase=False)
        assert (tmp_path / "own" / ".git" / "MERGE_HEAD").exists()
        with pytest.raises(Conflict, match="under way"):
            await ran(client, project, "pull")


async def test_remotes_are_set_and_asked_and_garbage_is_collected(running, tmp_path):
    served = remote(tmp_path / "shop.git")
    served.git("tag", "-a", "v1", "-m", "one", "main")
    own = Repo(tmp_path / "own")
    own.grow(20)
    async with running.client() as client:
        project = await added(client, own.path)
        with pytest.raises(Conflict, match="no remote"):
            await ran(client, project, "fetch")
        url = f"file://{served.path}"
        assert await ran(client, project, "remote_add", name="shop", url=str(served.path)) == {
            "name": "shop",
            "url": url,
        }
        refs = await ran(client, project, "ls_remote")
        main = served.git("rev-parse", "main").strip()
        assert refs["head"] == "main"
        assert refs["refs"] == [
            {"ref": "refs/heads/main", "commit": main},
            {"ref": "refs/tags/v1", "commit": main},
        ]
        assert (await ran(client, project, "ls_remote", url=url, limit=1))["truncated"]
        await ran(client, project, "remote_set_url", name="shop", url="git@example.org:x.git")
        assert own.git("remote", "get-url", "shop").strip() == "git@example.org:x.git"
        with pytest.raises(Conflict, match="remote_set_url"):
            await ran(client, project, "remote_add", name="shop", url=url)
        await ran(client, project, "remote_remove", name="shop")
        with pytest.raises(NotFound, match="no remote"):
            await ran(client, project, "remote_remove", name="shop")
        own.commit({"loose.txt": "x"})
        collected = await ran(client, project, "gc")
        assert collected["loose"] == 0
        assert collected["packs"] == 1


async def test_a_remote_that_wants_a_password_is_said_to_and_nothing_of_it_is_shown(
    running, tmp_path
):
    remote(tmp_path / "served" / "shop.git")
    (tmp_path / "own").mkdir()
    async with running.client() as client, http_server(tmp_path / "served") as server:
        server.authorised = False
        project = await added(client, tmp_path / "own")
        with pytest.raises(Unavailable, match="credential helper"):
            async with asyncio.timeout(30):
                await ran(client, project, "clone", url=f"{server.url}/shop.git")
        own = Repo(tmp_path / "own")
        secret = "tr0ub4dor"
        own.git(
            "remote", "add", "origin", server.url.replace("//", f"//ada:{secret}@") + "/shop.git"
        )
        for operation in ("fetch", "ls_remote"):
            with pytest.raises(Unavailable) as caught:
                await ran(client, project, operation)
            assert secret not in repr((caught.value.message, caught.value.details))
        server.authorised = True
        answers = [await ran(client, project, "fetch")]
        answers.append(await ran(client, project, "pull", remote="origin", branch="main"))
        events = [m.data for m in await told(client, project)]
        assert secret not in repr((answers, events))
        assert secret not in repr([r async for r in client.history(f"project:{project}")])


async def ended(client: Any, project: str, operation: str) -> Any:
    """Give the last word on an operation."""
    async with asyncio.timeout(30):
        async for message in client.subscribe(f"git:project:{project}", since=0):
            if message.type == "git.operation.failed" and message.data["operationId"] == operation:
                return message.data
    return None


async def test_a_clone_is_cancelled_while_it_receives_and_nothing_is_left(running, tmp_path):
    large(tmp_path / "served")
    own = tmp_path / "own"
    own.mkdir()
    async with running.client() as client, http_server(tmp_path / "served") as server:
        project = await added(client, own)
        for path in (None, "sub"):
            server.stop_after(1 << 20)
            args = {"url": f"{server.url}/large.git"} | ({"path": path} if path else {})
            given = {"projectId": project, "operation": "clone", "args": args}
            id_ = f"clone-{path}"
            clone = asyncio.create_task(client.call("git.run", {**given, "operationId": id_}))
            await asyncio.wait_for(server.sent.wait(), 30)
            await until(lambda: any(own.rglob("tmp_pack_*")))
            await client.call("task.cancel", {"taskId": id_})
            with pytest.raises(Conflict, match="cancelled"):
                await clone
            failed = await ended(client, project, id_)
            assert failed["code"] == "cancelled"
            assert list(own.iterdir()) == []
            server.go_on()
        Repo(own).git("remote", "add", "origin", f"{server.url}/large.git")
        Repo(own).git("config", "fetch.unpackLimit", "1")
        server.stop_after(1 << 20)
        given = {"projectId": project, "operation": "fetch", "operationId": "fetch"}
        fetch = asyncio.create_task(client.call("git.run", given))
        await asyncio.wait_for(server.sent.wait(), 30)
        await until(lambda: any(own.rglob("tmp_pack_*")))
        await client.call("task.kill", {"taskId": "fetch"})
        with pytest.raises(Conflict, match="cancelled"):
            await fetch
        assert not [*own.rglob("*.lock"), *own.rglob("tmp_*")]
        server.go_on()
        assert processes_with(str(own)) == []
        assert (await client.call("git.list", {}))["operations"] == []


async def test_a_clone_that_has_to_be_killed_while_it_writes_files_leaves_nothing(
    running, tmp_path
):
    served = large(tmp_path / "served", files=20)
    work = tmp_path / "served" / "made"
    (work / ".gitattributes").write_text("*.bin filter=slow\n")
    Repo(work).commit(message="slow")
    Repo(work).git("push", "-q", str(served.path), "main")
    home = tmp_path / "home"
    home.mkdir()
    marker = tmp_path / "checkout"
    (home / ".gitconfig").write_text(
        f'[filter "slow"]\n\tsmudge = "trap \'\' TERM; touch {marker}; sleep 30"\n'
    )
    own = tmp_path / "own"
    own.mkdir()
    before = os.environ.get("HOME", "")
    os.environ["HOME"] = str(home)
    try:
        async with running.client() as client:
            project = await added(client, own)
            given = {"projectId": project, "operation": "clone", "operationId": "killed"}
            args = {"url": str(served.path)}
            clone = asyncio.create_task(client.call("git.run", {**given, "args": args}))
            await until(marker.exists)
            await client.call("task.kill", {"taskId": "killed"})
            with pytest.raises(Conflict, match="cancelled"):
                await clone
            assert (await ended(client, project, "killed"))["code"] == "cancelled"
    finally:
        os.environ["HOME"] = before
    assert list(own.iterdir()) == []
    assert processes_with(str(own)) == []


async def test_a_daemon_killed_in_the_middle_of_a_clone_cleans_up_at_its_next_start(
    daemon_process, tmp_path
):
    large(tmp_path / "served")
    own = tmp_path / "own"
    own.mkdir()
    daemon_process.start()
    async with http_server(tmp_path / "served") as server:
        async with daemon_process.client() as client:
            project = await added(client, own)
            server.stop_after(1 << 20)
            args = {"url": f"{server.url}/large.git"}
            given = {"projectId": project, "operation": "clone", "args": args}
            clone = asyncio.create_task(client.call("git.run", {**given, "operationId": "lost"}))
            await asyncio.wait_for(server.sent.wait(), 30)
            await until(lambda: any(own.rglob("tmp_pack_*")))
            await asyncio.to_thread(daemon_process.kill)
            clone.cancel()
        server.go_on()
        await asyncio.to_thread(daemon_process.start)
        async with daemon_process.client() as client:
            failed = await ended(client, project, "lost")
            assert failed["code"] == "lost"
            assert list(own.iterdir()) == []
            await ran(client, project, "clone", url=f"{server.url}/large.git")


async def test_a_folder_of_this_machine_is_for_those_who_may_use_any(running, tmp_path):
    for name in ("own", "secret"):
        Repo(tmp_path / name).commit({"a": "one\n"})
    async with running.client() as client:
        project = await added(client, tmp_path / "own")
    scope = f"read:git:project:{project} write:git:project:{project}"
    socket = await running.ws(token=running.token(scope=scope))
    for address in (str(tmp_path / "secret"), f"file://{tmp_path}/secret"):
        for operation, args in (
            ("clone", {"path": "stolen"}),
            ("ls_remote", {}),
            ("remote_add", {"name": "secret"}),
            ("remote_set_url", {"name": "secret"}),
        ):
            answer = await socket.call(
                f"git.{operation}", {"projectId": project, "url": address, **args}
            )
            assert answer["data"]["code"] == "forbidden", answer
    assert not (tmp_path / "own" / "stolen").exists()


@pytest.mark.parametrize(
    "why",
    [
        "Failed to connect to host port 1 after 0 ms: Couldn't connect to server",
        "Failed to connect to host port 443: Connection refused",
        "Could not resolve host: host",
    ],
)
async def test_a_remote_that_cannot_be_reached_is_no_conflict(why):
    said = f"fatal: unable to access 'https://ada@host/x/': {why}\n"
    error = await explained(("clone",), Finished(128, b"", said), None)
    assert isinstance(error, Unavailable)
    assert "cannot be reached" in error.message
    assert "ada" not in error.message + error.details["git"]
