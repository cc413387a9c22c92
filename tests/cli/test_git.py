"""agentcmd git: operations in the project of the folder one is in."""

from __future__ import annotations

import json

import pytest
from repositories import Repo

pytestmark = pytest.mark.usefixtures("serving")


def out(done):
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_status_diff_commit_and_log_are_those_of_the_repository_here(agentcmd, folder):
    repo = Repo(folder)
    repo.commit({"a": "one\n", "gone": "x\n"}, "first")
    repo.write("a", "two\n")
    repo.write("new", "n\n")
    (folder / "gone").unlink()
    lines = out(agentcmd("git", "status")).splitlines()
    assert lines == ["## main", " M a", " D gone", "?? new"]
    assert "+two" in out(agentcmd("git", "diff", "a"))
    assert out(agentcmd("git", "diff", "--stat", "a")) == "M a  +1 -1\n"
    env = {
        f"GIT_{role}_{what}": "a@b"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    for name, value in env.items():
        repo.git("config", "user.name", value)
        repo.git("config", "user.email", value)
        del name
    made = json.loads(out(agentcmd("git", "commit", "-a", "-m", "second", "--json")))
    assert made["commit"] == repo.git("rev-parse", "HEAD").strip()
    first, second = out(agentcmd("git", "log", "-n", "2")).splitlines()
    assert first.endswith("(main, HEAD): second") or "second" in first
    assert second.endswith("first")
    assert len(json.loads(out(agentcmd("git", "log", "HEAD", "new", "--json")))["commits"]) == 0


def test_any_operation_goes_by_its_name(agentcmd, folder):
    repo = Repo(folder)
    repo.commit({"a": "one\n"})
    out(agentcmd("git", "branch_create", "name=topic", "switch=true"))
    assert repo.git("branch", "--show-current") == "topic\n"
    listed = out(agentcmd("git", "branch_list"))
    assert "name=topic" in listed
    assert out(agentcmd("git", "list")) == ""


def test_a_clone_becomes_a_project_and_its_commits_are_pushed(agentcmd, folder):
    origin = Repo(folder.parent / "origin.git", bare=True)
    source = Repo(folder.parent / "source")
    source.commit({"a": "one\n"})
    source.git("push", "-q", str(origin.path), "main")
    out(agentcmd("git", "clone", str(origin.path)))
    assert (folder / "origin" / "a").read_text() == "one\n"
    projects = json.loads(out(agentcmd("project", "list", "--json")))
    (project,) = [p["id"] for p in projects if p["path"] == str(folder / "origin")]
    again = agentcmd("git", "clone", str(origin.path))
    assert b"is not empty" in again.stderr
    assert project in out(agentcmd("project", "list"))  # as it was before
    origin.path.rename(folder / "50%41 #.git")
    assert "head" in out(agentcmd("git", "clone", "50%41 #.git", "odd"))
    (folder / "50%41 #.git").rename(origin.path)
    out(agentcmd("git", "fetch", "--project", project))
    out(agentcmd("git", "push", "origin", "--project", project))


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        (("status",), 1, b"no git repository"),
        (("frobnicate", "--project", "scratch"), 2, b"there is no operation"),
        (("init", "bare"), 2, b"NAME=VALUE"),
        (("init", "bare=true"), 2, b"args are: branch"),
        (("clone", "ext::sh -c id"), 2, b"url"),
        (("clone", "/no/such"), 1, b"no repository"),
        (("clone", "https://host/.."), 2, b"say the folder"),
        (("status", "--project", "none"), 1, b"no project"),
    ],
)
def test_what_cannot_be_is_one_line(agentcmd, folder, line, code, told):
    done = agentcmd("git", *line)
    assert (done.returncode, done.stdout) == (code, b""), done
    assert told in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert not list(folder.iterdir())
    if line == ("status",):  # to look somewhere does not make that a project
        assert str(folder) + "\n" not in out(agentcmd("project", "list"))
