"""What the user's configuration has git run sees the environment of the user's own git."""

from __future__ import annotations

import os
from pathlib import Path

import debian
import pytest
from git_servers import http_server
from repositories import ran

from daemon.core.errors import AgentcmdError, Conflict

ADA = {"author": "Ada <ada@example.org>"}

OURS = (
    *("GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT", "GIT_CEILING_DIRECTORIES", "GIT_SSH_COMMAND"),
    *("GIT_ASKPASS", "GIT_SEQUENCE_EDITOR", "GIT_LITERAL_PATHSPECS", "GIT_OPTIONAL_LOCKS"),
)


@pytest.fixture
def trusted(trusted, monkeypatch):
    """The same with the user's own LC_ALL."""
    monkeypatch.setenv("LC_ALL", "POSIX")
    return trusted


def says(path: Path) -> str:
    """Return shell that writes its environment, and what git tells it there, to a file."""
    return f"env > '{path}'; git config --get-all core.quotePath > '{path}.git'"


def require_users_own(path: Path) -> None:
    env = dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
    assert not [name for name in OURS if name in env]
    assert env.get("GIT_EDITOR") != "true"
    assert env["LC_ALL"] == "POSIX"
    assert Path(f"{path}.git").read_text() == ""


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


async def test_filters(trusted, tmp_path):
    client, project, repo = trusted
    repo.git(
        "config", "filter.x.clean", f"{says(tmp_path / 'clean')}; cat; echo '%f' | grep -q a.x"
    )
    repo.git("config", "filter.x.smudge", f"{says(tmp_path / 'smudge')}; cat")
    repo.commit({".gitattributes": "*.x filter=x\n", "a.x": "1\n"})
    for name in ("clean", "smudge"):
        (tmp_path / name).unlink(missing_ok=True)
    repo.write("a.x", "changed\n")
    await ran(client, project, "stage", paths=["a.x"])
    await ran(client, project, "commit", message="m", **ADA)
    repo.write("a.x", "once more\n")
    await ran(client, project, "discard", paths=["a.x"])
    assert (repo.path / "a.x").read_text() == "changed\n"
    for name in ("clean", "smudge"):
        require_users_own(tmp_path / name)


async def test_a_filter_that_fails_is_told_as_the_user_wrote_it(trusted):
    client, project, repo = trusted
    repo.git("config", "filter.x.clean", "no-such-program %f")
    repo.git("config", "filter.x.required", "true")
    repo.commit({".gitattributes": "*.x filter=x\n"})
    repo.write("a.x", "changed\n")
    with pytest.raises(Conflict, match=r"external filter 'no-such-program %f' failed") as refused:
        await ran(client, project, "stage", paths=["a.x"])
    assert "programs" not in f"{refused.value.message} {refused.value.details}"


async def test_git_lfs(trusted, monkeypatch):
    client, project, repo = trusted
    lfs = debian.unpacked("git-lfs") / "usr" / "bin"
    monkeypatch.setenv("PATH", f"{lfs}{os.pathsep}{os.environ['PATH']}")
    for name, value in (
        ("clean", "git-lfs clean -- %f"),
        ("smudge", "git-lfs smudge -- %f"),
        ("process", "git-lfs filter-process"),
        ("required", "true"),
    ):
        repo.git("config", f"filter.lfs.{name}", value)
    repo.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    repo.write("ä.bin", "large\n")
    await ran(client, project, "stage", all=True)
    await ran(client, project, "commit", message="m", **ADA)
    assert repo.git("show", "HEAD:ä.bin").startswith("version https://git-lfs")
    repo.write("ä.bin", "changed\n")
    await ran(client, project, "discard", all=True)
    assert (repo.path / "ä.bin").read_text() == "large\n"


async def test_merge_drivers(trusted, tmp_path):
    client, project, repo = trusted
    repo.git("config", "user.name", "Ada")
    repo.git("config", "user.email", "ada@example.org")
    repo.git("config", "merge.x.driver", f"{says(tmp_path / 'merge')}; cat %B >> %A")
    repo.commit({".gitattributes": "a.txt merge=x\n"})
    repo.git("switch", "-q", "-c", "other")
    repo.commit({"a.txt": "theirs\n"})
    repo.git("switch", "-q", "main")
    repo.commit({"a.txt": "ours\n"})
    await ran(client, project, "merge", revision="other")
    assert (repo.path / "a.txt").read_text() == "ours\ntheirs\n"
    require_users_own(tmp_path / "merge")


async def test_signing_programs(trusted, tmp_path):
    client, project, repo = trusted
    signs = program(
        tmp_path / "my gpg",
        f"{says(tmp_path / 'gpg')}; cat > /dev/null; echo '[GNUPG:] SIG_CREATED ' >&2; echo signed",
    )
    repo.git("config", "gpg.program", str(signs))
    repo.git("config", "commit.gpgSign", "true")
    await ran(client, project, "commit", message="m", allowEmpty=True, **ADA)
    assert "signed" in repo.git("cat-file", "commit", "HEAD")
    require_users_own(tmp_path / "gpg")


async def test_ssh_commands(trusted, tmp_path):
    client, project, repo = trusted
    ssh = program(
        tmp_path / "ssh", f'{says(tmp_path / "said")}; echo "$@" >> {tmp_path}/args; exit 9'
    )
    repo.git("config", "core.sshCommand", f"'{ssh}' -i 'a key'")
    repo.git("remote", "add", "origin", "git@nowhere.invalid:own.git")
    with pytest.raises(AgentcmdError):
        await ran(client, project, "fetch")
    require_users_own(tmp_path / "said")
    (args,) = {line for line in (tmp_path / "args").read_text().splitlines() if "upload" in line}
    assert args.startswith("-i a key -o BatchMode=yes")


async def test_credential_helpers(trusted, tmp_path, monkeypatch):
    client, project, repo = trusted
    (tmp_path / "home").mkdir()
    tools = tmp_path / "tools"
    tools.mkdir()
    program(
        tools / "git-credential-mine", f"{says(tmp_path / 'named')}; echo $1 >> {tmp_path}/asked"
    )
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    by_path = program(tmp_path / "by-path", f"{says(tmp_path / 'path')}")
    async with http_server(tmp_path) as server:
        repo.git("config", "--add", "credential.helper", "!touch never-asked; true")
        repo.git("config", "--add", "credential.helper", "")
        repo.git("config", "--add", "credential.helper", "mine")
        repo.git("config", "--add", f"credential.{server.url}.helper", str(by_path))
        answer = f"!{says(tmp_path / 'shell')}; echo username=ada; echo password=secret; :"
        repo.git("config", "--add", "credential.helper", answer)
        server.authorised = False
        repo.git("remote", "add", "origin", f"{server.url}/shop.git")
        with pytest.raises(AgentcmdError):
            await ran(client, project, "fetch")
    for name in ("named", "path", "shell"):
        require_users_own(tmp_path / name)
    assert (tmp_path / "asked").read_text().splitlines() == ["get", "erase"]
    assert not (repo.path / "never-asked").exists()


async def test_what_a_helper_holds_is_not_kept_on_disk_or_shown(running, trusted, tmp_path):
    client, project, repo = trusted
    repo.git("config", "credential.helper", "!echo password=TOPSECRET; true")
    channel = f"git:project:{project}"
    operation = {"projectId": project, "operation": "branch_create", "args": {"name": "b"}}
    await client.call("git.run", {**operation, "operationId": "once-1"})
    assert repo.git("branch", "--list", "b")
    async with running.http.get(
        f"{running.url}/api/channels/{channel}/history", headers=running.headers()
    ) as answer:
        assert "TOPSECRET" not in await answer.text()
    kept = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert not [path for path in kept if b"TOPSECRET" in path.read_bytes()]
