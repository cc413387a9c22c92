"""The trash: nothing that lies in a project, as a clone may bring it, has a say in it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from filed import Files

from daemon.core.errors import BadRequest, Conflict, NotFound
from domains.file.disk import moving, trash
from domains.file.disk.trash import Bin

OLD = "20200101T000000-0123abcd"


async def test_notes_that_a_clone_brings_along_are_no_trash_of_ours(plain: Files) -> None:
    precious = plain.path / "precious"
    precious.write_text("mine")
    brought = plain.path / ".agent" / "trash"
    (brought / OLD).mkdir(parents=True)
    for id_ in ("..", ".", OLD, "../../precious"):
        note = {"trashId": id_, "trashPath": "x", "path": "y", "type": "dir", "deletedAt": 1}
        (brought / f"{id_.replace('/', '_')}.json").write_text(json.dumps(note))
    (plain.path / "f").write_text("deleted")
    gone = (await plain.ask("delete", "f"))["discarded"]
    assert (await plain.ask("trash_list"))["discarded"] == [gone]
    with pytest.raises(NotFound):
        await plain.ask("restore", trashId=OLD)
    assert not Path(gone["trashPath"]).is_relative_to(plain.path)
    assert precious.read_text() == "mine"
    assert len(list(brought.iterdir())) == 5
    assert "trash" in await plain.names(".agent")  # a folder as any other


@pytest.mark.parametrize("id_", ["..", ".", "", "x", "../other", "20200101T000000-0123abcdX"])
def test_an_id_is_checked_where_the_note_is_read(tmp_path: Path, id_: str) -> None:
    own = Bin(str(tmp_path / "all"), str(tmp_path / "own"))
    (Path(own.path) / "kept").mkdir(parents=True)
    note = {"trashId": id_, "trashPath": "x", "path": "y", "type": "dir", "deletedAt": 1}
    for name in {f"{id_.replace('/', '_')}.json", f"{OLD}.json", "...json"}:
        (Path(own.path) / name).write_text(json.dumps(note))
    assert trash.discarded(own) == []
    assert trash.purge(own.all, 1e12) == 0
    assert (Path(own.path) / "kept").is_dir()
    assert (tmp_path / "all").is_dir()


async def test_a_path_in_a_note_leads_nowhere_else(plain: Files) -> None:
    (plain.path / "f").write_text("x")
    gone = (await plain.ask("delete", "f"))["discarded"]
    note = Path(gone["trashPath"]).parents[1] / f"{gone['trashId']}.json"
    assert note.stat().st_mode & 0o077 == 0
    for path in ("../stolen", "/etc/x", ".git/hooks/post-checkout"):
        note.write_text(note.read_text().replace('"path":"f"', f'"path":"{path}"'))
        with pytest.raises(BadRequest):
            await plain.ask("restore", trashId=gone["trashId"])
        note.write_text(note.read_text().replace(f'"path":"{path}"', '"path":"f"'))
    for id_ in ("../../x", "", "20260102T030405-0123456g"):
        with pytest.raises(BadRequest):
            await plain.ask("restore", trashId=id_)
    note.write_text("no json")
    assert (await plain.ask("trash_list"))["discarded"] == []
    note.unlink()
    os.mkfifo(note)
    assert (await plain.ask("trash_list"))["discarded"] == []


async def test_projects_do_not_see_the_trash_of_others(plain: Files, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    added = await plain.client.call("project.add", {"path": str(tmp_path / "second")})
    second = Files(plain.client, added["projectId"], tmp_path / "second")
    (plain.path / "f").write_text("x")
    gone = (await plain.ask("delete", "f"))["discarded"]
    assert (await second.ask("trash_list"))["discarded"] == []
    with pytest.raises(NotFound):
        await second.ask("restore", trashId=gone["trashId"])
    await plain.client.call("project.remove", {"projectId": plain.project})
    again = await plain.client.call("project.add", {"path": str(plain.path)})
    back = Files(plain.client, again["projectId"], plain.path)
    assert (await back.ask("trash_list"))["discarded"] == [gone]


def _other_disk(*_: object, **__: object) -> None:
    raise OSError(18, os.strerror(18))


def test_what_lies_on_another_disk_is_copied_there_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    (own / "dir" / "inner").mkdir(parents=True)
    (own / "dir" / "inner" / "x").write_bytes(b"\0\xff")
    (own / "dir" / "inner" / "x").chmod(0o750)
    os.utime(own / "dir" / "inner" / "x", ns=(5, 7))
    (own / "dir" / "link").symlink_to("/nowhere")
    kept = Bin(str(tmp_path / "all"), str(own))
    real = moving._rename_to_free

    def between_disks(source: moving.Place, target: moving.Place) -> None:
        if os.fstat(source.folder).st_ino != os.fstat(target.folder).st_ino:
            _other_disk()
        real(source, target)

    monkeypatch.setattr(moving, "_rename_to_free", between_disks)
    gone = trash.delete(kept, ["dir"], recursive=True, user="ada")
    assert not (own / "dir").exists()
    assert (Path(gone.trash_path) / "inner" / "x").read_bytes() == b"\0\xff"
    assert trash.restore(kept, gone.trash_id, None) == "dir"
    found = (own / "dir" / "inner" / "x").stat()
    assert (found.st_mode & 0o777, found.st_mtime_ns) == (0o750, 7)
    assert (own / "dir" / "link").readlink() == Path("/nowhere")
    assert trash.discarded(kept) == []

    os.mkfifo(own / "dir" / "fifo")
    with pytest.raises(Conflict, match="another disk"):
        trash.delete(kept, ["dir"], recursive=True, user="ada")
    assert sorted(path.name for path in (own / "dir").iterdir()) == ["fifo", "inner", "link"]
    assert trash.discarded(kept) == []
    assert list(Path(kept.path).iterdir()) == []


def test_what_cannot_leave_for_another_disk_stays_whole_and_leaves_no_copy(
    unprivileged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = unprivileged / "own"
    (own / "fixed" / "dir").mkdir(parents=True)
    for name in ("f", "dir/x", "dir/y"):
        (own / "fixed" / name).write_text("1")
    (own / "fixed").chmod(0o555)
    kept = Bin(str(unprivileged / "all"), str(own))
    real = moving._rename_to_free

    def between_disks(source: moving.Place, target: moving.Place) -> None:
        if os.fstat(source.folder).st_ino != os.fstat(target.folder).st_ino:
            _other_disk()
        real(source, target)

    monkeypatch.setattr(moving, "_rename_to_free", between_disks)
    for name in ("f", "dir"):
        with pytest.raises(Conflict, match="refuses"):
            trash.delete(kept, ["fixed", name], recursive=True, user="ada")
    there = sorted(str(path.relative_to(own / "fixed")) for path in (own / "fixed").rglob("*"))
    assert there == ["dir", "dir/x", "dir/y", "f"]
    assert list(Path(kept.path).iterdir()) == []


def test_folders_that_cannot_be_written_are_purged_as_all_others(unprivileged: Path) -> None:
    own = unprivileged / "own"
    kept = Bin(str(unprivileged / "all"), str(own))
    for name in ("a", "b"):
        (own / name / "fixed").mkdir(parents=True)
        (own / name / "fixed" / "x").write_text("1")
        (own / name / "fixed").chmod(0o555)
        trash.delete(kept, [name], recursive=True, user="ada")
    assert trash.purge(kept.all, time.time() + 1) == 2
    assert list(Path(kept.path).iterdir()) == []


async def test_a_folder_in_the_place_of_a_temporary_file_keeps_nobody_from_writing(
    plain: Files,
) -> None:
    await plain.ask("write", "f", content="1")
    planted = plain.path / ".agentcmd-252f10c83610ebca.tmp"  # what `f` is written to
    planted.mkdir()
    os.utime(planted, (0, 0))
    await plain.ask("write", "f", content="2")
    assert (plain.path / "f").read_text() == "2"
