"""What changes a repository: staging, commits, discarding, branches, tags and the stash."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from repositories import ENVIRONMENT, Repo, added, ran
from support import until

from daemon.core.errors import BadRequest, Conflict, NotFound

HOSTILE = ("../out", "/etc/passwd", "a\0b", "", ".git/config", "a/../../b")

NAMES = (":(top)x", "*", "-rf", "new\nline", "ünï/ż", "sp ace")


class Place:
    """A project that is a repository, and a client that works in it."""

    def __init__(self, client: Any, project: str, repo: Repo) -> None:
        self.client, self.project, self.repo = client, project, repo

    async def __call__(self, operation: str, **args: Any) -> Any:
        return await ran(self.client, self.project, operation, **args)

    def status(self) -> list[str]:
        said = self.repo.git("status", "--porcelain=v1", "-z", "--no-renames", "-uall")
        return sorted(said.rstrip("\0").split("\0")) if said else []

    def at(self, revision: str = "HEAD") -> str:
        return self.repo.git("rev-parse", revision).strip()

    def read(self, name: str) -> str | None:
        path = self.repo.path / name
        return path.read_text() if path.exists() else None


@pytest.fixture
async def place(running, tmp_path, monkeypatch):
    """A repository with one commit of a, b and dir/c, as a project; git knows who commits."""
    for name, value in ENVIRONMENT.items():
        if name.startswith(("GIT_AUTHOR", "GIT_COMMITTER")) and not name.endswith("DATE"):
            monkeypatch.setenv(name, value)
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "1\n", "b": "1\n", "dir/c": "1\n"})
    async with running.client() as client:
        yield Place(client, await added(client, repo.path), repo)


async def another(place: Place, path: Path) -> Place:
    """A repository without a commit, as another project of the same client."""
    repo = Repo(path)
    return Place(place.client, await added(place.client, path), repo)


async def refused(kind: type[Exception], match: str, call: Callable[..., Any]) -> Any:
    with pytest.raises(kind, match=match) as caught:
        await call
    return caught.value


async def test_what_is_named_is_staged_and_unstaged_as_it_is_called(place):
    for name in NAMES:
        place.repo.write(name, "new\n")
    (place.repo.path / "b").unlink()
    answer = await place("stage", paths=[*NAMES, "b"])
    assert answer["summary"]["counts"] == {"staged": len(NAMES) + 1}
    assert place.status() == sorted(["D  b", *(f"A  {name}" for name in NAMES)])
    await place("unstage", paths=["*", ":(top)x", "b"])
    assert place.status() == sorted(
        [" D b", "?? *", "?? :(top)x", *(f"A  {name}" for name in NAMES[2:])]
    )
    answer = await place("unstage", all=True)
    assert answer["summary"]["counts"] == {"unstaged": 1, "untracked": len(NAMES)}
    await place("stage", all=True)
    assert not [line for line in place.status() if line[1] != " "]
    for name in HOSTILE:
        await refused(BadRequest, "path|leads out", place("stage", paths=[name]))
    await refused(NotFound, "nowhere", place("stage", paths=["nowhere"]))
    await refused(BadRequest, "either paths, or all", place("stage"))
    await refused(BadRequest, "either paths, or all", place("unstage", paths=["a"], all=True))
    place.repo.write(".gitignore", "*.o\n")
    place.repo.write("x.o")
    error = await refused(Conflict, r"git ignores x\.o.*force", place("stage", paths=["x.o"]))
    assert error.details["paths"] == ["x.o"]
    await place("stage", paths=["x.o"], force=True)
    assert "A  x.o" in place.status()


async def test_before_the_first_commit_one_can_stage_unstage_and_commit(place, tmp_path):
    new = await another(place, tmp_path / "new")
    new.repo.write("a", "1\n")
    new.repo.write("b", "1\n")
    await new("stage", all=True)
    await new("unstage", paths=["b"])
    assert new.status() == ["?? b", "A  a"]
    await new("unstage", all=True)
    assert new.status() == ["?? a", "?? b"]
    await refused(Conflict, "no commit yet", new("commit", message="m", amend=True))
    await refused(Conflict, "no commit yet", new("reset", mode="hard"))
    await refused(Conflict, "no commit yet", new("branch_create", name="x"))
    await refused(Conflict, "no commit yet", new("stash_save"))
    await refused(Conflict, "nothing is staged", new("commit", message="m"))
    discarded = await new("discard", all=True, untracked=True)
    assert (discarded["paths"], new.read("a")) == (["a", "b"], None)
    await new("discard_restore", discardId=discarded["discardId"])
    assert new.read("a") == "1\n"
    assert await new("branch_create", name="early", switch=True) == {"name": "early"}
    await new("stage", paths=["a"])
    first = await new("commit", message="first\n\nbody")
    assert first == {"commit": new.at("early"), "summary": "first", "files": 1, "insertions": 1}


async def test_a_commit_says_what_it_is(place):
    repo = place.repo
    repo.write("a", "1\n2\n")
    repo.write("b", "")
    repo.write("new", "x\n")
    await place("stage", paths=["a", "new"])
    answer = await place(
        "commit",
        message="# no comment\n\n-m as it is  \n\n\n",
        author="Grace Hopper <grace@navy>",
        signOff=True,
    )
    assert answer == {
        "commit": place.at(),
        "summary": "# no comment",
        "files": 2,
        "insertions": 2,
    }
    assert repo.git("log", "-1", "--format=%an <%ae> %cn|%B") == (
        "Grace Hopper <grace@navy> Ada|# no comment\n\n-m as it is  \n\n"
        "Signed-off-by: Ada <ada@example.org>\n\n\n\n"
    )
    await refused(Conflict, "nothing is staged", place("commit", message="m"))
    amended = await place("commit", amend=True, all=True)
    assert amended["summary"] == "# no comment"
    assert (amended["files"], amended["deletions"]) == (3, 1)
    assert place.status() == []
    repo.write("a", "only\n")
    repo.write("b", "staged\n")
    await place("stage", paths=["b"])
    answer = await place("commit", message="paths", paths=["a"])
    assert (answer["files"], place.status()) == (1, ["M  b"])
    await place("commit", message="x", amend=True)
    await place("commit", message="empty", allowEmpty=True)
    assert repo.git("log", "--format=%s") == "empty\nx\n# no comment\na commit\n"


async def test_a_commit_that_cannot_be_is_refused_with_a_reason(place):
    place.repo.write("a", "2\n")
    before = place.at()
    for message in (None, "", " \n\t\n"):
        await refused(BadRequest, "message is empty", place("commit", message=message))
    await refused(BadRequest, "NUL", place("commit", message="a\0b"))
    for author in ("Ada", "<a@b>", "A <a b>", "A\nB <a@b>", "A <a@b> --amend", "A <<a@b>>", "-"):
        await refused(BadRequest, "no author", place("commit", message="m", author=author))
    await refused(BadRequest, "exclude", place("commit", message="m", all=True, paths=["a"]))
    await refused(BadRequest, "leads out", place("commit", message="m", paths=["../a"]))
    await refused(NotFound, "nowhere", place("commit", message="m", paths=["nowhere"]))
    await refused(NotFound, "--amend", place("commit", message="m", paths=["--amend"]))
    await refused(Conflict, "nothing is staged", place("commit", message="m"))
    assert (place.at(), place.status()) == (before, [" M a"])


async def test_hooks_are_run_only_for_a_trusted_project_and_one_is_told(place, tmp_path):
    hook = place.repo.write(".git/hooks/pre-commit", f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
    hook.chmod(0o755)
    answer = await place("commit", message="m", allowEmpty=True)
    assert answer["hooksSkipped"] is True
    await place.client.call("project.trust", {"projectId": place.project})
    await refused(
        Conflict, "a hook has stopped the commit", place("commit", message="m", allowEmpty=True)
    )
    assert (tmp_path / "ran").exists()
    hook.unlink()
    assert "hooksSkipped" not in await place("commit", message="m", allowEmpty=True)


async def test_the_author_commits_where_git_knows_nobody(place, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("GIT_AUTHOR", "GIT_COMMITTER")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/nonexistent")
    place.repo.git("config", "user.useConfigOnly", "true")
    how = "git config --global user.name"
    await refused(Conflict, how, place("commit", message="m", allowEmpty=True))
    await place("commit", message="m", allowEmpty=True, author="Grace <g@h>")
    assert place.repo.git("log", "-1", "--format=%cn %ce") == "Grace g@h\n"


async def test_what_is_discarded_can_be_had_back_whole_or_in_parts(place):
    repo = place.repo
    repo.write("a", "2\n")
    await place("stage", paths=["a"])
    repo.write("a", "3\n")
    (repo.path / "b").unlink()
    repo.write("dir/c", "2\n")
    repo.write("new/*", "n\n")
    repo.write("other", "o\n")
    await refused(Conflict, "untracked: true", place("discard", paths=["other"]))
    first = await place("discard", paths=["a", "b"])
    assert (first["paths"], first["count"]) == (["a", "b"], 2)
    assert (place.read("a"), place.read("b")) == ("2\n", "1\n")
    assert place.status() == [" M dir/c", "?? new/*", "?? other", "M  a"]
    second = await place("discard", paths=["new", "dir"], untracked=True)
    assert place.status() == ["?? other", "M  a"]
    assert not (repo.path / "new").exists()

    listed = await place("discard_list")
    assert [each["discardId"] for each in listed["discarded"]] == [
        second["discardId"],
        first["discardId"],
    ]
    assert listed["discarded"][0]["paths"] == ["dir/c", "new/*"]
    assert (await place("discard_list", limit=1))["truncated"] is True

    back = await place("discard_restore", discardId=second["discardId"], paths=["new/*"])
    assert back.keys() == {"written", "writtenCount", "discardId"}
    assert back["written"] == ["new/*"]
    assert (place.read("new/*"), place.read("dir/c")) == ("n\n", "1\n")
    repo.write("a", "4\n")
    back = await place("discard_restore", discardId=first["discardId"])
    assert (back["written"], back["removed"]) == (["a"], ["b"])
    assert (place.read("a"), place.read("b")) == ("3\n", None)
    await place("discard_restore", discardId=back["discardId"])
    assert (place.read("a"), place.read("b")) == ("4\n", "1\n")
    assert repo.git("for-each-ref", "refs/heads", "refs/stash").count("\n") == 1
    await refused(NotFound, "discard_list", place("discard_restore", discardId="none"))
    await refused(BadRequest, "leads out", place("discard", paths=["a/.."]))


async def test_a_discard_makes_room_and_keeps_modes_and_links(place):
    repo = place.repo
    repo.commit({"tool": "x\n"})
    (repo.path / "link").symlink_to("a")
    repo.git("add", "link")
    (repo.path / "tool").chmod(0o755)
    (repo.path / "link").unlink()
    repo.write("link", "a file\n")
    (repo.path / "a").unlink()
    repo.write("a/new", "new\n")
    discarded = await place("discard", paths=["a", "tool", "link"])
    assert discarded["paths"] == ["a", "a/new", "link", "tool"]
    assert (place.status(), place.read("a")) == (["A  link"], "1\n")
    assert (repo.path / "link").is_symlink()
    await place("discard_restore", discardId=discarded["discardId"])
    assert sorted(place.status()) == [" D a", " M tool", "?? a/new", "AT link"]
    assert place.read("a/new") == "new\n"


async def test_a_discard_is_restored_where_the_index_is_older_than_what_is_swept_away(place):
    place.repo.write("a", "mine\n")
    discarded = await place("discard", paths=["a"])
    for name, days in (("a", 4), ("b", 4), ("dir/c", 4), (".git/index", 3)):
        if name == ".git/index":
            place.repo.git("update-index", "--refresh")
        when = time.time() - days * 86400
        os.utime(place.repo.path / name, (when, when))
    await place("discard_restore", discardId=discarded["discardId"])
    assert place.read("a") == "mine\n"


async def test_what_is_discarded_is_let_go_after_a_month(place):
    repo = place.repo
    month = f"{time.time() - 31 * 86400:.0f} +0000"
    old = subprocess.run(
        ["git", "-C", repo.path, "commit-tree", "-p", "HEAD", "-m", "discard", "HEAD^{tree}"],
        env=ENVIRONMENT | {"GIT_COMMITTER_DATE": month},
        capture_output=True,
        check=True,
    )
    repo.git("update-ref", "refs/agentcmd/discarded/old", old.stdout.decode().strip())
    repo.write("a", "2\n")
    discarded = await place("discard", all=True)
    refs = repo.git("for-each-ref", "--format=%(refname)", "refs/agentcmd").split()
    assert refs == [f"refs/agentcmd/discarded/{discarded['discardId']}"]


async def test_a_hard_reset_keeps_what_it_loses(place):
    repo = place.repo
    first, second = place.at(), repo.commit({"a": "2\n", "added": "x\n"})
    repo.write("a", "mine\n")
    repo.write("added", "mine\n")
    repo.write("new", "new\n")
    answer = await place("reset", revision="HEAD~1", mode="hard")
    assert (answer["commit"], answer["before"], place.at()) == (first, second, first)
    assert (place.status(), place.read("a")) == (["?? new"], "1\n")
    back = await place("discard_restore", discardId=answer["discardId"])
    assert back["written"] == ["a", "added"]
    assert (place.read("a"), place.read("added")) == ("mine\n", "mine\n")
    await refused(Conflict, "git reset", place("reset", revision=second, mode="keep"))
    await place("discard", all=True, untracked=True)
    answer = await place("reset", revision=second, mode="keep")
    assert (answer, place.read("a")) == ({"commit": second, "before": first}, "2\n")
    await place("reset", revision="HEAD~1", mode="soft")
    assert place.status() == ["A  added", "M  a"]
    await place("reset")
    assert place.status() == [" M a", "?? added"]
    for revision in ("--hard", "a b\n", ""):
        await refused(BadRequest, "no revision", place("reset", revision=revision))
    for revision in ("nowhere", ":/a commit$(id)", "HEAD~9"):
        await refused(NotFound, "no commit", place("reset", revision=revision))


async def test_branches_are_made_switched_renamed_and_deleted(place):
    repo = place.repo
    first, second = place.at(), repo.commit({"a": "2\n"})
    assert await place("branch_create", name="old", startPoint="HEAD~1") == {
        "name": "old",
        "commit": first,
    }
    await place("branch_create", name="ünï/x", switch=True)
    assert repo.git("symbolic-ref", "HEAD") == "refs/heads/ünï/x\n"
    await refused(Conflict, "exists", place("branch_create", name="old"))
    await refused(NotFound, "no commit", place("branch_create", name="y", startPoint="nowhere"))
    assert await place("switch", branch="old") == {
        "branch": "old",
        "commit": first,
        "previous": "ünï/x",
    }
    repo.write("a", "mine\n")
    error = await refused(Conflict, "changes in a would be lost", place("switch", branch="main"))
    assert (error.details["paths"], place.read("a")) == (["a"], "mine\n")
    repo.git("checkout", "-q", "a")
    assert await place("switch", revision="main", detach=True) == {
        "commit": second,
        "previous": "old",
    }
    await place("switch", branch="third", create=True, revision="old")
    third = repo.commit({"c": "3\n"})
    await refused(Conflict, "you are on", place("branch_delete", name="third"))
    await place("branch_rename", newName="3rd")
    await place("switch", branch="main")
    error = await refused(Conflict, "force: true", place("branch_delete", name="3rd"))
    assert error.details["commit"] == third
    gone = await place("branch_delete", name="3rd", force=True)
    assert gone == {"name": "3rd", "commit": third}
    await place("branch_create", name="3rd", startPoint=gone["commit"])
    assert await place("branch_rename", name="3rd", newName="4") == {"oldName": "3rd", "name": "4"}
    await refused(Conflict, "exists", place("branch_rename", name="4", newName="old"))
    await refused(NotFound, "no branch", place("branch_delete", name="nowhere"))
    await refused(NotFound, "nowhere", place("switch", branch="nowhere"))
    heads = repo.git("for-each-ref", "--format=%(refname:short)", "refs/heads").split()
    assert heads == ["4", "main", "old", "ünï/x"]


async def test_a_branch_of_a_remote_is_followed(place, tmp_path):
    far = Repo(tmp_path / "far")
    far.commit({"x": "1\n"})
    far.git("branch", "topic")
    place.repo.git("remote", "add", "origin", str(far.path))
    place.repo.git("fetch", "-q", "origin")
    await place("switch", branch="topic")
    await place("branch_create", name="two", startPoint="origin/topic")
    for name in ("topic", "two"):
        assert place.repo.git("rev-parse", "--symbolic-full-name", f"{name}@{{upstream}}") == (
            "refs/remotes/origin/topic\n"
        )


async def test_names_that_git_would_take_for_something_else_are_refused(place):
    for name in ("-d", "--force", "a..b", "a b", "HEAD", "refs/heads/x", "a\0", "@", "a.lock", ""):
        for operation in ("branch_create", "branch_delete", "tag_create", "tag_delete"):
            await refused(BadRequest, "name", place(operation, name=name))
        await refused(BadRequest, "name", place("switch", branch=name))
        await refused(BadRequest, "name", place("branch_rename", newName=name))
    for args in ({}, {"branch": "main", "detach": True}, {"branch": "a", "revision": "main"}):
        await refused(BadRequest, "branch", place("switch", **args))
    await refused(BadRequest, "no revision", place("switch", revision="--force", detach=True))


async def test_tags_are_light_or_annotated(place):
    repo = place.repo
    light = await place("tag_create", name="v1")
    assert light == {"name": "v1", "commit": place.at()}
    full = await place("tag_create", name="v2", revision="main", message="# two\n")
    assert full["objectId"] == place.at("v2") != full["commit"] == place.at("v2^{commit}")
    assert repo.git("tag", "-l", "--format=%(contents)", "v2").strip() == "# two"
    await refused(Conflict, "exists", place("tag_create", name="v1"))
    await refused(BadRequest, "empty", place("tag_create", name="v3", message=" "))
    assert await place("tag_delete", name="v2") == {"name": "v2", "objectId": full["objectId"]}
    await refused(NotFound, "no tag", place("tag_delete", name="v2"))
    assert repo.git("tag").split() == ["v1"]


async def test_work_is_put_aside_and_taken_up_again(place):
    repo = place.repo
    await refused(Conflict, "includeUntracked", place("stash_save"))
    await refused(NotFound, "stash is empty", place("stash_pop"))
    repo.write("a", "2\n")
    await place("stage", paths=["a"])
    repo.write("b", "2\n")
    for name in NAMES:
        repo.write(name, "new\n")
    saved = await place("stash_save", message="-u it is", includeUntracked=True)
    assert saved == {"commit": place.at("stash@{0}"), "message": "On main: -u it is"}
    assert place.status() == []
    await place("stash_pop", restoreIndex=True)
    expected = sorted([" M b", "M  a", *(f"?? {name}" for name in NAMES)])
    assert place.status() == expected
    parts = await place("stash_save", paths=["b", "*", "-rf", ":(top)x"], includeUntracked=True)
    assert place.status() == sorted(["M  a", *(f"?? {name}" for name in NAMES[3:])])
    kept = await place("stash_save", keepIndex=True)
    assert "M  a" in place.status()
    await refused(NotFound, "there are 2", place("stash_drop", index=2))
    repo.write("b", "other\n")
    await refused(Conflict, "changes in b would be lost", place("stash_apply", index=1))
    assert place.read("*") is None  # which git itself would have brought back
    repo.git("checkout", "-q", "b")
    assert await place("stash_drop", commit=kept["commit"]) == {"commit": kept["commit"]}
    assert await place("stash_pop", commit=parts["commit"]) == {
        "commit": parts["commit"],
        "dropped": True,
    }
    assert sorted(place.status()) == expected
    repo.git("reset", "-q", "--hard")
    assert await place("stash_apply", commit=kept["commit"]) == {"commit": kept["commit"]}
    assert place.read("a") == "2\n"
    assert repo.git("stash", "list") == ""
    await refused(NotFound, "no stash", place("stash_apply", commit=place.at()))
    for message in ("two\nlines", " ", "x" * 501):
        await refused(BadRequest, "one line", place("stash_save", message=message))


async def test_conflicts_with_what_was_put_aside_are_told_and_it_is_kept(place):
    repo = place.repo
    repo.write("a", "mine\n")
    repo.write("new", "mine\n")
    repo.git("branch", "x")
    await place("stash_save", includeUntracked=True)
    repo.commit({"a": "theirs\n"})
    repo.write("new", "in the way\n")
    for name in ("new", "new/deep"):
        error = await refused(Conflict, "new is there already", place("stash_apply"))
        assert (error.details["paths"], place.read("a")) == (["new"], "theirs\n")
        await place("discard", all=True, untracked=True)
        repo.write(name, "in the way\n")
    await place("discard", all=True, untracked=True)
    error = await refused(Conflict, "conflicts in a: .*still on the stash", place("stash_pop"))
    assert error.details["conflicts"] == [{"path": "a", "kind": "both modified"}]
    assert repo.git("stash", "list").count("\n") == 1
    await refused(Conflict, "in conflict", place("stash_pop"))
    await refused(Conflict, "in conflict", place("stash_save"))
    await refused(Conflict, "in conflict", place("commit", message="m"))
    await refused(Conflict, "in conflict", place("discard", paths=["a"]))
    await refused(Conflict, "in conflict", place("switch", branch="x"))
    await place("stage", paths=["a"])
    await place("commit", message="resolved")


async def test_a_lock_is_explained_with_its_owner(place):
    await place("branch_create", name="x")
    lock = place.repo.write(".git/index.lock")
    place.repo.write("a", "2\n")
    await refused(Conflict, "operation unlock", place("stage", paths=["a"]))
    waiting = subprocess.Popen(
        ["git", "-C", place.repo.path, "cat-file", "--batch"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        await until(lambda: Path(f"/proc/{waiting.pid}/cwd").readlink() == place.repo.path)
        for operation, args in (
            ("commit", {"message": "m", "all": True}),
            ("unstage", {"all": True}),
            ("reset", {"mode": "hard"}),
            ("switch", {"branch": "x"}),
            ("stash_save", {}),
        ):
            await refused(Conflict, rf"pid {waiting.pid}\)", place(operation, **args))
    finally:
        waiting.stdin.close()
        waiting.stdout.close()
        waiting.wait()
    checkpoint = place.repo.write(".git/agentcmd-1.index.lock")
    assert (await place("unlock"))["removed"] == ["index.lock"]
    assert not lock.exists()
    assert checkpoint.exists()
    await place("stage", paths=["a"])
