"""Worktrees: added in the daemon's own folder, removed only where nothing would be lost."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from repositories import Repo, added, ran
from support import until

from daemon.core.errors import BadRequest, Conflict, NotFound
from domains.git.worktree_listing import Listed, parse_worktrees


def made(path):
    """Make a repository with an identity of its own, and one commit."""
    repo = Repo(path)
    repo.git("config", "user.name", "Ada")
    repo.git("config", "user.email", "ada@example.org")
    repo.commit({"a": "1\n"}, "first")
    return repo


class At(Repo):
    """A work tree that was made elsewhere."""

    def __init__(self, path):
        self.path = Path(path)


@contextmanager
def somebody(path):
    """Have a process work in a folder for a while."""
    process = subprocess.Popen(["sleep", "60"], cwd=path)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def branches(repo):
    return repo.git("for-each-ref", "--format=%(refname:short)", "refs/heads").split()


async def refused(awaited, kind=Conflict):
    with pytest.raises(kind) as caught:
        await awaited
    return caught.value


async def listed(client, project, **args):
    answer = await ran(client, project, "worktree_list", details=True, **args)
    return {Path(each["path"]).name: each for each in answer["worktrees"]}


async def test_a_worktree_is_removed_when_nothing_is_lost_or_by_force(running, tmp_path):
    repo = made(tmp_path / "own")
    async with running.client() as client:
        project = await added(client, repo.path)

        async def removed(**args):
            return await ran(client, project, "worktree_remove", **args)

        answer = await ran(client, project, "worktree_add", name="one", branch="fix/one")
        folder = running.daemon.state_dir.resolve() / "worktrees" / project
        head = repo.git("rev-parse", "HEAD").strip()
        own = {"path": str(folder / "one"), "name": "one", "branch": "fix/one", "head": head}
        assert answer == {"worktree": own, "new": True}
        found = await listed(client, project)
        assert found == {
            "own": {
                "path": str(repo.path),
                "branch": "main",
                "head": head,
                "main": True,
                "current": True,
                "clean": True,
                "merged": True,
            },
            "one": {**own, "clean": True, "merged": True},
        }
        page = await ran(client, project, "worktree_list", offset=1, limit=1)
        assert page == {"worktrees": [own], "total": 2}

        tree = At(folder / "one")
        with somebody(tree.path) as pid:
            seen = (await listed(client, project))["one"]
            assert seen["processes"] == [f"sleep (pid {pid})"]
            for force in (False, True):
                error = await refused(removed(name="one", force=force))
                assert f"sleep (pid {pid}) works in it" in error.message
        tree.write("new", "1\n")
        assert "not committed" in (await refused(removed(name="one"))).message
        assert (await listed(client, project))["one"]["clean"] is False
        tree.commit({}, "its own")
        error = await refused(removed(path=str(tree.path)))
        assert "commits that are on no other branch" in error.message
        assert (await listed(client, project))["one"]["merged"] is False
        assert tree.path.exists()
        gone = await removed(name="one", force=True, deleteBranch=True)
        assert gone == {"path": own["path"], "branch": "fix/one", "branchDeleted": True}
        assert not tree.path.exists()
        assert branches(repo) == ["main"]
        assert "there is no worktree" in (await refused(removed(name="one"), NotFound)).message


async def test_a_worktree_stays_for_what_it_alone_has_and_goes_once_it_is_merged(running, tmp_path):
    repo = made(tmp_path / "own")
    async with running.client() as client:
        project = await added(client, repo.path)
        folder = running.daemon.state_dir.resolve() / "worktrees" / project

        async def removed(**args):
            return await ran(client, project, "worktree_remove", **args)

        odd = "line\u2028\u0085separated"  # which a branch may be called
        await ran(client, project, "worktree_add", name="odd", branch=odd)
        At(folder / "odd").commit({"b": "2\n"}, "its own")
        seen = (await listed(client, project))["odd"]
        assert (seen["branch"], seen["merged"]) == (odd, False)
        assert "no other branch" in (await refused(removed(name="odd"))).message
        await removed(name="odd", force=True, deleteBranch=True)

        await ran(client, project, "worktree_add", name="two", start="HEAD")
        At(folder / "two").commit({"b": "2\n"}, "its own")
        repo.git("merge", "-q", "two")
        gone = await removed(name="two")
        assert gone == {"path": str(folder / "two"), "branch": "two"}
        assert branches(repo) == ["main", "two"]
        again = await ran(client, project, "worktree_add", name="two")
        assert again["new"] is False
        repo.git("worktree", "lock", "--reason", "on a stick", str(folder / "two"))
        error = await refused(removed(name="two", deleteBranch=True))
        assert "it is locked: on a stick" in error.message
        found = (await listed(client, project))["two"]
        assert (found["locked"], found["lockReason"]) == (True, "on a stick")
        (folder / "two/.git").unlink()  # as one that was half removed
        gone = await removed(name="two", force=True, deleteBranch=True)
        assert gone["branchDeleted"] is True
        assert not (folder / "two").exists()
        assert branches(repo) == ["main"]


async def test_a_worktree_is_named_by_one_segment_and_stands_on_a_branch(running, tmp_path):
    empty, repo = Repo(tmp_path / "empty"), made(tmp_path / "own")
    repo.git("branch", "there")
    async with running.client() as client:
        project = await added(client, repo.path)

        async def add(**args):
            return await ran(client, project, "worktree_add", **args)

        for name in ("", "..", "../x", "a/b", "-b", "/tmp/x", ".git", "a\n", "x" * 101):
            await refused(add(name=name, branch="x"), BadRequest)
        for branch in ("-x", "a..b", "a b", ""):
            await refused(add(name="x", branch=branch), BadRequest)
        await refused(add(name="x", start="--detach"), BadRequest)
        await refused(add(name="x", start="nowhere"), NotFound)
        assert (
            "leave out start"
            in (await refused(add(name="x", branch="there", start="main"))).message
        )
        assert "already checked out" in (await refused(add(name="x", branch="main"))).message
        assert branches(repo) == ["main", "there"]
        assert len(await listed(client, project)) == 1

        await add(name="x", branch="there")
        assert "there is a worktree x already" in (await refused(add(name="x"))).message
        for args in ({}, {"name": "x", "path": "/x"}):
            await refused(ran(client, project, "worktree_remove", **args), BadRequest)
        for path in (str(repo.path), str(repo.path / "..")):
            await refused(
                ran(client, project, "worktree_remove", path=path, force=True),
                (Conflict, NotFound),
            )
        assert repo.path.exists()
        unborn = await added(client, empty.path)
        error = await refused(ran(client, unborn, "worktree_add", name="x"))
        assert "there is no commit yet" in error.message


async def test_a_listed_folder_of_another_repository_is_neither_read_nor_removed(running, tmp_path):
    repo, other = made(tmp_path / "own"), made(tmp_path / "other")
    repo.git("worktree", "add", "-q", str(tmp_path / "fake"))
    (repo.path / ".git/worktrees/fake/gitdir").write_text(f"{other.path}/.git\n")
    async with running.client() as client:
        project = await added(client, repo.path)
        found = (await listed(client, project))["other"]
        assert "clean" not in found
        error = await refused(ran(client, project, "worktree_remove", path=str(other.path)))
        assert "belongs to another repository" in error.message
        await refused(ran(client, project, "worktree_remove", path=str(other.path), force=True))
    assert (other.path / "a").read_text() == "1\n"


async def test_what_a_worktree_itself_would_run_is_not_run_to_look_into_it(running, tmp_path):
    repo = made(tmp_path / "own")
    repo.write(".gitattributes", "* filter=x\n")
    repo.commit({}, "attributes")
    async with running.client() as client:
        project = await added(client, repo.path)
        answer = await ran(client, project, "worktree_add", name="one")
        tree = At(answer["worktree"]["path"])
        repo.git("config", "extensions.worktreeConfig", "true")
        tree.git("config", "--worktree", "filter.x.clean", f"touch {tmp_path}/ran")
        tree.write("a", "2\n")
        assert "clean" not in (await listed(client, project))["one"]
        error = await refused(ran(client, project, "worktree_remove", name="one"))
        assert "trust the project" in error.message
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("way", ["git.cancel", "task.cancel"])
async def test_adding_a_worktree_can_be_cancelled_and_leaves_nothing(running, tmp_path, way):
    repo = made(tmp_path / "own")
    pid = tmp_path / "pid"
    hook = repo.write(".git/hooks/post-checkout", f"#!/bin/sh\necho $$ >{pid}\nexec sleep 60\n")
    hook.chmod(0o755)
    async with running.client() as client:
        project = await added(client, repo.path)
        await client.call("project.trust", {"projectId": project})
        data = {
            "projectId": project,
            "operation": "worktree_add",
            "operationId": "mine",
            "args": {"name": "one"},
        }
        adding = asyncio.ensure_future(client.call("git.run", data))
        await until(lambda: pid.exists() and pid.read_text().strip())
        own = {"taskId": "mine"}
        if way == "git.cancel":
            own = {"projectId": project, "operationId": "mine"}
        await client.call(way, own)
        assert "cancelled" in (await refused(adding)).message
        assert list(await listed(client, project)) == ["own"]
    assert branches(repo) == ["main"]
    assert not (running.daemon.state_dir / "worktrees" / project / "one").exists()
    assert list((repo.path / ".git").rglob("*.lock")) == []


async def test_a_session_has_a_worktree_that_goes_when_nobody_needs_it(
    running, tmp_path, monkeypatch
):
    repo = made(tmp_path / "own")
    worktrees = running.daemon._dispatcher._handlers["git.worktree_list"].__self__
    async with running.client() as client:
        project = await added(client, repo.path)

        async def begin(name="s1", start=None):
            return await worktrees.add_for(project, name, f"agentcmd/{name}", start)

        path, branch = await begin()
        assert branch == "agentcmd/s1"
        assert At(path).git("symbolic-ref", "HEAD").strip() == "refs/heads/agentcmd/s1"
        assert "already" in (await refused(begin())).message
        assert await worktrees.remove_unneeded(project, path, branch) is None
        assert not Path(path).exists()
        assert branches(repo) == ["main"]
        assert await worktrees.remove_unneeded(project, path, branch) is None

        path, branch = await begin()
        At(path).write("new")
        left = await worktrees.remove_unneeded(project, path, branch)
        assert left == "it has changes or files that are not committed"
        At(path).commit({}, "its own")
        left = await worktrees.remove_unneeded(project, path, branch)
        assert left == "it has commits that are on no other branch; merge or push them"
        repo.git("merge", "-q", branch)
        with somebody(path) as pid, monkeypatch.context() as patched:
            patched.setattr("domains.git.worktrees.PATIENCE", 0.2)
            left = await worktrees.remove_unneeded(project, path, branch)
            assert left == f"sleep (pid {pid}) works in it"
        process = subprocess.Popen(["sleep", "0.3"], cwd=path)
        assert await worktrees.remove_unneeded(project, path, branch) is None
        process.wait()
        assert branches(repo) == ["main"]

        own = await worktrees.remove_unneeded(project, str(repo.path), "main")
        assert own == "it is the repository's own work tree"
        repo.write("a", "2\n")
        await worktrees.branch_for(project, "agentcmd/s2")
        assert repo.git("symbolic-ref", "HEAD").strip() == "refs/heads/agentcmd/s2"
        assert repo.git("status", "--porcelain") == " M a\n"
        await refused(worktrees.branch_for(project, "main"))
        told = [m.type async for m in client.history(f"git:project:{project}")]
    assert set(told) <= {"git.status.changed"}


def test_a_list_of_worktrees_is_read_field_by_field():
    output = (
        b"worktree /own\0HEAD " + b"a" * 40 + b"\0branch refs/heads/main\0\0"
        b"worktree /b\nc\xff\0HEAD " + b"0" * 40 + b"\0detached\0locked\0prunable it is gone\0\0"
        b"worktree /bare\0bare\0\0"
    )
    assert parse_worktrees(output) == [
        Listed("/own", "a" * 40, "main"),
        Listed("/b\nc\udcff", None, None, "", "it is gone"),
        Listed("/bare"),
    ]
    lines = b"worktree /own\nHEAD " + b"a" * 40 + b"\ndetached\nlocked why\n\n"
    assert parse_worktrees(lines, b"\n") == [Listed("/own", "a" * 40, None, "why")]


async def test_git_and_all_that_runs_go_into_another_work_tree_by_its_name(running, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "one\n"})
    Repo(tmp_path / "other").commit({"b": "two\n"})
    async with running.client() as client:
        project = await added(client, repo.path)
        made = await ran(client, project, "worktree_add", name="topic")
        path = Path(made["worktree"]["path"])
        (path / "new").write_text("n\n")
        status = await ran(client, project, "status", worktree="topic")
        assert [each["path"] for each in status["files"]] == ["new"]
        assert status["summary"]["branch"] == "topic"
        assert (await ran(client, project, "status"))["files"] == []
        ran_in = await client.call(
            "session.create", {"agent": "command", "argv": ["pwd"], "cwd": str(path)}
        )
        assert (ran_in["session"]["projectId"], ran_in["session"]["cwd"]) == (project, str(path))
        with pytest.raises(Conflict, match="leave workspace out"):
            await client.call(
                "session.create",
                {"agent": "command", "argv": ["pwd"], "cwd": str(path), "workspace": "worktree"},
            )
        for name, error in (("none", Conflict), ("..", Conflict), (".", Conflict)):
            with pytest.raises(error):
                await ran(client, project, "status", worktree=name)
        foreign = path.parent / "foreign"
        foreign.symlink_to(tmp_path / "other")
        with pytest.raises(Conflict, match="no worktree of this project"):
            await ran(client, project, "status", worktree="foreign")
        with pytest.raises(BadRequest, match="leave worktree out"):
            await ran(client, project, "init", worktree="topic")
        foreign.unlink()
