"""agentcmd project: the root folders from the shell."""

from __future__ import annotations

import json

import pytest


@pytest.mark.usefixtures("serving")
def test_projects_are_added_listed_and_removed(agentcmd, tmp_path, folder):
    added = agentcmd("project", "add", str(tmp_path), "--name", "here").stdout.decode().strip()
    relative = agentcmd("project", "add", ".").stdout.decode().strip()
    assert agentcmd("project", "add", ".").stdout.decode().strip() == relative
    listed = json.loads(agentcmd("project", "list", "--json").stdout)
    paths = {each["id"]: (each["name"], each["path"]) for each in listed}
    assert paths[added] == ("here", str(tmp_path))
    assert paths[relative] == ("folder", str(folder))
    table = agentcmd("project", "list").stdout.decode().splitlines()
    assert table[0].split() == ["ID", "NAME", "TRUSTED", "PATH"]
    assert len(table) == 4  # the scratch project is there too
    agentcmd("project", "rename", added, "there")
    agentcmd("project", "trust", added)
    shown = json.loads(agentcmd("project", "show", added, "--json").stdout)
    assert (shown["name"], shown["trusted"], shown["git"]) == ("there", True, False)
    agentcmd("project", "trust", added, "--no")
    shown = dict(
        line.split(maxsplit=1)
        for line in agentcmd("project", "show", added).stdout.decode().splitlines()
    )
    assert (shown["trusted"], shown["workflows"], shown["agents"]) == ("no", "none", "command")
    done = agentcmd("project", "remove", added)
    assert (done.returncode, done.stdout) == (0, b"")
    assert added not in agentcmd("project", "list").stdout.decode()


@pytest.mark.usefixtures("serving")
def test_what_cannot_be_is_one_line(agentcmd):
    for line, code, told in (
        (("add", "nowhere"), 2, b"nowhere"),
        (("remove", "none"), 1, b"agentcmd project list"),
        (("remove", "scratch"), 1, b"scratch"),
    ):
        done = agentcmd("project", *line)
        assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (code, b"", 1), line
        assert told in done.stderr
