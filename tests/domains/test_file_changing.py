"""Files written, renamed, deleted and restored."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest
from filed import Files, sha256
from repositories import Repo, added

from daemon.core.errors import BadRequest, Conflict, NotFound
from domains.file.disk.trash import purge

# Writing


async def test_a_write_is_guarded_by_what_was_read(plain):
    made = await plain.ask("write", "f", content="one", expected="absent")
    assert (made["created"], made["size"]) == (True, 3)
    with pytest.raises(Conflict) as refused:
        await plain.ask("write", "f", content="two", expected="absent")
    assert refused.value.details["hash"] == made["hash"] == sha256(b"one")
    (plain.path / "f").write_text("theirs")
    with pytest.raises(Conflict) as refused:
        await plain.ask("write", "f", content="two", expected=made["hash"])
    assert refused.value.details["hash"] == sha256(b"theirs")
    again = await plain.ask("write", "f", content="two", expected=sha256(b"theirs"))
    assert not again["created"]
    (plain.path / "f").unlink()
    with pytest.raises(Conflict) as refused:
        await plain.ask("write", "f", content="three", expected=again["hash"])
    assert refused.value.details["hash"] is None
    assert list(plain.path.iterdir()) == []


async def test_of_many_writes_at_once_one_wins_and_the_others_learn_it(plain):
    answers = await asyncio.gather(
        *(plain.ask("write", "f", content=f"{n}", expected="absent") for n in range(20)),
        return_exceptions=True,
    )
    assert sum(isinstance(each, Conflict) for each in answers) == 19
    assert len(list(plain.path.iterdir())) == 1


async def test_a_file_keeps_its_mode_and_gets_another_only_when_asked(plain):
    old = os.umask(0o027)
    try:
        await plain.ask("write", "new", content="")
        await plain.ask("write", "run", content="", executable=True)
    finally:
        os.umask(old)
    path = plain.path / "kept"
    path.write_text("")
    path.chmod(0o604)

    def mode(name: str) -> int:
        return stat.S_IMODE((plain.path / name).stat().st_mode)

    assert (mode("new"), mode("run")) == (0o640, 0o750)
    await plain.ask("write", "kept", content="x")
    assert mode("kept") == 0o604
    await plain.ask("write", "kept", content="x", executable=True)
    assert mode("kept") == 0o705
    await plain.ask("write", "kept", content="x", executable=False)
    assert mode("kept") == 0o604


async def test_a_symlink_is_written_through_and_folders_are_made_when_asked(plain):
    (plain.path / "real").mkdir()
    (plain.path / "real" / "f").write_text("old")
    (plain.path / "link").symlink_to("real/f")
    (plain.path / "dangling").symlink_to("real/new")
    await plain.ask("write", "link", content="new")
    await plain.ask("write", "dangling", content="made")
    assert (plain.path / "link").is_symlink()
    assert (plain.path / "real" / "f").read_text() == "new"
    assert (plain.path / "real" / "new").read_text() == "made"
    with pytest.raises(NotFound):
        await plain.ask("write", "a/b/c", content="")
    await plain.ask("write", "a/b/c", content="", parents=True)
    assert (await plain.ask("make_folder", "x/y", parents=True))["created"]
    assert not (await plain.ask("make_folder", "x/y"))["created"]
    with pytest.raises(Conflict):
        await plain.ask("make_folder", "a/b/c")
    with pytest.raises(BadRequest, match="no folder"):
        await plain.ask("write", "a/b/c/d", content="", parents=True)
    with pytest.raises(BadRequest):
        await plain.ask("write", "a", content="")


async def test_what_cannot_be_written_in_an_encoding_is_said(plain):
    with pytest.raises(BadRequest, match="character 3"):
        await plain.ask("write", "f", content="ab\u0416", encoding="windows-1252")
    with pytest.raises(BadRequest, match="base64"):
        await plain.ask("write", "f", content="?", encoding="base64")
    assert not (plain.path / "f").exists()


# Renaming


async def test_a_rename_replaces_nothing_unasked(plain):
    (plain.path / "a").write_text("a")
    (plain.path / "b").write_text("b")
    (plain.path / "full").mkdir()
    (plain.path / "full" / "x").write_text("")
    (plain.path / "empty").mkdir()
    with pytest.raises(Conflict, match="b is there"):
        await plain.ask("rename", "a", to="b")
    assert (await plain.ask("rename", "a", to="b", overwrite=True))["replaced"]
    assert (plain.path / "b").read_text() == "a"
    with pytest.raises(Conflict, match="a folder"):
        await plain.ask("rename", "b", to="full", overwrite=True)
    with pytest.raises(Conflict):
        await plain.ask("rename", "full", to="empty")
    with pytest.raises(BadRequest, match="into itself"):
        await plain.ask("rename", "full", to="full/inner")
    await plain.ask("rename", "full", to="empty/full")
    await plain.ask("rename", "b", to="B")
    assert sorted(p.name for p in plain.path.rglob("*")) == ["B", "empty", "full", "x"]
    with pytest.raises(NotFound):
        await plain.ask("rename", "gone", to="there")


async def test_a_file_renamed_to_another_name_of_it_has_that_name_alone(plain):
    (plain.path / "a").write_text("1")
    (plain.path / "sub").mkdir()
    for target in ("b", "sub/a"):
        os.link(plain.path / "a", plain.path / target)
        with pytest.raises(Conflict):
            await plain.ask("rename", "a", to=target)
        assert (await plain.ask("rename", "a", to=target, overwrite=True))["replaced"]
        assert not (plain.path / "a").exists()
        assert (plain.path / target).read_text() == "1"
        await plain.ask("rename", target, to=target, overwrite=True)
        await plain.ask("rename", target, to="a")
    assert sorted(path.name for path in plain.path.rglob("*")) == ["a", "sub"]


async def test_of_a_symlink_the_link_is_renamed_and_deleted(plain):
    (plain.path / "f").write_text("x")
    (plain.path / "link").symlink_to("/etc/passwd")
    await plain.ask("rename", "link", to="other")
    assert (plain.path / "other").readlink() == Path("/etc/passwd")
    deleted = (await plain.ask("delete", "other"))["discarded"]
    assert deleted["type"] == "symlink"
    assert Path("/etc/passwd").exists()
    await plain.ask("restore", trashId=deleted["trashId"])
    assert (plain.path / "other").is_symlink()


# Trash


async def test_what_is_deleted_can_be_restored_and_leaves_nothing_in_the_project(files):
    repo = Repo(files.path)
    repo.commit({"src/a.py": "a", "src/b.py": "b"})
    with pytest.raises(Conflict, match="recursive"):
        await files.ask("delete", "src")
    gone = (await files.ask("delete", "src", recursive=True))["discarded"]
    assert (Path(gone["trashPath"]) / "a.py").read_text() == "a"
    assert repo.git("status", "--porcelain").split() == ["D", "src/a.py", "D", "src/b.py"]
    assert await files.names(ignored=True) == []
    (listed,) = (await files.ask("trash_list"))["discarded"]
    assert (listed, listed["path"], listed["user"]) == (gone, "src", "tester")
    (files.path / "src").mkdir()
    with pytest.raises(Conflict, match="src is"):
        await files.ask("restore", trashId=gone["trashId"])
    back = await files.ask("restore", trashId=gone["trashId"], to="old/src")
    assert back["path"] == "old/src"
    assert (files.path / "old/src/b.py").read_text() == "b"
    assert (await files.ask("trash_list"))["discarded"] == []
    assert list(Path(gone["trashPath"]).parents[1].iterdir()) == []
    with pytest.raises(NotFound):
        await files.ask("restore", trashId=gone["trashId"])


async def test_the_trash_lists_in_pages_and_loses_what_is_old(plain):
    for name in "abc":
        (plain.path / name).mkdir()
        (plain.path / name / "x").write_text("")
        await plain.ask("delete", name, recursive=True)
    first = await plain.ask("trash_list", limit=2)
    second = await plain.ask("trash_list", limit=2, cursor=first["nextCursor"])
    assert len(first["discarded"]) == 2
    assert "nextCursor" not in second
    ids = [each["trashId"] for each in (*first["discarded"], *second["discarded"])]
    assert ids == sorted(ids, reverse=True)
    last = max(each["deletedAt"] for each in (*first["discarded"], *second["discarded"]))
    trash = Path(first["discarded"][0]["trashPath"]).parents[1]
    assert purge(str(trash.parent), last) == 2
    assert purge(str(trash.parent), last + 1) == 1
    assert list(trash.iterdir()) == []


async def test_the_daemon_empties_a_trash_of_what_is_too_old(start_daemon, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "f").write_text("")
    running = await start_daemon(FILE__TRASH_DAYS="0.00000001")
    async with running.client() as client:
        files = Files(client, await added(client, tmp_path / "own"), tmp_path / "own")
        await files.ask("delete", "f")
        async with asyncio.timeout(30):
            while (await files.ask("trash_list"))["discarded"]:
                await asyncio.sleep(0.01)
