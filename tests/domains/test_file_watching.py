"""The live watcher: what it reports is what changed, to all who watch, as long as somebody does."""

from __future__ import annotations

import asyncio
import os
import shutil

import pytest
from repositories import Repo, added
from watches import ears, listeners, settled, until, watching

from daemon.core.errors import NotFound, TooLarge, Unavailable
from domains.file import watcher
from domains.file.ears import Ear


@pytest.fixture(autouse=True)
async def _nobody_listens_yet():
    """What an earlier test's daemon has let go of is gone before anything is counted."""
    await until(lambda: (listeners(), ears()) == (0, 0))


async def test_every_kind_of_change_is_told_once_to_all_who_watch(running, tmp_path):
    root = tmp_path / "own"
    Repo(root).commit({"old.txt": "1", "gone.txt": "", "dir/inner.txt": ""})
    one = await watching(running, root)
    two = await watching(running, root)
    assert one.state["byGit"]
    assert one.state["watching"]
    assert listeners() == 2  # one for the tree, one for the git dir

    (root / "passing").touch()
    (root / "passing").unlink()
    (root / "new.txt").write_text("x")
    (root / "old.txt").write_text("2")
    (root / "gone.txt").unlink()
    (root / "dir").rename(root / "moved")
    wanted = {
        "new.txt": "added",
        "old.txt": "modified",
        "gone.txt": "deleted",
        "dir": "deleted",
        "dir/inner.txt": "deleted",
        "moved": "added",
        "moved/inner.txt": "added",
    }
    assert await one.took(wanted) == await two.took(wanted) == wanted
    assert one.events == two.events

    (root / "moved" / "inner.txt").write_text("in a folder of another name")
    assert await one.took({"moved/inner.txt": "modified"}) == {"moved/inner.txt": "modified"}
    (root / "moved").rename(root / "dir")
    (root / "dir").rename(root / "moved")  # there and back: its watch has gone meanwhile
    await settled(one, root)
    (root / "moved" / "inner.txt").write_text("and back again")
    assert "moved/inner.txt" in await one.took({"moved/inner.txt": "modified"})
    (root / "new.txt").chmod(0o755)
    await one.took({"new.txt": "modified"})


async def test_the_last_who_leaves_ends_the_watch_and_leaves_nothing(running, tmp_path):
    root = tmp_path / "own"
    Repo(root).commit({"a/b.txt": ""})
    before = listeners(), ears()
    one = await watching(running, root)
    two = await watching(running, root)
    assert (await one.unwatch())["watching"] is True
    (root / "c").touch()
    await two.until(c="added")
    assert (await two.unwatch())["watching"] is False
    await until(lambda: (listeners(), ears()) == before)

    await one.socket.send("file.watch", {"projectId": one.project})
    await one.socket.raw.close()  # before the command has begun
    one = await watching(running, root)
    assert (await one.unwatch())["watching"] is False
    await until(lambda: (listeners(), ears()) == before)
    await one.watch()
    assert ears() > before[1]
    await one.socket.raw.close()
    await until(lambda: (listeners(), ears()) == before)

    headers = running.headers()
    url = f"{running.url}/api/files/{one.project}"
    async with running.http.post(f"{url}/watch", headers=headers, json={}) as answer:
        assert answer.status == 200, await answer.text()
    (root / "d").touch()
    await two.until(d="added")
    async with running.http.post(f"{url}/unwatch", headers=headers, json={}) as answer:
        assert (await answer.json())["watching"] is False
    await until(lambda: (listeners(), ears()) == before)

    await two.watch()
    await two.socket.call("project.remove", {"projectId": two.project})
    await until(lambda: (listeners(), ears()) == before)


async def test_a_watch_asked_for_over_http_lasts_as_long_as_somebody_follows(
    start_daemon, tmp_path
):
    running = await start_daemon(FILE__WATCH_HOLD="0.2", FILE__WATCH_PROJECTS="1")
    root, other = tmp_path / "own", tmp_path / "other"
    Repo(root), Repo(other)
    socket = await running.ws()
    project = (await socket.call("project.add", {"path": str(root)}))["data"]["projectId"]
    second = (await socket.call("project.add", {"path": str(other)}))["data"]["projectId"]
    await socket.call("subscribe", channel=f"file:project:{project}")
    before = ears()
    async with running.client() as client:
        with pytest.raises(NotFound):
            await client.call("file.watch", {"projectId": "none"})
    url = f"{running.url}/api/files/{project}/watch"
    async with running.http.post(url, headers=running.headers(), json={}) as answer:
        assert answer.status == 200
    refused = await socket.call("file.watch", {"projectId": second})
    assert refused["data"]["code"] == "unavailable"
    assert "watch_projects" in refused["data"]["message"]
    await asyncio.sleep(0.5)  # longer than it would last
    assert ears() > before
    await socket.call("unsubscribe", channel=f"file:project:{project}")
    await until(lambda: ears() == before)


async def test_what_git_ignores_is_not_told_and_rules_may_change(running, tmp_path):
    root = tmp_path / "own"
    repo = Repo(root)
    repo.write("build/keep.txt", "tracked though it is ignored")
    repo.write("node_modules/a/b/c.js")
    repo.write(".gitignore", "build/\nnode_modules/\n*.log\n")
    repo.git("add", "-f", "build/keep.txt", ".gitignore")
    repo.git("commit", "-qm", "first")
    view = await watching(running, root)
    assert view.state["folders"] == 2
    (root / "x.log").touch()
    (root / "build" / "other").touch()
    (root / "node_modules" / "a" / "d.js").touch()
    (root / "sub" / "node_modules" / "x").mkdir(parents=True)
    (root / "sub" / "y.log").touch()
    (root / "sub" / "y.txt").touch()
    (root / "build" / "keep.txt").write_text("another")
    wanted = {"sub": "added", "sub/y.txt": "added", "build/keep.txt": "modified"}
    assert await view.took(wanted) == wanted
    assert not view.overflows

    (root / ".gitignore").write_text("build/\nnode_modules/\n*.txt\n")
    while not view.overflows:  # x.log is to be seen now, and sub/y.txt is not
        await view.next()
    view.net.clear()
    (root / "x.log").write_text("2")
    (root / "sub" / "y.txt").write_text("2")
    (root / "build" / "keep.txt").write_text("3")
    assert await view.took({"x.log": "modified", "build/keep.txt": "modified"}) == {
        "x.log": "modified",
        "build/keep.txt": "modified",
    }

    repo.git("add", "-f", "sub/y.txt")
    view.overflows = 0
    while not view.overflows:  # tracked from now on
        await view.next()
    (root / "sub" / "y.txt").write_text("333")
    await view.took({"sub/y.txt": "modified"})
    (root / ".git" / "info").mkdir(exist_ok=True)
    view.overflows = 0
    (root / ".git" / "info" / "exclude").write_text("*.log\n")
    while not view.overflows:
        await view.next()
    (root / "x.log").write_text("4")
    assert await settled(view, root) == {}


async def test_folders_made_at_once_with_their_files_lose_none(running, tmp_path):
    root = tmp_path / "own"
    Repo(root).commit({"first": ""})
    view = await watching(running, root)
    wanted = {}
    for number in range(120):
        folder = root / f"n{number}" / "b" / "c"
        folder.mkdir(parents=True)
        (folder / "f").touch()
        for path in (folder / "f", folder, folder.parent, folder.parent.parent):
            wanted[str(path.relative_to(root))] = "added"
        if number % 20 == 0:
            await asyncio.sleep(0.06)  # in several looks
    assert await view.took(wanted) == wanted
    for number in range(120):
        (root / f"n{number}" / "b" / "c" / "g").touch()
    late = {f"n{number}/b/c/g": "added" for number in range(120)}
    assert await view.took(late) == late
    shutil.rmtree(root / "n0")
    (root / "n0" / "b" / "c").mkdir(parents=True)  # perhaps with the same inodes
    await settled(view, root)
    (root / "n0" / "b" / "c" / "again").touch()
    await view.took({"n0/b/c/again": "added"})


async def test_names_of_any_bytes_are_told_as_well_as_they_can_be(running, tmp_path):
    root = tmp_path / "own"
    Repo(root).commit({"first": ""})
    view = await watching(running, root)
    (root / "a\nb").write_text("")
    (root / "grün").mkdir()
    (root / "grün" / "ü\tx").touch()
    await view.took({"a\nb": "added", "grün/ü\tx": "added"})
    (root / "plain").mkdir()
    (root / os.fsdecode(b"d\xff")).mkdir()
    (root / os.fsdecode(b"plain/f\xfe")).write_text("1")
    (root / os.fsdecode(b"d\xff/inner")).write_text("1")
    await view.took({"d�/inner": "added", "plain/f�": "added"})
    (root / os.fsdecode(b"d\xff/inner")).write_text("22")
    (root / "plain" / "beside").touch()
    (root / "first").write_text("all else is still heard")
    wanted = {"d�/inner": "modified", "plain/beside": "added", "first": "modified"}
    await view.took(wanted)
    (root / os.fsdecode(b"plain/f\xfe")).unlink()
    shutil.rmtree(root / os.fsdecode(b"d\xff"))
    await view.took({"plain/f�": "deleted", "d�": "deleted"})
    (root / "plain" / "after").touch()
    await view.took({"plain/after": "added"})


async def test_a_checkout_and_a_commit_are_told_as_files_and_as_a_status(running, tmp_path):
    root = tmp_path / "own"
    repo = Repo(root)
    repo.commit({f"d{n % 40}/f{n}": "main" for n in range(800)})
    repo.git("checkout", "-qb", "feature/other")
    for number in range(0, 800, 2):
        repo.write(f"d{number % 40}/f{number}", "other text")
    shutil.rmtree(root / "d1")
    repo.commit({"new/one/two": ""})
    repo.git("checkout", "-q", "main")
    view = await watching(running, root)
    await view.socket.call("subscribe", channel=f"git:project:{view.project}")
    wanted = {f"d{n % 40}/f{n}": "modified" for n in range(0, 800, 2)}
    wanted |= {f"d1/f{n}": "deleted" for n in range(1, 800, 40)} | {"d1": "deleted"}
    wanted |= {"new": "added", "new/one": "added", "new/one/two": "added"}
    repo.git("checkout", "-q", "feature/other")
    assert await view.took(wanted) == wanted
    seen = await view.socket.until("git.status.changed")
    assert seen[-1]["data"]["summary"]["branch"] == "feature/other"
    repo.git("commit", "-q", "--allow-empty", "-m", "nothing but a head")
    seen = await view.socket.until("git.status.changed")
    head = repo.git("rev-parse", "HEAD").strip()
    assert seen[-1]["data"]["summary"]["head"] == head


async def test_a_root_that_goes_and_comes_back_is_said_to_be_looked_at_again(running, tmp_path):
    root = tmp_path / "own"
    root.mkdir()
    (root / "a").touch()
    view = await watching(running, root)
    assert "byGit" not in view.state
    root.rename(tmp_path / "elsewhere")
    while not view.overflows:
        await view.next()
    root.mkdir()
    while view.overflows < 2:
        await view.next()
    (root / "b").touch()
    await view.until(b="added")


async def test_a_tree_that_is_too_large_is_refused_or_said_to_be(start_daemon, tmp_path):
    running = await start_daemon(FILE__WATCH_ENTRIES="50")
    root = tmp_path / "own"
    root.mkdir()
    view = await watching(running, root)
    for number in range(60):
        (root / f"f{number}").touch()
    ended = (await view.socket.until("file.watch.ended"))[-1]["data"]
    assert ended["code"] == "too_large"
    assert "watch_entries" in ended["message"]
    await until(lambda: ears() == 0)
    async with running.client() as client:
        with pytest.raises(TooLarge, match="watch_entries"):
            await client.call("file.watch", {"projectId": view.project})


async def test_more_than_can_be_told_is_said_to_be_that(running, tmp_path, monkeypatch):
    monkeypatch.setattr(watcher, "TOLD_AT_ONCE", 30)
    root = tmp_path / "own"
    root.mkdir()
    view = await watching(running, root)
    for number in range(60):
        (root / f"f{number}").touch()
    while not view.overflows:
        await view.next()
    assert len(view.net) <= 30
    (root / "f1").write_text("and then it goes on")
    await view.until(f1="modified")


async def test_what_no_hint_has_named_is_found_a_little_later(running, tmp_path, monkeypatch):
    monkeypatch.setattr(watcher, "AUDIT", 0.2)
    monkeypatch.setattr(watcher, "AUDIT_REST", 0.0)
    hand = Ear._hand
    lost = []

    def lossy(ear, hinted):
        """Lose hints as the kernel does when its queue is full: without a word."""
        kept = {(kind, path) for kind, path in hinted if "/lost/" not in path}
        lost.extend(hinted - kept)
        hand(ear, kept)

    monkeypatch.setattr(Ear, "_hand", lossy)
    root = tmp_path / "own"
    (root / "lost").mkdir(parents=True)
    view = await watching(running, root)
    (root / "lost" / "folder").mkdir()
    (root / "lost" / "folder" / "file").touch()
    (root / "heard").touch()
    await view.took({"heard": "added", "lost/folder/file": "added"})
    assert lost


async def test_a_kernel_that_watches_no_more_is_said_with_what_to_raise(
    running, tmp_path, monkeypatch
):
    def refuse(*_: object, **__: object) -> None:
        raise OSError("OS file watch limit reached. about [...]")

    monkeypatch.setattr("watchfiles.watch", refuse)
    root = tmp_path / "own"
    root.mkdir()
    async with running.client() as client:
        project = await added(client, root)
        with pytest.raises(Unavailable, match=r"fs\.inotify\.max_user_watches"):
            await client.call("file.watch", {"projectId": project})
    await until(lambda: ears() == 0)
