"""Looks at a tree: what differs from the snapshot, each path once, whatever happened between."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watches import in_memory

from daemon.core.errors import TooLarge
from domains.file import looks, scanning
from domains.file.events import FileChange
from domains.file.looks import Look
from domains.file.reports import EVENT_CHANGES, reports
from domains.file.snapshot import Changes, RootGone, Snapshot


def looked(snapshot, hints=None, *, ignored=lambda _: False, doubtful=False):
    """Look, at everything where nothing is named, and give the changes."""
    look = Look(snapshot, snapshot.all() if hints is None else hints, doubtful=doubtful)
    asked = look.go()
    while asked:
        asked = look.go({path for path in asked if ignored(path)})
    return dict(look.changes)


@pytest.fixture
def snapshot(tmp_path):
    (tmp_path / "dir" / "inner").mkdir(parents=True)
    for name in ("one", "dir/two", "dir/inner/three"):
        (tmp_path / name).write_text(name)
    made = Snapshot(str(tmp_path), 1000)
    looked(made)
    return made


def test_a_look_finds_each_difference_once(snapshot, tmp_path):
    assert looked(snapshot) == {}
    assert snapshot.entries == 5
    assert snapshot.folders.keys() == {"", "dir", "dir/inner"}
    (tmp_path / "new" / "deep").mkdir(parents=True)
    (tmp_path / "new" / "deep" / "file").touch()
    (tmp_path / "one").chmod(0o600)
    (tmp_path / "dir" / "inner").rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to("dir")
    wanted = {
        "new": "added",
        "new/deep": "added",
        "new/deep/file": "added",
        "one": "modified",
        "dir/inner": "deleted",
        "dir/inner/three": "deleted",
        "moved": "added",
        "moved/three": "added",
        "link": "added",
    }
    assert looked(snapshot) == wanted
    assert looked(snapshot) == {}
    assert snapshot.folders.keys() == {"", "dir", "new", "new/deep", "moved"}
    assert snapshot.fresh >= {"new", "new/deep", "moved"}


def test_a_file_in_the_place_of_a_folder_is_a_modification(snapshot, tmp_path):
    subprocess.run(["rm", "-r", tmp_path / "dir"], check=True)
    (tmp_path / "dir").touch()
    assert looked(snapshot) == {
        "dir": "modified",
        "dir/two": "deleted",
        "dir/inner": "deleted",
        "dir/inner/three": "deleted",
    }
    assert snapshot.entries == 2


def test_another_folder_under_the_same_name_is_looked_at_as_a_whole(snapshot, tmp_path):
    snapshot.fresh.clear()
    other = tmp_path / "other" / "inner"
    other.mkdir(parents=True)
    (other / "three").write_text("another")
    (tmp_path / "dir").rename(tmp_path.parent / "away")
    (tmp_path / "other").rename(tmp_path / "dir")
    assert looked(snapshot, {"": None}) == {"dir/two": "deleted", "dir/inner/three": "modified"}
    assert snapshot.fresh == {"dir", "dir/inner"}


def test_what_is_ignored_is_asked_once_and_never_told(tmp_path):
    (tmp_path / "build" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "build" / "deep" / "er" / "file").touch()
    (tmp_path / "x.log").touch()
    asked = []

    def ignored(path):
        asked.append(path)
        return path.startswith("build/") or path.endswith(".log")

    snapshot = Snapshot(str(tmp_path), 1000)
    assert looked(snapshot, ignored=ignored) == {}
    assert snapshot.folders.keys() == {""}
    asked.clear()
    (tmp_path / "x.log").write_text("2")
    (tmp_path / "seen").touch()
    assert looked(snapshot, ignored=ignored) == {"seen": "added"}
    assert asked == ["seen"]
    (tmp_path / "x.log").unlink()
    assert looked(snapshot, ignored=ignored) == {}


def test_git_is_no_part_of_the_tree(tmp_path):
    for name in (".git", "sub/.git", ".agent/workflows"):
        (tmp_path / name).mkdir(parents=True)
    snapshot = Snapshot(str(tmp_path), 1000)
    looked(snapshot)
    assert snapshot.folders.keys() == {"", "sub", ".agent", ".agent/workflows"}


def test_a_write_in_the_tick_of_the_last_look_is_told_when_it_is_hinted_at(snapshot, tmp_path):
    path = tmp_path / "one"
    path.write_text("a")
    looked(snapshot)
    found = path.stat()
    assert "one" in snapshot.folders[""].racy
    assert looked(snapshot, {"": set()}) == {}
    path.write_text("b")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    record = snapshot.folders[""]
    marks = record.marks() | {"one": scanning.scanned(str(tmp_path)).marks["one"]}
    snapshot.folders[""] = scanning.Folder(marks, record.racy)  # as if ctime were the same too
    assert looked(snapshot, {"": {"one"}}) == {"one": "modified"}
    time.sleep(2 * scanning.TICK_NS / 1e9)
    looked(snapshot)
    assert not snapshot.folders[""].racy
    assert looked(snapshot, {"": {"one"}}) == {}


def test_a_large_folder_is_not_read_for_a_few_names(tmp_path, monkeypatch):
    for number in range(looks.LARGE + 10):
        (tmp_path / f"f{number}").touch()
    snapshot = Snapshot(str(tmp_path), 5000)
    looked(snapshot)
    monkeypatch.setattr(looks, "scanned", None)
    (tmp_path / "f1").write_text("1")
    (tmp_path / "f2").unlink()
    (tmp_path / "new").touch()
    (tmp_path / ".git").touch()
    named = {"f1", "f2", "f3", "new", ".git", "never"}
    assert looked(snapshot, {"": named}) == {"f1": "modified", "f2": "deleted", "new": "added"}


def test_hints_are_placed_in_folders_that_are_known(snapshot, tmp_path):
    snapshot.fresh.clear()
    hints = {}
    said = [(2, f"{tmp_path}/one"), (1, f"{tmp_path}/dir"), (2, f"{tmp_path}/unknown/x")]
    assert snapshot.place(said, hints) == {"one", "dir"}
    assert hints == {"": {"one", "dir"}, "dir": None}
    assert snapshot.fresh == {"dir"}


def test_a_tree_without_its_root_or_over_the_limit_is_refused(snapshot, tmp_path):
    snapshot.limit = 6
    for number in range(3):
        (tmp_path / f"more{number}").touch()
    with pytest.raises(TooLarge, match="watch_entries"):
        looked(snapshot)
    snapshot.limit = 1000
    tmp_path.rename(tmp_path.parent / "gone")
    tmp_path.mkdir()
    with pytest.raises(RootGone):
        looked(snapshot)


def test_a_very_deep_tree_comes_and_goes(tmp_path):
    with in_memory(tmp_path) as place:
        top = place / "root"
        top.mkdir()
        snapshot = Snapshot(str(top), 10_000)
        looked(snapshot)
        subprocess.run(["mkdir", "-p", "/".join(["d"] * 1100)], cwd=top, check=True)
        assert len(looked(snapshot)) == 1100
        (top / "d").rename(place / "away")
        assert len(looked(snapshot)) == 1100
        assert snapshot.folders.keys() == {""}
        subprocess.run(["rm", "-rf", place / "away"], check=True)


def test_what_rules_make_of_the_same_tree_is_compared(snapshot, tmp_path):
    (tmp_path / "one").write_text("changed")
    later = Snapshot(str(tmp_path), 1000)
    looked(later)
    assert snapshot.differs(later) == ({"one": "modified"}, False)
    fewer = Snapshot(str(tmp_path), 1000)
    looked(fewer, ignored=lambda path: path == "dir/two")
    assert later.differs(fewer) == ({}, True)


@given(st.lists(st.sampled_from(["write", "remove"]), max_size=8), st.booleans())
def test_changes_come_to_their_net(acts, there):
    changes, exists = Changes(), there
    for act in acts:
        if act == "write":
            changes.note("x", "modified" if exists else "added")
            exists = True
        elif exists:
            changes.note("x", "deleted")
            exists = False
    if there and exists:
        assert changes.get("x") in ("modified", None)
    else:
        wanted = None if there == exists else "added" if exists else "deleted"
        assert changes.get("x") == wanted


def test_reports_are_in_order_and_of_some_size():
    found = Changes({"a": "deleted", "a/b": "deleted", "c/d": "added", "c": "added"})
    found["\udcff"] = "modified"
    (only,) = reports(found)
    assert [each.path for each in only] == ["a/b", "a", "c", "c/d", "�"]
    assert only[0] == FileChange(path="a/b", change="deleted")
    many = reports(Changes({f"f{n}": "added" for n in range(EVENT_CHANGES + 1)}))
    assert [len(each) for each in many] == [EVENT_CHANGES, 1]
    assert len(reports(Changes({"x" * 4000 + str(n): "added" for n in range(500)}))) > 5
