"""Merges, rebases, picks and reverts: done, stopped at conflicts, gone on with, given up."""

from __future__ import annotations

import asyncio

import pytest
from repositories import Repo, added, ran
from support import argv_of, until

from daemon.core.errors import BadRequest, Conflict, NotFound
from domains.git.conflicts import ConflictedFile, parse_unmerged


def made(path):
    """Make a repository with an identity of its own, and one commit."""
    repo = Repo(path)
    repo.git("config", "user.name", "Ada")
    repo.git("config", "user.email", "ada@example.org")
    repo.commit({"a": "1\n", "b": "1\n", "c": "1\n"}, "first")
    return repo


def branch(repo, name, *commits, start="main"):
    """Make a branch with commits, each given by its files; gives their ids."""
    repo.git("switch", "-q", "-c", name, start)
    ids = [repo.commit(files, f"{name} {number}") for number, files in enumerate(commits, start=1)]
    repo.git("switch", "-q", "main")
    return ids


def standing(repo):
    """Everything that an abort has to bring back."""
    files = {
        str(path.relative_to(repo.path)): (path.read_bytes(), path.lstat().st_mode)
        for path in repo.path.rglob("*")
        if ".git" not in path.parts and path.is_file()
    }
    return (
        files,
        repo.raw("ls-files", "--stage", "-z"),
        repo.raw("status", "--porcelain=v2", "--branch", "-z"),
        repo.git("for-each-ref"),
        repo.git("stash", "list"),
    )


def head(repo):
    return repo.git("rev-parse", "HEAD").strip()


async def refused(awaited, kind=Conflict):
    with pytest.raises(kind) as caught:
        await awaited
    return caught.value


async def test_a_merge_tells_what_came_of_it(running, tmp_path):
    repo = made(tmp_path / "own")
    ahead = branch(repo, "ahead", {"a": "2\n"}, {"a": "3\n"})
    branch(repo, "aside", {"b": "2\n"})
    async with running.client() as client:
        project = await added(client, repo.path)
        for name in ("--upload-pack=x", "-s", ""):
            await refused(ran(client, project, "merge", revision=name), BadRequest)
        for name in ("nowhere", "line\u2028separated", "main..ahead", "main:a"):
            await refused(ran(client, project, "merge", revision=name), NotFound)
        first = await ran(client, project, "merge", revision="ahead")
        assert first == {
            "head": ahead[-1],
            "branch": "main",
            "commits": 2,
            "fastForward": True,
        }
        again = await ran(client, project, "merge", revision="ahead")
        assert again == {"head": ahead[-1], "branch": "main", "upToDate": True}
        only = await refused(ran(client, project, "merge", revision="aside", ff="only"))
        assert "commits of their own" in only.message
        squashed = await ran(client, project, "merge", revision="aside", squash=True)
        assert squashed == {"head": ahead[-1], "branch": "main", "commits": 1, "staged": True}
        repo.git("reset", "-q", "--hard")
        merged = await ran(
            client, project, "merge", revision="aside", ff="never", message="- taken in\n\n#1"
        )
    assert merged == {"head": head(repo), "branch": "main", "commits": 2}
    assert repo.git("log", "-1", "--format=%B").strip() == "- taken in\n\n#1"


async def test_conflicts_are_told_each_once_and_aborted_without_a_trace(running, tmp_path):
    repo = made(tmp_path / "own")
    branch(repo, "theirs", {"a": "theirs\n", "b": "theirs\n", "new\n\u00e9": "theirs\n", "ok": ""})
    repo.git("switch", "-q", "theirs")
    repo.git("rm", "-q", "c")
    repo.commit({}, "deleted")
    repo.git("switch", "-q", "main")
    repo.git("rm", "-q", "b")
    repo.commit(
        {"a": "ours\n", "c": "ours\n", "new\n\u00e9": "ours\n", "mine": "of mine\n"}, "ours"
    )
    repo.write("mine", "changed\n")
    repo.write("untracked", "mine\n")
    before = standing(repo)
    async with running.client() as client:
        project = await added(client, repo.path)
        error = await refused(ran(client, project, "merge", revision="theirs"))
        assert error.details["conflicts"] == [
            {"path": "a", "kind": "both modified"},
            {"path": "b", "kind": "deleted by us"},
            {"path": "c", "kind": "deleted by them"},
            {"path": "new\n\u00e9", "kind": "both added"},
        ]
        assert error.details["conflictCount"] == 4
        assert error.details["underWay"] == "merge"
        assert error.details["commit"] == repo.git("rev-parse", "theirs").strip()
        assert "and 1 more: resolve and stage them, then run operation continue" in error.message
        for operation, args in (
            ("merge", {"revision": "theirs"}),
            ("rebase", {"onto": "theirs"}),
            ("cherry_pick", {"revisions": ["theirs"]}),
        ):
            second = await refused(ran(client, project, operation, **args))
            assert "a merge is under way: run operation continue or abort" in second.message
        unresolved = await refused(ran(client, project, "continue"))
        assert unresolved.details["conflicts"] == error.details["conflicts"]
        assert (
            "a merge has nothing to skip" in (await refused(ran(client, project, "skip"))).message
        )
        aborted = await ran(client, project, "abort")
        assert aborted == {"aborted": "merge", "head": head(repo)}
        assert standing(repo) == before
        for operation in ("abort", "continue", "skip"):
            error = await refused(ran(client, project, operation))
            assert "nothing is under way" in error.message

        squashed = await refused(ran(client, project, "merge", revision="theirs", squash=True))
        assert squashed.details["underWay"] is None
        assert "then commit" in squashed.message
        assert (await ran(client, project, "abort"))["aborted"] == "merge"
        assert standing(repo) == before

        repo.write("a", "not committed\n")
        before = standing(repo)
        dirty = await refused(ran(client, project, "merge", revision="theirs"))
        assert "what is not committed in a would be overwritten" in dirty.message
        assert dirty.details["paths"] == ["a"]
        assert standing(repo) == before


async def test_a_merge_goes_on_once_its_conflicts_are_staged(running, tmp_path):
    repo = made(tmp_path / "own")
    branch(repo, "theirs", {"a": "theirs\n"})
    repo.commit({"a": "ours\n"}, "ours")
    ours = head(repo)
    async with running.client() as client:
        project = await added(client, repo.path)
        for message, says in ((None, "Merge branch 'theirs'"), ("# both", "# both")):
            await refused(ran(client, project, "merge", revision="theirs"))
            repo.write("a", "both\n")
            repo.git("add", "a")
            given = {} if message is None else {"message": message}
            done = await ran(client, project, "continue", **given)
            assert done == {"head": head(repo), "branch": "main", "commits": 2}
            assert repo.git("log", "-1", "--format=%B").strip() == says
            assert repo.git("rev-parse", "HEAD^1", "HEAD^2").split() == [
                ours,
                repo.git("rev-parse", "theirs").strip(),
            ]
            repo.git("reset", "-q", "--hard", ours)


async def test_a_rebase_stops_goes_on_skips_and_goes_back(running, tmp_path):
    repo = made(tmp_path / "own")
    branch(repo, "topic", {"a": "t1\n"}, {"b": "t2\n"}, {"c": "t3\n"})
    second = repo.commit({"a": "m1\n", "b": "m2\n"}, "ours")
    branch(repo, "easy", {"easy": "1\n"}, start="main~1")
    repo.git("switch", "-q", "topic")
    before = standing(repo)
    async with running.client() as client:
        project = await added(client, repo.path)
        error = await refused(ran(client, project, "rebase", onto="main"))
        assert error.details["conflicts"] == [{"path": "a", "kind": "both modified"}]
        assert error.details["commit"] == repo.git("rev-parse", "topic~2").strip()
        assert error.details["underWay"] == "rebase"
        assert await ran(client, project, "abort") == {"aborted": "rebase", "head": head(repo)}
        assert standing(repo) == before

        await refused(ran(client, project, "rebase", onto="main"))
        repo.write("a", "both\n")
        repo.git("add", "a")
        await refused(ran(client, project, "continue", message="x"), BadRequest)
        error = await refused(ran(client, project, "continue"))
        assert error.details["conflicts"] == [{"path": "b", "kind": "both modified"}]
        done = await ran(client, project, "skip")
        assert done == {"head": head(repo), "branch": "topic", "commits": 2}
        assert repo.git("log", "--format=%s", "main..").split("\n")[:2] == ["topic 3", "topic 1"]
        again = await ran(client, project, "rebase", onto="main")
        assert again == {"head": head(repo), "branch": "topic", "upToDate": True}

        repo.write("c", "not committed\n")
        dirty = await refused(ran(client, project, "rebase", onto="main", branch="easy"))
        assert "commit or stash them first" in dirty.message
        await refused(ran(client, project, "rebase", onto="main", branch="none"), NotFound)
        await refused(ran(client, project, "rebase", onto="main", branch="--exec=x"), BadRequest)
        repo.git("checkout", "-q", "--", "c")
        repo.write("easy2", "mine\n")
        repo.write("b", "mine\n")
        repo.git("stash", "-q")
        repo.git("switch", "-q", "main")
        repo.write("c", "mine\n")
        done = await ran(client, project, "rebase", onto="main", branch="easy", autostash=True)
    assert done == {"head": head(repo), "branch": "easy", "commits": 1}
    assert repo.git("rev-parse", "HEAD~1").strip() == second
    assert (repo.path / "c").read_text() == "mine\n"


async def test_commits_are_picked_and_reverted_in_the_order_given(running, tmp_path):
    repo = made(tmp_path / "own")
    ids = branch(repo, "side", {"x": "1\n"}, {"x": "2\n"}, {"a": "side\n"}, {"b": "side\n"})
    repo.git("merge", "-q", "--no-ff", "-m", "merged", "side~2")
    merge = head(repo)
    repo.git("reset", "-q", "--hard", "HEAD~1")
    base = head(repo)
    async with running.client() as client:
        project = await added(client, repo.path)

        async def picked(*revisions, **args):
            return await ran(client, project, "cherry_pick", revisions=list(revisions), **args)

        assert await picked(ids[0], "side~2") == {
            "head": head(repo),
            "branch": "main",
            "commits": 2,
        }
        assert (repo.path / "x").read_text() == "2\n"
        done = await ran(client, project, "revert", revisions=["HEAD", "HEAD~1"])
        assert done == {"head": head(repo), "branch": "main", "commits": 2}
        assert not (repo.path / "x").exists()

        for revisions in ([], ["-x"], ["side\n"], ["x"] * 101):
            await refused(picked(*revisions), BadRequest)
        await refused(picked(ids[0], "main..side"), NotFound)
        assert "mainline" in (await refused(picked(ids[0], merge), BadRequest)).message
        assert "mainline" in (await refused(picked(ids[0], mainline=1), BadRequest)).message
        assert (await picked(merge, mainline=1))["commits"] == 1

        repo.git("reset", "-q", "--hard", base)
        repo.git("update-ref", "REBASE_HEAD", base)  # as rebases leave it behind
        repo.write("a", "not committed\n")
        before = standing(repo)
        dirty = await refused(picked(ids[0], ids[2]))
        assert dirty.details["paths"] == ["a"]
        assert standing(repo) == before
        assert "nothing is under way" in (await refused(ran(client, project, "abort"))).message
        repo.git("checkout", "-q", "--", "a")

        repo.commit({"a": "side\n", "b": "main\n"}, "the same")
        empty = await refused(picked(ids[2], ids[3], ids[0]))
        assert "changes nothing any more: run operation skip" in empty.message
        error = await refused(ran(client, project, "skip"))
        assert error.details["conflicts"] == [{"path": "b", "kind": "both modified"}]
        assert error.details["underWay"] == "cherry-pick"
        repo.write("b", "both\n")
        repo.git("add", "b")
        repo.git("commit", "-q", "-m", "resolved, and committed by hand")
        done = await ran(client, project, "continue")
        assert done == {"head": head(repo), "branch": "main", "commits": 1}
        assert "nothing is under way" in (await refused(ran(client, project, "abort"))).message


@pytest.mark.parametrize("way", ["git.cancel", "task.cancel"])
async def test_a_merge_that_is_cancelled_leaves_neither_changes_nor_locks(running, tmp_path, way):
    repo = made(tmp_path / "own")
    branch(repo, "theirs", {"a": "theirs\n"})
    repo.commit({"b": "ours\n"}, "ours")
    pid = tmp_path / "pid"
    hook = repo.write(".git/hooks/pre-merge-commit", f"#!/bin/sh\necho $$ >{pid}\nexec sleep 60\n")
    hook.chmod(0o755)
    repo.write("c", "mine\n")
    before = standing(repo)
    async with running.client() as client:
        project = await added(client, repo.path)
        await client.call("project.trust", {"projectId": project})
        data = {
            "projectId": project,
            "operation": "merge",
            "operationId": "mine",
            "args": {"revision": "theirs"},
        }
        merging = asyncio.ensure_future(client.call("git.run", data))
        sleeps = int(await until(lambda: pid.exists() and pid.read_text().strip()))
        own = {"taskId": "mine"}
        if way == "git.cancel":
            own = {"projectId": project, "operationId": "mine"}
        await client.call(way, own)
        assert "cancelled" in (await refused(merging)).message
    assert argv_of(sleeps) == b""
    assert standing(repo) == before
    assert list((repo.path / ".git").rglob("*.lock")) == []


def test_stages_say_what_kind_of_conflict_it_is():
    entries = [
        *(f"100644 {'0' * 40} {stage}\tboth" for stage in (1, 2, 3)),
        f"100644 {'0' * 40} 1\tgone",
        f"100644 {'0' * 40} 2\tours",
        f"100644 {'0' * 40} 3\tt\the\nirs",
    ]
    output = b"".join(entry.encode() + b"\0" for entry in entries)
    assert parse_unmerged(output + b"100644 0 3\t\xff\0") == [
        ConflictedFile(path="both", kind="both modified"),
        ConflictedFile(path="gone", kind="both deleted"),
        ConflictedFile(path="ours", kind="added by us"),
        ConflictedFile(path="t\the\nirs", kind="added by them"),
        ConflictedFile(path="\ufffd", kind="added by them"),
    ]
    assert parse_unmerged(b"") == []
