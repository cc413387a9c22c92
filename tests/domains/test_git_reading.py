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
        ("merge.ours.driver", "touch MARK"),
        ("annex.uuid", "1"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.partialCloneFilter", "blob:none"),
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
        ("core.alternateRefsCommand", "touch MARK"),
        ("core.newInGit", "touch MARK"),
    ],
)
async def test_with_what_may_run_at_any_time_nothing_is_read(running, repo, key, value):
    repo.git("config", key, value)
    async with running.client() as client:
        project = await added(client, repo.path)
        with pytest.raises(Conflict, match="project trust"):
            await ran(client, project, "status")
        assert "node_modules" in await tree(client, project)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("remote.origin.uploadpack", "touch MARK; false"),
        ("core.sshCommand", "touch MARK"),
        ("credential.helper", "!touch MARK"),
        ("fetch.bundleURI", "https://127.0.0.1:1/x"),
        ("remote.origin.vcs", "ext"),
    ],
)
@pytest.mark.parametrize("lazy", ["remote.origin.promisor", f"remote.{'x' * 200}.promisor"])
async def test_a_partial_clone_is_read_only_where_a_fetch_would_run_nothing(
    running, tmp_path, repo, key, value, lazy
):
    repo.git("config", lazy, "true")
    repo.git("config", key, value.replace("MARK", str(tmp_path / "mark")))
    async with running.client() as client:
        project = await added(client, repo.path)
        with pytest.raises(Conflict, match="project trust") as refused:
            await ran(client, project, "status")
        assert refused.value.details["keys"] == [key.lower()]
    assert not (tmp_path / "mark").exists()


async def test_a_partial_clone_is_read_and_fetches_nothing_without_trust(running, tmp_path, repo):
    repo.commit({"a.txt": "2\n"})
    repo.git("config", "uploadpack.allowFilter", "true")
    clone = tmp_path / "clone"
    repo.git("clone", "-q", "--filter=blob:none", f"file://{repo.path}", str(clone))
    (clone / "node_modules").mkdir()
    (clone / "b.txt").write_text("new\n")
    missing = ("rev-list", "--objects", "--all", "--missing=print")

    def lacks() -> bool:
        return "\n?" in repo.git("-C", str(clone), *missing)

    async with running.client() as client:
        project = await added(client, clone)
        status = await ran(client, project, "status")
        assert [file["path"] for file in status["files"]] == ["b.txt"]
        assert "node_modules" not in await tree(client, project)
        assert (await ran(client, project, "log"))["commits"]
        with pytest.raises(Conflict, match="lacks a file: trust the project") as refused:
            await ran(client, project, "show", revision="HEAD")
        assert lacks()
    *_, advice, _ = refused.value.message.split("'")
    repo.git("-C", str(clone), *advice.removeprefix("git ").split())
    assert not lacks()


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
