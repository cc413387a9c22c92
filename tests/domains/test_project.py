"""Projects: which folders may be used, and which project a folder belongs to."""

from __future__ import annotations

import asyncio
import os

import pytest

from daemon.core.channels import is_id
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


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ({}, "path"),
        ({"path": ""}, "relative"),
        ({"path": "."}, "relative"),
        ({"path": "~/x"}, "relative"),
        ({"path": "/tmp/\0"}, "null byte"),
        ({"path": "/" + "x" * 5000}, "too long"),
        ({"path": 7}, "path"),
        ({"path": "/tmp", "name": ""}, "name"),
        ({"path": "/tmp", "name": "x" * 201}, "name"),
        ({"path": "/tmp", "id": "own"}, "there is: path, name"),
    ],
)
async def test_what_cannot_be_a_project_is_refused_with_a_sentence(running, data, match):
    async with running.client() as client:
        with pytest.raises(BadRequest, match=match) as found:
            await client.call("project.add", data)
        assert len(found.value.message) < 400
        assert len((await client.call("project.list"))["projects"]) == 1


async def test_odd_links_and_names_are_answered(running, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "broken").symlink_to(tmp_path / "none")
    odd = tmp_path / os.fsdecode(b"odd\xff")
    odd.mkdir()
    (tmp_path / "to-odd").symlink_to(odd)
    (tmp_path / "fine").mkdir()
    (tmp_path / "fine" / "to-odd").symlink_to(tmp_path / "to-odd")
    (tmp_path / "grün & 'so' weiter").mkdir()
    async with running.client() as client:
        for name in ("loop", "broken", "to-odd", "loop/x"):
            with pytest.raises(BadRequest):
                await client.call("project.add", {"path": str(tmp_path / name)})
        added = await client.call("project.add", {"path": str(tmp_path / "grün & 'so' weiter")})
        assert is_id(added["projectId"])
        assert added["project"]["name"] == "grün & 'so' weiter"
        fine = await client.call("project.add", {"path": str(tmp_path / "fine")})
        with pytest.raises(BadRequest):
            await client.call(
                "session.create",
                {
                    "agent": "command",
                    "argv": ["true"],
                    "projectId": fine["projectId"],
                    "cwd": "to-odd",
                },
            )
        assert (await client.call("session.list"))["sessions"] == []


async def test_the_same_folder_added_at_once_is_one_project(running, tmp_path):
    async with running.client() as client:
        added = await asyncio.gather(
            *(client.call("project.add", {"path": str(tmp_path)}) for _ in range(20))
        )
        assert len({each["projectId"] for each in added}) == 1
        events = [m.type async for m in client.history(f"project:{added[0]['projectId']}")]
        assert events == ["project.created"]


async def test_a_folder_beside_with_the_same_beginning_is_outside(running, tmp_path):
    for name in ("own", "own-not"):
        (tmp_path / name).mkdir()
    async with running.client() as client:
        added = await client.call("project.add", {"path": str(tmp_path / "own")})
        create = {"agent": "command", "argv": ["true"]}
        with pytest.raises(NotFound):
            await client.call("session.create", {**create, "cwd": str(tmp_path / "own-not")})
        with pytest.raises(BadRequest, match="outside"):
            await client.call(
                "session.create",
                {**create, "projectId": added["projectId"], "cwd": str(tmp_path / "own-not")},
            )


async def test_what_happens_to_a_project_is_told_on_its_channel(running, tmp_path):
    (tmp_path / "own").mkdir()
    ws = await running.ws()
    await ws.call("subscribe", channel="project:*")
    async with running.client() as client:
        added = await client.call("project.add", {"path": str(tmp_path / "own")})
        id_ = added["projectId"]
        await client.call("project.add", {"path": str(tmp_path / "own"), "name": "new"})
        await client.call("project.remove", {"projectId": id_})
        with pytest.raises(NotFound):
            await client.call("project.remove", {"projectId": id_})
    told = [await ws.next() for _ in range(3)]
    assert [m["type"] for m in told] == ["project.created", "project.updated", "project.removed"]
    assert [m["offset"] for m in told] == [1, 2, 3]
    assert {m["channel"] for m in told} == {f"project:{id_}"}
    assert {m["data"]["projectId"] for m in told} == {id_}
    answer = await ws.call("subscribe", {"since": 0}, channel=f"project:{id_}")
    assert answer["data"]["recovered"] is True  # what was told of it stays readable


async def test_a_project_is_renamed_and_trusted_for_good(daemon_process, tmp_path):
    daemon_process.start()
    async with daemon_process.client() as client:
        about = {
            "projectId": (await client.call("project.add", {"path": str(tmp_path)}))["projectId"]
        }
        renamed = await client.call("project.rename", {**about, "name": "another"})
        assert renamed["project"]["name"] == "another"
        assert "trusted" not in renamed["project"]
        await client.call("project.trust", about)
        for name in ("", "a" * 201, "two\nlines", "\x1b[2J"):
            with pytest.raises(BadRequest, match="1 to 200"):
                await client.call("project.rename", {**about, "name": name})
        told = [m async for m in client.history(f"project:{about['projectId']}")]
    assert [m.type for m in told] == ["project.created", "project.updated", "project.updated"]
    daemon_process.kill()
    daemon_process.start()
    async with daemon_process.client() as client:
        project = (await client.call("project.get", about))["project"]
        assert (project["name"], project["trusted"]) == ("another", True)
        await client.call("project.trust", {**about, "trusted": False})
        assert "trusted" not in (await client.call("project.get", about))["project"]


async def test_what_can_be_done_in_a_project_is_looked_up(start_daemon, tmp_path):
    agent = tmp_path / "bin" / "claude"
    agent.parent.mkdir()
    agent.touch(0o755)
    workflows = tmp_path / "own" / ".agent" / "workflows"
    (workflows / "more").mkdir(parents=True)
    for name in ("ship.yaml", "more/check.py", "notes.txt"):
        (workflows / name).touch()
    running = await start_daemon(AGENTS__CLAUDE__PATH=str(agent))
    async with running.client() as client:
        about = {
            "projectId": (await client.call("project.add", {"path": str(tmp_path / "own")}))[
                "projectId"
            ]
        }
        found = await client.call("project.capabilities", about)
        assert found == {
            **about,
            "git": False,
            "workflows": ["more/check.py", "ship.yaml"],
            "agents": ["claude", "command"],
        }
        (tmp_path / "own" / ".git").mkdir()
        agent.unlink()
        workflows.rename(tmp_path / "elsewhere")
        workflows.symlink_to(tmp_path / "elsewhere")
        found = await client.call("project.capabilities", about)
        assert (found["git"], found["agents"]) == (True, ["command"])
        assert found["workflows"] == []  # nothing outside of the project is looked at
