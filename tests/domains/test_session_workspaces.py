"""What agents do to files: checkpoints before turns, and workspaces of their own."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from model import script
from repositories import Repo, added, ran
from support import until

from daemon.core.errors import BadRequest, Conflict, NotFound
from domains.git.checkpoints import Checkpoints


def does(command):
    """Make a turn that runs a command, and says so."""
    return script([{"tool": "Bash", "input": {"command": command}}], [{"text": "Done."}])


class Talk:
    """A conversation whose agent may run everything."""

    def __init__(self, client, created):
        self.client, self.id, self.session = client, created["sessionId"], created["session"]
        self.messages = client.subscribe(f"session:{self.id}", since=0)
        self.seen = []

    @classmethod
    async def begin(cls, client, command, **data):
        request = {"agent": "claude", "prompt": does(command), "allowedTools": ["Bash"], **data}
        return cls(client, await client.call("session.create", {"keepAlive": True, **request}))

    async def until(self, *types):
        async with asyncio.timeout(30):
            async for message in self.messages:
                self.seen.append(message)
                if message.type in types:
                    return message.data
        raise AssertionError(types)

    async def say(self, command):
        await self.call("send_message", content=does(command))
        return await self.until("session.turn_completed")

    async def call(self, verb, **data):
        return await self.client.call(f"session.{verb}", {"sessionId": self.id, **data})

    async def end(self):
        await self.call("cancel")
        await self.until("session.cancelled")


def standing(repo):
    """Tell what no checkpoint may touch."""
    return (
        (repo.path / ".git" / "index").read_bytes(),
        repo.git("rev-parse", "HEAD"),
        repo.git("for-each-ref", "refs/heads", "refs/tags", "refs/stash"),
    )


async def test_each_turn_is_compared_and_restored_and_that_undone(start_daemon, claude, tmp_path):
    running = await start_daemon(**claude)
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "one\n", "gone": "x\n", ".gitignore": "ignored\n"})
    repo.write("staged", "s\n")
    repo.git("add", "staged")
    before = standing(repo)
    async with running.client() as client:
        project = await added(client, repo.path)
        talk = await Talk.begin(client, "echo two >> a; echo new > b", projectId=project)
        assert (await talk.until("session.turn_completed"))["turn"] == 1
        assert (await talk.say("rm gone; git mv a moved; echo i > ignored"))["turn"] == 2
        after_turns = standing(repo)
        first, second = [await talk.call("diff", turn=number) for number in (1, 2)]
        assert (await talk.call("diff"))["patch"] == second["patch"]
        assert [(each["path"], each["status"]) for each in first["files"]] == [
            ("a", "modified"),
            ("b", "added"),
        ]
        assert (first["files"][0]["additions"], first["files"][0]["deletions"]) == (1, 0)
        assert "+two" in first["patch"]
        told = {each["path"]: (each["status"], each.get("oldPath")) for each in second["files"]}
        assert told == {"gone": ("deleted", None), "moved": ("renamed", "a")}
        restored = await talk.call("restore", turn=1)
        assert restored["written"] >= 2
        assert (repo.path / "a").read_text() == "one\n"
        assert (repo.path / "gone").read_text() == "x\n"
        assert not (repo.path / "b").exists()
        assert not (repo.path / "moved").exists()
        assert (repo.path / "ignored").exists()
        await talk.call("restore", undo=True)
        assert (repo.path / "moved").read_text() == "one\ntwo\n"
        assert not (repo.path / "gone").exists()
        assert standing(repo)[1:] == after_turns[1:] == before[1:]
        with pytest.raises(BadRequest, match="2 turns"):
            await talk.call("diff", turn=3)
        with pytest.raises(BadRequest, match="not both"):
            await talk.call("restore", turn=1, undo=True)
        await talk.end()
        assert (await talk.call("diff", turn=1))["files"] == first["files"]


async def test_nothing_is_restored_while_another_agent_works_on_the_same_files(
    start_daemon, claude, tmp_path
):
    running = await start_daemon(**claude)
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "one\n"})
    async with running.client() as client:
        project = await added(client, repo.path)
        first = await Talk.begin(client, "echo 1 > first", projectId=project)
        await first.until("session.turn_completed")
        wait = f"echo 2 > second; until [ -e {tmp_path}/go ]; do sleep 0.05; done"
        second = await Talk.begin(client, wait, projectId=project)
        await until((repo.path / "second").exists)
        with pytest.raises(Conflict, match=second.id):
            await first.call("restore")
        (tmp_path / "go").touch()
        await second.until("session.turn_completed")
        assert (await first.call("restore"))["removed"] == 2


async def test_a_turn_begins_when_the_restore_before_it_is_done(start_daemon, claude, tmp_path):
    running = await start_daemon(**claude)
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "one\n"})
    wait = f"touch {tmp_path}/slow; until [ -e {tmp_path}/go ]; do sleep 0.05; done"
    hook = repo.write(".git/hooks/pre-commit", f"#!/bin/sh\n{wait}\nfalse\n")
    hook.chmod(0o755)
    async with running.client() as client:
        project = await added(client, repo.path)
        await client.call("project.trust", {"projectId": project})
        talk = await Talk.begin(client, "echo 1 > first", projectId=project)
        await talk.until("session.turn_completed")
        commit = {"message": "m", "allowEmpty": True, "author": "A <a@b>"}
        slow = asyncio.ensure_future(ran(client, project, "commit", **commit))
        await until((tmp_path / "slow").exists)
        restoring = asyncio.ensure_future(talk.call("restore"))  # it waits for its turn
        await asyncio.sleep(0)
        said = asyncio.ensure_future(talk.say("echo 2 > second"))
        with pytest.raises(Conflict, match="restore of these files is under way"):
            await talk.call("restore")
        (tmp_path / "go").touch()
        assert (await restoring)["removed"] == 1
        assert (await said)["turn"] == 2
        with pytest.raises(Conflict):
            await slow
        assert sorted(path.name for path in repo.path.iterdir()) == [".git", "a", "second"]
        await talk.end()


async def test_where_there_is_no_repository_turns_go_on_without(start_daemon, claude, tmp_path):
    running = await start_daemon(**claude)
    (tmp_path / "own").mkdir()
    async with running.client() as client:
        project = await added(client, tmp_path / "own")
        talk = await Talk.begin(client, "echo hi > file", projectId=project)
        await talk.until("session.turn_completed")
        assert not [m for m in talk.seen if "checkpoint" in str(m.data)]
        with pytest.raises(Conflict, match="no git repository"):
            await talk.call("diff")
        with pytest.raises(Conflict, match="no git repository"):
            await Talk.begin(client, "true", projectId=project, workspace="worktree")
        with pytest.raises(Conflict, match="no git repository"):
            await Talk.begin(client, "true", projectId=project, workspace="branch")
        await talk.end()


async def test_much_that_is_new_is_not_copied_and_the_turn_is_told(start_daemon, claude, tmp_path):
    running = await start_daemon(**claude)
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "one\n"})
    with (repo.path / "large").open("wb") as file:
        file.truncate(65 << 20)
    async with running.client() as client:
        talk = await Talk.begin(client, "true", projectId=await added(client, repo.path))
        await talk.until("session.turn_completed")
        said = [m.data["content"] for m in talk.seen if m.type == "session.stream_output"]
        assert any("no checkpoint" in each and "65 MiB" in each for each in said)
        with pytest.raises(NotFound, match="no checkpoint"):
            await talk.call("diff")
        await talk.end()


async def test_a_turn_begins_though_its_checkpoint_fails(start_daemon, claude, monkeypatch):
    async def failing(*_):
        raise OSError("as no code has foreseen")

    monkeypatch.setattr(Checkpoints, "take", failing)
    running = await start_daemon(**claude)
    async with running.client() as client:
        talk = await Talk.begin(client, "true")
        await talk.until("session.turn_completed")
        said = [m.data["content"] for m in talk.seen if m.type == "session.stream_output"]
        assert any("no checkpoint" in each for each in said)
        await talk.end()


async def run(client, project, argv, **data):
    """Run a command as a session, to its end and to what became of its workspace."""
    request = {"agent": "command", "projectId": project, "argv": argv, **data}
    created = await client.call("session.create", request)
    return created["session"]


async def released(client, session):
    async with asyncio.timeout(30):
        async for message in client.subscribe(f"session:{session['id']}", since=0):
            if message.type == "session.workspace_released":
                return message.data
    return None


async def test_a_worktree_that_nobody_needs_is_removed_with_its_branch(running, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit({"sub/a": "one\n"})
    async with running.client() as client:
        project = await added(client, repo.path)
        session = await run(
            client, project, ["sh", "-c", "pwd; cat a"], workspace="worktree", cwd="sub"
        )
        place = session["workspace"]
        assert (place["kind"], place["branch"]) == ("worktree", f"agentcmd/{session['id']}")
        assert session["cwd"] == f"{place['path']}/sub"
        assert not Path(place["path"]).is_relative_to(repo.path)
        told = await released(client, session)
        assert (told["removed"], told["path"]) == (True, place["path"])
        kept = (await client.call("session.get", {"sessionId": session["id"]}))["session"]
        assert kept["workspace"]["removed"]
        repo.write("new/x", "x\n")
        with pytest.raises(Conflict, match="new is in no commit"):
            await run(client, project, ["true"], workspace="worktree", cwd="new")
    assert not Path(place["path"]).exists()
    assert repo.git("branch", "--list", "agentcmd/*") == ""
    assert repo.git("worktree", "list").count("\n") == 1


async def test_a_worktree_goes_when_its_command_is_started_no_more(running, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "one\n"})
    async with running.client() as client:
        project = await added(client, repo.path)
        for restart in ({"delay": 0.01, "maxRestarts": 1}, {"delay": 60}):
            session = await run(client, project, ["false"], workspace="worktree", restart=restart)
            assert Path(session["workspace"]["path"]).exists()
            async with asyncio.timeout(30):
                async for message in client.subscribe(f"session:{session['id']}", since=0):
                    if message.type == "session.restarting" and restart["delay"] == 60:
                        await client.call("session.cancel", {"sessionId": session["id"]})
                    if message.type == "session.workspace_released":
                        break
            assert message.data["removed"]
            assert not Path(session["workspace"]["path"]).exists()


@pytest.mark.parametrize(
    ("work", "why"),
    [
        ("echo new > b", "untracked|changes|changed"),
        ("echo x > a; git commit -qam w", "no other branch"),
    ],
    ids=["dirty", "unmerged"],
)
async def test_a_worktree_with_work_in_it_stays_and_says_why(running, tmp_path, work, why):
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "one\n"})
    env = {
        name: value
        for role in ("AUTHOR", "COMMITTER")
        for name, value in ((f"GIT_{role}_NAME", "A"), (f"GIT_{role}_EMAIL", "a@b"))
    }
    async with running.client() as client:
        project = await added(client, repo.path)
        session = await run(client, project, ["sh", "-c", work], workspace="worktree", env=env)
        told = await released(client, session)
        assert not told["removed"]
        assert re.search(why, told["reason"]), told
    assert Path(session["workspace"]["path"], "a").exists()
    assert (repo.path / "a").read_text() == "one\n"


async def test_a_branch_is_made_and_the_project_switched_to_it(running, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "one\n"})
    async with running.client() as client:
        project = await added(client, repo.path)
        session = await run(client, project, ["true"], workspace="branch")
        assert session["workspace"]["branch"] == f"agentcmd/{session['id']}"
        assert repo.git("branch", "--show-current").strip() == f"agentcmd/{session['id']}"
        assert session["cwd"] == str(repo.path)


async def test_a_conversation_goes_on_in_its_worktree_though_it_was_removed(
    start_daemon, claude, tmp_path
):
    running = await start_daemon(**claude)
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "one\n"})
    async with running.client() as client:
        project = await added(client, repo.path)
        talk = await Talk.begin(
            client, "cat a", projectId=project, workspace="worktree", keepAlive=False
        )
        path = Path(talk.session["workspace"]["path"])
        assert (await talk.until("session.workspace_released"))["removed"]
        assert not path.exists()
        assert (await talk.call("diff"))["files"] == []
        said = [talk.call("send_message", content=does(each)) for each in ("echo two >> a", "true")]
        await asyncio.gather(*said)  # both to one process
        await talk.until("session.turn_completed")
        await talk.until("session.turn_completed")
        diff = await talk.call("diff", turn=2)
        assert [(each["path"], each["additions"]) for each in diff["files"]] == [("a", 1)]
        assert not (await talk.until("session.workspace_released"))["removed"]
    assert (path / "a").read_text() == "one\ntwo\n"
    assert (repo.path / "a").read_text() == "one\n"


async def test_a_worktree_of_a_session_that_was_lost_is_judged_at_the_next_start(
    daemon_process, tmp_path
):
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "one\n"})
    await asyncio.to_thread(daemon_process.start)
    async with daemon_process.client() as client:
        project = await added(client, repo.path)
        session = await run(client, project, ["sleep", "60"], workspace="worktree")
        await until(lambda: Path(session["cwd"]).exists())
        daemon_process.kill()
    await asyncio.to_thread(daemon_process.start)
    async with daemon_process.client() as client:
        assert (await released(client, session))["removed"]
    assert not Path(session["cwd"]).exists()
