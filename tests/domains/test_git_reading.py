"""What is read in a project that is not trusted, and what keeps from it."""

from __future__ import annotations

import pytest
from repositories import Repo, added, ran

from daemon.core.errors import AgentcmdError, Conflict

ADA = {"author": "Ada <ada@example.org>"}


@pytest.fixture
def repo(tmp_path):
    """A repository that ignores a folder, with something new in it and beside it."""
    made = Repo(tmp_path / "own")
    made.commit({"a.txt": "1\n", ".gitignore": "node_modules/\n"})
    made.write("node_modules/x.js", "x\n")
    made.write("b.txt", "b\n")
    return made


async def tree(client, project):
    seen = await client.call("file.tree", {"projectId": project})
    return {entry["name"] for entry in seen["entries"]}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("core.sshCommand", "touch MARK"),
        ("core.askPass", "touch MARK"),
        ("credential.helper", "!touch MARK"),
        ("credential.https://example.org.helper", "!touch MARK"),
        ("gpg.program", "touch MARK"),
        ("http.proxy", "http://example.org"),
        ("url.ext::sh -c touch% MARK.insteadOf", "x:"),
        ("remote.origin.uploadpack", "touch MARK"),
        ("submodule.x.update", "!touch MARK"),
        ("branch.main.mergeOptions", "--strategy=x"),
        ("trailer.x.command", "touch MARK"),
    ],
)
async def test_what_no_look_runs_keeps_nobody_from_looking(running, tmp_path, repo, key, value):
    repo.git("config", key, value.replace("MARK", str(tmp_path / "mark")))
    async with running.client() as client:
        project = await added(client, repo.path)
        status = await ran(client, project, "status")
        assert [file["path"] for file in status["files"]] == ["b.txt"]
        assert await tree(client, project) == {"a.txt", "b.txt", ".gitignore"}
        await ran(client, project, "log")
        await ran(client, project, "diff")
        with pytest.raises(Conflict, match="project trust"):
            await ran(client, project, "stage", all=True)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "key",
    ["filter.x.clean", "filter.x.process", "diff.x.textconv", "diff.external"],
)
async def test_names_are_read_where_contents_are_not(running, tmp_path, repo, key):
    repo.commit({".gitattributes": "*.txt filter=x diff=x\n"})
    repo.git("config", key, f"touch {tmp_path}/mark; cat")
    repo.write("a.txt", "2\n")
    async with running.client() as client:
        project = await added(client, repo.path)
        with pytest.raises(Conflict, match="project trust"):
            await ran(client, project, "status")
        assert "node_modules" not in await tree(client, project)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("include.path", "../other"),
        ("merge.x.driver", "touch MARK"),
        ("remote.origin.promisor", "true"),
        ("core.alternateRefsCommand", "touch MARK"),
        ("core.newInGit", "touch MARK"),
        (f"remote.{'x' * 200}.promisor", "true"),
    ],
)
async def test_with_what_may_run_at_any_time_nothing_is_read(running, repo, key, value):
    repo.git("config", key, value)
    async with running.client() as client:
        project = await added(client, repo.path)
        with pytest.raises(Conflict, match="project trust"):
            await ran(client, project, "status")
        assert "node_modules" in await tree(client, project)


async def test_blame_and_commit_read_no_file_outside(running, tmp_path, repo):
    secret = tmp_path / "secret"
    secret.write_text("a very secret line\n")
    repo.write(".ignored-revs", "# none\n")
    repo.git("config", "user.signingKey", f"!touch {tmp_path}/mark")
    repo.git("config", "commit.template", str(secret))
    async with running.client() as client:
        project = await added(client, repo.path)
        for value in (str(secret), "../secret", "link"):
            repo.git("config", "blame.ignoreRevsFile", value)
            if value == "link":
                (repo.path / "link").symlink_to(secret)
            with pytest.raises(AgentcmdError) as refused:
                await ran(client, project, "blame", path="a.txt")
            assert "very secret" not in repr((refused.value.message, refused.value.details))
            assert "trust" in refused.value.message
        repo.git("config", "blame.ignoreRevsFile", ".ignored-revs")
        assert (await ran(client, project, "blame", path="a.txt"))["lines"]
        await ran(client, project, "commit", message="a very secret line", allowEmpty=True, **ADA)
        repo.git("config", "--unset", "commit.template")
    assert repo.git("log", "-1", "--format=%B").strip() == "a very secret line"
    assert not (tmp_path / "mark").exists()
