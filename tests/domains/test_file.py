"""Files of projects: folders listed, and the doors to all of it."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from repositories import Repo

from daemon.core.errors import BadRequest

# Trees


async def test_a_folder_is_listed_in_order_with_what_its_entries_are(files):
    for name in ("b.txt", "A.txt", "a.txt", ".env", "zoo/lion", "Ape/x"):
        (files.path / name).parent.mkdir(exist_ok=True)
        (files.path / name).write_text("12345")
    (files.path / "A.txt").chmod(0o755)
    (files.path / "to-zoo").symlink_to("zoo")
    (files.path / "absolute").symlink_to(files.path / "zoo" / "lion")
    (files.path / "to-etc").symlink_to("/etc")
    (files.path / "to-nothing").symlink_to("nothing")
    os.mkfifo(files.path / "pipe")
    tree = await files.ask("tree")
    entries = {each["name"]: each for each in tree["entries"]}
    assert list(entries) == [
        *("Ape", "zoo"),
        *(".env", "A.txt", "a.txt", "absolute", "b.txt", "pipe", "to-etc", "to-nothing", "to-zoo"),
    ]
    file = entries["A.txt"]
    assert (file["path"], file["type"], file["size"], file["executable"]) == (
        *("A.txt", "file", 5, True),
    )
    assert file["modifiedAt"] == (files.path / "A.txt").stat().st_mtime
    assert entries["zoo"]["type"] == "dir"
    assert entries["pipe"]["type"] == "other"
    assert (entries["to-zoo"]["target"], entries["to-zoo"]["targetType"]) == ("zoo", "dir")
    assert (entries["absolute"]["target"], entries["absolute"]["targetType"]) == (
        *("zoo/lion", "file"),
    )
    assert entries["to-etc"]["outside"]
    assert "target" not in entries["to-etc"]
    assert entries["to-nothing"]["broken"]
    assert ".env" not in await files.names(hidden=False)
    assert await files.names("to-zoo") == ["lion"]
    assert (await files.ask("tree", "to-zoo"))["entries"][0]["path"] == "zoo/lion"


async def test_what_git_ignores_is_listed_only_when_asked_for_unless_git_has_it(files):
    repo = Repo(files.path)
    for name in ("build/out.o", "src/a.o", "src/a.c", "logs/old.log", "dist/kept.js", "x.log"):
        repo.write(name, "x")
    repo.write(".gitignore", "build/\n*.o\n*.log\ndist\n")
    repo.git("add", "-f", "dist/kept.js", "x.log")
    assert await files.names() == ["dist", "logs", "src", ".gitignore", "x.log"]
    assert await files.names("src") == ["a.c"]
    assert await files.names("build") == []
    every = (await files.ask("tree", ignored=True))["entries"]
    assert [each["name"] for each in every if each.get("ignored")] == ["build"]
    assert await files.names("src", ignored=True) == ["a.c", "a.o"]
    assert ".git" not in await files.names(ignored=True)


async def test_without_a_repository_nothing_is_ignored(plain):
    (plain.path / ".gitignore").write_text("*")
    (plain.path / "a").write_text("")
    assert await plain.names() == [".gitignore", "a"]


async def test_a_huge_folder_comes_in_pages_that_stay_right_while_it_changes(files):
    for number in range(25):
        (files.path / f"n{number:02}").write_text("")
    (files.path / "folder").mkdir()
    first = await files.ask("tree", limit=10)
    (files.path / "n00").unlink()  # before the cursor, and its own name
    (files.path / "n08").unlink()
    second = await files.ask("tree", limit=10, cursor=first["nextCursor"])
    third = await files.ask("tree", limit=10, cursor=second["nextCursor"])
    found = [each["name"] for page in (first, second, third) for each in page["entries"]]
    assert found == ["folder", *(f"n{number:02}" for number in range(25))]
    assert "nextCursor" not in third
    with pytest.raises(BadRequest, match="cursor"):
        await files.ask("tree", cursor="nonsense")


async def test_pages_are_full_though_git_ignores_much_between(files):
    (files.path / ".gitignore").write_text("*.o\n")
    for number in range(40):
        (files.path / f"n{number:02}.{'c' if number % 8 == 0 else 'o'}").write_text("")
    first = await files.ask("tree", limit=4)
    second = await files.ask("tree", limit=4, cursor=first["nextCursor"])
    assert [e["name"] for e in first["entries"]] == [".gitignore", "n00.c", "n08.c", "n16.c"]
    assert [e["name"] for e in second["entries"]] == ["n24.c", "n32.c"]


async def test_several_levels_come_at_once_as_far_as_they_have_room(files):
    for name in ("a/b/c/d.txt", "a/one", "big/1", "big/2", "big/3", "empty/"):
        path = files.path / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text("")
    tree = (await files.ask("tree", depth=3))["entries"]
    a, big, empty = tree
    assert [each["path"] for each in a["entries"]] == ["a/b", "a/one"]
    assert [each["path"] for each in a["entries"][0]["entries"]] == ["a/b/c"]
    assert "entries" not in a["entries"][0]["entries"][0]
    assert len(big["entries"]) == 3
    assert empty["entries"] == []
    a, big, empty = (await files.ask("tree", depth=2, limit=5))["entries"]
    assert len(a["entries"]) == 2
    assert "entries" not in big


async def test_a_name_that_is_no_utf_8_is_listed_and_marked(plain):
    Path(os.fsdecode(os.fsencode(plain.path) + b"/\xff\xfe")).write_text("")
    (entry,) = (await plain.ask("tree"))["entries"]
    assert (entry["name"], entry["undecodable"]) == ("\ufffd\ufffd", True)


# Doors


async def test_changes_are_told_to_git(files):
    await files.ask("write", "f", content="x")
    async with (
        asyncio.timeout(30),
        aclosing(files.client.subscribe(f"git:project:{files.project}", since=0)) as told,
    ):
        async for message in told:
            if message.type == "git.status.changed":
                assert message.data["summary"]["counts"] == {"untracked": 1}
                break


async def test_everything_works_over_http(running, files):
    base = f"{running.url}/api/files/{files.project}"
    headers = running.headers()
    http = running.http

    async def post(verb: str, **data: Any) -> tuple[int, Any]:
        async with http.post(f"{base}/{verb}", json=data, headers=headers) as answer:
            return answer.status, await answer.json()

    async def get(verb: str, **query: str) -> tuple[int, Any]:
        async with http.get(f"{base}/{verb}", params=query, headers=headers) as answer:
            return answer.status, await answer.json()

    assert (await post("write", path="a/ü.txt", content="hé\n", parents=True))[0] == 200
    status, tree = await get("tree", path="a", limit="5", ignored="true")
    assert (status, [each["name"] for each in tree["entries"]]) == (200, ["ü.txt"])
    status, found = await get("read", path="a/ü.txt", offset="1", length="2")
    assert (status, found["content"]) == (200, "é")
    status, found = await get("search", **{"query": "hé", "in": "contents"})
    assert (status, found["matches"][0]["path"]) == (200, "a/ü.txt")
    assert (await post("rename", path="a/ü.txt", to="b"))[0] == 200
    status, gone = await post("delete", path="b")
    assert status == 200
    assert (await get("trash_list"))[1]["discarded"] == [gone["discarded"]]
    assert (await post("restore", trashId=gone["discarded"]["trashId"]))[0] == 200
    assert (await post("make_folder", path="c"))[0] == 200
    assert (await get("read", path="../x"))[0] == 400
    assert (await get("write", path="x"))[0] == 404


async def test_reading_and_writing_need_their_grants(running, files):
    reader = f"read:file:project:{files.project}"
    (files.path / "f").write_text("x")
    headers = {"Authorization": f"Bearer {running.token(scope=reader)}"}
    base = f"{running.url}/api/files/{files.project}"
    async with running.http.get(f"{base}/read?path=f", headers=headers) as answer:
        assert answer.status == 200
    async with running.http.post(
        f"{base}/write", json={"path": "f", "content": ""}, headers=headers
    ) as answer:
        assert answer.status == 403
