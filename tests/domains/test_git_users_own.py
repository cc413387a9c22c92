"""In a trusted project git does what the user's own git does: hooks, ssh, partial clones."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest
from git_servers import http_server
from repositories import Repo, added, ran

from daemon.core.environment import child_environment
from daemon.core.errors import AgentcmdError, Conflict, Unavailable
from domains.git.programs import ssh_command

ADA = {"author": "Ada <ada@example.org>"}


def hook(repo: Repo, name: str, script: str) -> None:
    path = repo.write(f".git/hooks/{name}", f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


async def test_a_hook_reads_patterns_and_settings_as_in_the_users_own_git(trusted, tmp_path):
    client, project, repo = trusted
    hook(
        repo,
        "pre-commit",
        f'env | grep -E "^(GIT_|LC_ALL)" | sort > {tmp_path}/env\n'
        f"git config --get-all core.quotePath > {tmp_path}/quoted\n"
        '! git diff --cached -- "*.py" | grep -q FORBIDDEN',
    )
    repo.write("[x].py", "FORBIDDEN\n")
    await ran(client, project, "stage", paths=["[x].py"])
    with pytest.raises(Conflict):
        await ran(client, project, "commit", message="m", **ADA)
    said = (tmp_path / "env").read_text()
    ours = ("LITERAL", "CONFIG_PARAM", "TERMINAL", "LAZY", "CEILING", "SSH_COMMAND", "PAGER")
    assert not [name for name in ours if name in said], said
    assert "GIT_EDITOR=true" not in said
    assert (tmp_path / "quoted").read_text() == ""
    repo.write("[x].py", "fine\n")
    await ran(client, project, "stage", paths=["[x].py"])
    await ran(client, project, "commit", message="m", **ADA)


async def test_a_hook_of_what_is_done_once_commits_and_reads_as_in_the_users_own_git(
    trusted, tmp_path
):
    client, project, repo = trusted
    for key, value in (("user.name", "Ada"), ("user.email", "ada@example.org")):
        repo.git("config", key, value)
    for name in ("post-commit", "post-checkout", "post-merge", "pre-push"):
        hook(
            repo,
            name,
            f'echo "{name} $GIT_REFLOG_ACTION" >> {tmp_path}/hooks; git commit-tree '
            f"HEAD: -m x | xargs git show -s --format='%an <%ae> %cn <%ce>' >> {tmp_path}/who",
        )
    remote = Repo(tmp_path / "far.git", bare=True)
    repo.git("remote", "add", "origin", str(remote.path))

    async def once(operation, **args):
        asked = {"projectId": project, "operation": operation, "args": args, "once": True}
        await client.call("git.run", asked)

    await once("branch_create", name="side", switch=True)
    await once("commit", message="m", allowEmpty=True)
    await once("switch", branch="main")
    await once("merge", revision="side", ff="never")
    await once("push", remote="origin", branch="main")
    who = (tmp_path / "who").read_text().splitlines()
    assert set(who) == {"Ada <ada@example.org> Ada <ada@example.org>"}
    ran_ = (tmp_path / "hooks").read_text()
    assert {line.split()[0] for line in ran_.splitlines()} >= {"post-commit", "post-checkout"}
    assert "pre-push" in ran_
    assert "agentcmd" not in ran_


async def test_a_filter_of_the_user_sees_no_variable_that_changes_what_names_mean(
    trusted, tmp_path
):
    client, project, repo = trusted
    repo.git("config", "filter.x.clean", f"env > {tmp_path}/env; cat")
    repo.commit({".gitattributes": "*.x filter=x\n"})
    repo.write("a.x", "1\n")
    await ran(client, project, "stage", paths=["a.x"])
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert not names & {"GIT_LITERAL_PATHSPECS", "GIT_NO_LAZY_FETCH", "GIT_EDITOR"}


async def test_hooks_that_are_gone_or_not_executable_are_run_no_more(trusted, tmp_path):
    client, project, repo = trusted
    hook(repo, "pre-commit", "exit 1")
    repo.write("a.txt", "2\n")
    with pytest.raises(Conflict):
        await ran(client, project, "commit", message="m", all=True, **ADA)
    (repo.path / ".git/hooks/pre-commit").unlink()
    hook(repo, "post-commit", f"touch {tmp_path}/after")
    await ran(client, project, "commit", message="m", all=True, **ADA)
    assert (tmp_path / "after").exists()


async def test_the_users_ssh_command_is_taken_and_asks_nobody(trusted, tmp_path):
    client, project, repo = trusted
    ssh = program(tmp_path / "ssh", f'echo "$@" >> {tmp_path}/said; exit 255')
    repo.git("config", "core.sshCommand", f"{ssh} -i key")
    repo.git("remote", "add", "origin", "git@nowhere.invalid:own.git")
    with pytest.raises(AgentcmdError):
        await ran(client, project, "fetch")
    (said,) = {
        line for line in (tmp_path / "said").read_text().splitlines() if "git-upload" in line
    }
    assert said.startswith("-i key -o BatchMode=yes")


@pytest.mark.parametrize(
    ("environ", "configured", "command"),
    [
        ({}, "", "ssh -o BatchMode=yes"),
        ({}, "ssh -i k", "ssh -i k -o BatchMode=yes"),
        ({"GIT_SSH": "/my dir/ssh"}, "", "'/my dir/ssh' -o BatchMode=yes"),
        ({"GIT_SSH": "/a"}, "ssh -v", "ssh -v -o BatchMode=yes"),
        ({"GIT_SSH_COMMAND": "s -x", "GIT_SSH": "/a"}, "ssh", "s -x -o BatchMode=yes"),
        ({"GIT_SSH": "C/plink.exe"}, "", "C/plink.exe -batch"),
    ],
)
def test_ssh_is_chosen_as_git_chooses_it(environ, configured, command):
    assert ssh_command(environ, configured) == command


async def test_a_partial_clone_fetches_what_is_missing(running, tmp_path):
    far = Repo(tmp_path / "far")
    far.git("config", "uploadpack.allowFilter", "true")
    far.git("config", "uploadpack.allowAnySHA1InWant", "true")
    far.commit({"a.txt": "1\n", "b.txt": "b\n"})
    far.commit({"a.txt": "2\n"})
    far.git("branch", "other", "HEAD~1")
    near = Repo(tmp_path / "near")
    url = f"file://{far.path}"
    near.git("clone", "-q", "--filter=blob:none", url, "clone")
    clone = tmp_path / "near" / "clone"
    for key, value in (("user.name", "Ada"), ("user.email", "ada@example.org")):
        near.git("-C", str(clone), "config", key, value)
    far.commit({"a.txt": "3\n", "c.txt": "c\n"})
    async with running.client() as client:
        project = await added(client, clone)
        with pytest.raises(Conflict, match="trust"):
            await ran(client, project, "show", revision="HEAD~1")
        await client.call("project.trust", {"projectId": project})
        shown = await ran(client, project, "show", revision="HEAD~1")
        assert shown["commit"]["subject"] == "a commit"
        assert (await ran(client, project, "blame", path="a.txt"))["lines"]
        await ran(client, project, "switch", branch="other")
        assert (clone / "a.txt").read_text() == "1\n"
        await ran(client, project, "switch", branch="main")
        pulled = await ran(client, project, "pull")
        assert pulled["commits"] == 1
        assert (clone / "c.txt").read_text() == "c\n"
        diff = await ran(client, project, "diff", **{"from": "HEAD~2", "to": "HEAD"})
        assert {file["path"] for file in diff["files"]} == {"a.txt", "c.txt"}
        far.git("switch", "-q", "-c", "side", "HEAD~1")
        far.commit({"d.txt": "d\n", "b.txt": "b\nmore\n"})
        await ran(client, project, "fetch")
        await ran(client, project, "merge", revision="origin/side")
        assert (clone / "d.txt").read_text() == "d\n"
        assert (clone / "b.txt").read_text() == "b\nmore\n"


async def test_a_missing_git_lfs_is_named(trusted, monkeypatch, tmp_path):
    client, project, repo = trusted
    repo.git("config", "filter.lfs.smudge", "git-lfs smudge -- %f")
    repo.git("config", "filter.lfs.process", "git-lfs filter-process")
    repo.git("config", "filter.lfs.clean", "git-lfs clean -- %f")
    repo.git("config", "filter.lfs.required", "true")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("git", "sh", "true", "ssh"):
        found = next(
            (p for d in os.environ["PATH"].split(":") if (p := Path(d, name)).exists()), None
        )
        if found:
            (tools / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tools))
    repo.write(".gitattributes", "*.bin filter=lfs\n")
    repo.write("a.bin", "1\n")
    with pytest.raises(Unavailable, match="git-lfs is not installed"):
        await ran(client, project, "stage", all=True)


async def test_a_hook_that_fails_after_the_switch_is_a_warning(trusted):
    client, project, repo = trusted
    repo.git("branch", "other")
    hook(repo, "post-checkout", "echo no luck >&2; exit 1")
    switched = await ran(client, project, "switch", branch="other")
    assert switched["branch"] == "other"
    assert switched["warnings"] == ["the post-checkout hook failed: no luck"]


async def test_a_hook_that_stops_a_commit_without_a_word_is_named(trusted):
    client, project, repo = trusted
    hook(repo, "commit-msg", "exit 1")
    with pytest.raises(Conflict, match="a hook has stopped the commit, and said nothing"):
        await ran(client, project, "commit", message="m", allowEmpty=True, **ADA)


async def test_a_hook_that_fails_after_a_commit_is_checked_out_is_a_warning(trusted):
    client, project, repo = trusted
    hook(repo, "post-checkout", "exit 1")
    repo.commit({"a.txt": "2\n"})
    done = await ran(client, project, "switch", revision="HEAD~1", detach=True)
    assert "post-checkout hook failed" in done["warnings"][0]
    assert done["commit"] == repo.git("rev-parse", "HEAD").strip()


async def test_a_hook_that_fails_after_a_branch_or_worktree_is_made_is_a_warning(trusted):
    client, project, repo = trusted
    hook(repo, "post-checkout", "echo no luck >&2; exit 41")
    made = await ran(client, project, "branch_create", name="new", switch=True)
    assert made["warnings"] == ["the post-checkout hook failed: no luck"]
    added_ = await ran(client, project, "worktree_add", name="w")
    assert added_["warnings"] == ["the post-checkout hook failed: no luck"]
    assert (Path(added_["worktree"]["path"]) / "a.txt").read_text() == "1\n"


async def test_a_repository_without_a_commit_keeps_nothing_else_from_being_staged(trusted):
    client, project, repo = trusted
    Repo(repo.path / "empty")
    repo.write("new.txt", "1\n")
    staged = await ran(client, project, "stage", all=True)
    assert "empty" in staged["warnings"][0]
    assert repo.git("diff", "--cached", "--name-only") == "new.txt\n"


async def test_words_of_a_remote_have_no_colours_whatever_the_user_likes(trusted, tmp_path):
    client, project, repo = trusted
    far = Repo(tmp_path / "far.git", bare=True)
    hook_ = program(far.path / "hooks" / "post-receive", "echo 'warning: be careful' >&2")
    assert hook_.exists()
    for name in ("remote", "transport", "push", "advice"):
        repo.git("config", f"color.{name}", "always")
    repo.git("remote", "add", "origin", f"file://{far.path}")
    pushed = await ran(client, project, "push", remote="origin", branch="main")
    assert pushed["said"] == ["warning: be careful"]


async def test_the_users_configuration_is_taken_from_where_it_is(trusted, tmp_path, monkeypatch):
    client, project, repo = trusted
    (tmp_path / "mine").write_text("[user]\n\tname = Grace\n\temail = grace@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "mine"))
    await ran(client, project, "commit", message="m", allowEmpty=True)
    assert repo.git("log", "-1", "--format=%an") == "Grace\n"


async def test_a_push_that_a_hook_stops_says_what_the_hook_said(trusted, tmp_path):
    client, project, repo = trusted
    far = Repo(tmp_path / "far.git", bare=True)
    repo.git("remote", "add", "origin", f"file://{far.path}")
    hook(repo, "pre-push", "echo the tests fail >&2; exit 1")
    with pytest.raises(Conflict, match=r"pre-push hook .*the tests fail"):
        await ran(client, project, "push", remote="origin", branch="main")


async def test_a_repository_inside_is_staged_with_a_warning(trusted):
    client, project, repo = trusted
    Repo(repo.path / "inner").commit({"x": "1\n"})
    staged = await ran(client, project, "stage", all=True)
    assert [warning.split()[0] for warning in staged["warnings"]] == ["inner"]
    assert "warnings" not in await ran(client, project, "stage", all=True)


async def test_what_is_not_signed_or_hooked_without_trust_is_said(running, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "1\n"})
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    program(hooks / "pre-commit", "exit 1")
    for key, value in (
        ("user.name", "Ada"),
        ("user.email", "ada@example.org"),
        ("user.signingKey", "none"),
        ("commit.gpgSign", "true"),
        ("tag.gpgSign", "yes"),
        ("core.hooksPath", str(hooks)),
    ):
        repo.git("config", key, value)
    async with running.client() as client:
        project = await added(client, repo.path)
        made = await ran(client, project, "commit", message="m", allowEmpty=True)
        assert (made["signatureSkipped"], made["hooksSkipped"]) == (True, True)
        tag = await ran(client, project, "tag_create", name="v1", message="m")
        assert tag["signatureSkipped"] is True


async def test_a_diff_has_no_colours_whatever_the_user_likes(trusted):
    client, project, repo = trusted
    repo.git("config", "color.diff", "always")
    repo.git("config", "color.status", "always")
    repo.write("a.txt", "2\n")
    (file,) = (await ran(client, project, "diff"))["files"]
    assert "\x1b" not in file["text"]
    assert (await ran(client, project, "status"))["files"][0]["path"] == "a.txt"


def test_no_child_is_sent_to_the_daemons_repository():
    said = subprocess.run(
        ["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not child_environment(dict.fromkeys(said, "x"))


async def test_an_askpass_that_nobody_answers_ends_and_the_queue_goes_on(
    trusted, tmp_path, monkeypatch
):
    monkeypatch.setattr("domains.git.asking.SECONDS", 1)
    client, project, repo = trusted
    asks = program(
        tmp_path / "my askpass", f"env > {tmp_path}/env; echo $$ > {tmp_path}/pid; exec sleep 300"
    )
    repo.git("config", "core.askPass", str(asks))
    async with http_server(tmp_path) as server:
        server.authorised = False
        repo.git("remote", "add", "origin", f"{server.url}/shop.git")
        for operation, args in (
            ("fetch", {}),
            ("pull", {"remote": "origin", "branch": "main"}),
            ("push", {"remote": "origin"}),
            ("clone", {"url": f"{server.url}/shop.git", "path": "sub"}),
        ):
            with pytest.raises(Unavailable, match=r"in time.*answer within 1 s"):
                async with asyncio.timeout(20):
                    await ran(client, project, operation, **args)
        await ran(client, project, "branch_create", name="after")
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert not names & {"GIT_CONFIG_PARAMETERS", "GIT_CEILING_DIRECTORIES"}
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


async def test_an_askpass_that_answers_is_taken_at_its_word(trusted, tmp_path):
    client, project, repo = trusted
    asks = program(tmp_path / "askpass", f'echo "$1" >> {tmp_path}/asked; echo "it\'s"')
    repo.git("config", "core.askPass", str(asks))
    async with http_server(tmp_path) as server:
        server.authorised = False
        repo.git("remote", "add", "origin", f"{server.url}/shop.git")
        with pytest.raises(Unavailable, match="credential helper"):
            await ran(client, project, "fetch")
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[0] for line in asked] == ["Username", "Password"]


async def test_a_remote_that_says_nothing_for_long_is_left(trusted, tmp_path, monkeypatch):
    monkeypatch.setattr("domains.git.work.SILENCE", 1.0)
    client, project, repo = trusted
    repo.git("config", "credential.helper", "!sleep 300 #")
    async with http_server(tmp_path) as server:
        server.authorised = False
        repo.git("remote", "add", "origin", f"{server.url}/shop.git")
        async with asyncio.timeout(20):
            with pytest.raises(Conflict, match="silent"):
                await ran(client, project, "fetch")
            await ran(client, project, "branch_create", name="after")
