"""Projects: which folders may be used, and which project a folder belongs to."""

from __future__ import annotations

import pytest

from daemon.core.errors import AgentcmdError, BadRequest, Conflict, NotFound


async def test_a_folder_is_added_once_with_its_links_resolved(running, tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    async with running.client() as client:
        first = await client.call("project.add", {"path": str(real)})
        again = await client.call("project.add", {"path": str(link), "name": "named"})
        listed = (await client.call("project.list"))["projects"]
        got = await client.call("project.get", {"projectId": first["projectId"]})
        events = [m.type async for m in client.history(f"project:{first['projectId']}")]
    assert again["projectId"] == first["projectId"]
    assert first["project"]["path"] == str(real)
    assert got["project"]["name"] == "named"
    assert {p["id"] for p in listed} == {"scratch", first["projectId"]}
    assert events == ["project.created", "project.updated"]


@pytest.mark.parametrize(
    ("path", "error"),
    [("relative", BadRequest), ("/no/such", BadRequest), ("/etc/passwd", BadRequest)],
)
async def test_what_is_no_folder_is_refused(running, path, error):
    async with running.client() as client:
        with pytest.raises(error):
            await client.call("project.add", {"path": path})


async def test_removing_forgets_the_project_and_touches_no_file(running, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "file").touch()
    async with running.client() as client:
        added = await client.call("project.add", {"path": str(tmp_path / "own")})
        await client.call("project.remove", {"projectId": added["projectId"]})
        with pytest.raises(NotFound):
            await client.call("project.get", {"projectId": added["projectId"]})
        with pytest.raises(Conflict):
            await client.call("project.remove", {"projectId": "scratch"})
    assert (tmp_path / "own" / "file").exists()


async def test_a_session_runs_inside_its_project_only(running, tmp_path):
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (outer / "way-out").symlink_to(tmp_path / "elsewhere")
    create = {"agent": "command", "argv": ["true"]}
    async with running.client() as client:
        one = (await client.call("project.add", {"path": str(outer)}))["projectId"]
        two = (await client.call("project.add", {"path": str(inner)}))["projectId"]
        for place, project, folder in (
            ({"projectId": one}, one, outer),
            ({"projectId": one, "cwd": "inner"}, one, inner),
            ({"cwd": str(inner)}, two, inner),
            ({"cwd": str(outer)}, one, outer),
            ({}, "scratch", running.daemon.state_dir / "scratch"),
        ):
            made = (await client.call("session.create", {**create, **place}))["session"]
            assert (made["projectId"], made["cwd"]) == (project, str(folder))
        for place in (
            {"projectId": one, "cwd": "/etc"},
            {"projectId": one, "cwd": ".."},
            {"projectId": one, "cwd": "way-out"},
            {"projectId": one, "cwd": "none"},
            {"cwd": str(tmp_path / "elsewhere")},
            {"projectId": "none"},
        ):
            with pytest.raises((BadRequest, NotFound)):
                await client.call("session.create", {**create, **place})


async def test_projects_outlive_the_daemon(daemon_process, tmp_path):
    daemon_process.start()
    async with daemon_process.client() as client:
        added = await client.call("project.add", {"path": str(tmp_path)})
    daemon_process.kill()
    daemon_process.start()
    async with daemon_process.client() as client:
        assert (await client.call("project.get", {"projectId": added["projectId"]})) == added


async def test_a_project_that_vanished_says_so(running, tmp_path):
    (tmp_path / "own").mkdir()
    async with running.client() as client:
        added = await client.call("project.add", {"path": str(tmp_path / "own")})
        (tmp_path / "own").rmdir()
        with pytest.raises(AgentcmdError, match="cannot be used"):
            await client.call(
                "session.create",
                {"agent": "command", "argv": ["true"], "projectId": added["projectId"]},
            )
