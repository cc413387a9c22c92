"""Snapshots of work trees: nothing of the repository's own is touched, everything comes back."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from desks import Folders, open_desk
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from repositories import Repo

from daemon.core.errors import TooLarge, Unavailable
from domains.git import once, snapshots
from domains.git.checkpoints import Checkpoints
from domains.git.desk import Desk
from domains.git.locks import remove_copies

REF = "refs/agentcmd/checkpoints/s/1"


@pytest.fixture
async def desk(open_core, tmp_path):
    async with open_desk(open_core, tmp_path / "state") as opened:
        yield opened


def own(repo: Repo) -> list[object]:
    """What a snapshot must not touch: the index, where HEAD and branches are, what status says."""
    index = Path(repo.git("rev-parse", "--absolute-git-dir").strip()) / "index"
    return [
        index.read_bytes() if index.exists() else None,
        repo.git("rev-parse", "--symbolic-full-name", "HEAD", ok=(0, 128)),
        repo.git("for-each-ref", "--exclude=refs/agentcmd", ok=(0, 129))
        or repo.git("for-each-ref", "refs/heads", "refs/tags", "refs/stash"),
        repo.raw("--no-optional-locks", "status", "--porcelain=v2", "-z", "--untracked-files=all"),
        sorted(path.name for path in index.parent.iterdir() if path.name.startswith("agentcmd")),
    ]


class File(NamedTuple):
    """What stands at a path."""

    content: bytes
    executable: bool = False
    link: bool = False


def contents(root: Path) -> dict[bytes, File]:
    """Read a work tree, without what belongs to git."""
    found = {}
    for path in root.rglob("*"):
        name = path.relative_to(root)
        if name.parts[0] == ".git" or (path.is_dir() and not path.is_symlink()):
            continue
        if path.is_symlink():
            file = File(os.fsencode(path.readlink()), link=True)
        else:
            file = File(path.read_bytes(), executable=bool(path.stat().st_mode & 0o100))
        found[os.fsencode(name)] = file
    return found


def fill(root: Path, wanted: dict[bytes, File]) -> None:
    """Make a work tree hold this and nothing else."""
    for entry in root.iterdir():
        if entry.name == ".git":
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    for name, file in wanted.items():
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.link:
            path.symlink_to(os.fsdecode(file.content))
        else:
            path.write_bytes(file.content)
            path.chmod(0o755 if file.executable else 0o644)


NAMES = (
    *(b"a", b"a/b", b"a/b/c", b"a/d", b"-rf", b":(top)x", b"new\nline", b"sp ace/\xff\xfe"),
    *("ünï/ż".encode(), b"tracked", b"ignored.o", b"a/ignored.o", b".gitignore"),
)

FILES = st.builds(
    File,
    content=st.sampled_from([b"", b"one\n", b"two\n", b"crlf\r\n", b"\0binary", b"/etc/passwd"]),
    executable=st.booleans(),
    link=st.just(False),
)
LINKS = st.sampled_from([b"a", b"nowhere", b"..", b"/etc"]).map(lambda to: File(to, link=True))


def without_clashes(files: dict[bytes, File]) -> dict[bytes, File]:
    """Leave out what would stand in a folder that is a file here."""
    rules = {b".gitignore": File(b"*.o\n")} if b".gitignore" in files else {}
    taken: dict[bytes, File] = {}
    for name, file in sorted({**files, **rules}.items()):
        if not any(name.startswith(above + b"/") for above in taken):
            taken[name] = file
    return taken


TREES = st.dictionaries(st.sampled_from(NAMES), FILES | LINKS, max_size=9).map(without_clashes)


async def test_whatever_was_there_comes_back_and_so_does_what_the_restore_overwrote(desk, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit({"tracked": "one\n", "a/b": "one\n", "gone": "one\n"})
    loop = asyncio.get_running_loop()

    async def round_trip(first, second, staged):
        fill(repo.path, first)
        if staged:
            repo.git("add", "-A")
        before = own(repo)
        async with desk.quietly(str(repo.path)) as git:
            commit = await snapshots.take(git, REF, "a turn")
            assert own(repo) == before
            fill(repo.path, second)
            before = own(repo)
            restored = await snapshots.restore(git, commit, None)
        kept = contents(repo.path)
        ignores = b".gitignore" in first
        tracked = {name for name in repo.raw("ls-files", "-z").split(b"\0") if name}
        assert {name: kept.get(name) for name in first if seen(name, ignores, tracked)} == {
            name: file for name, file in first.items() if seen(name, ignores, tracked)
        }
        extra = kept.keys() - first.keys()
        assert all(name.endswith(b".o") for name in extra), extra
        assert own(repo)[:3] == before[:3]
        assert bool(restored.undo) == bool(restored.written_count + restored.removed_count)
        if restored.undo:
            async with desk.quietly(str(repo.path)) as git:
                await snapshots.restore(git, restored.undo, None)
            after = contents(repo.path)
            hidden = {name for name in after if name.endswith(b".o") and name not in second}
            assert {name: after[name] for name in after.keys() - hidden} == second

    @settings(
        max_examples=8,
        deadline=None,
        phases=(Phase.reuse, Phase.generate),  # to shrink would take minutes
        suppress_health_check=list(HealthCheck),
    )
    @given(TREES, TREES, st.booleans())
    def check(first, second, staged):
        asyncio.run_coroutine_threadsafe(round_trip(first, second, staged), loop).result(60)

    await asyncio.to_thread(check)


def seen(name: bytes, ignores: bool, tracked: set[bytes]) -> bool:
    """Tell whether a snapshot holds it."""
    return not (ignores and name.endswith(b".o")) or name in tracked


async def taken(desk: Desk, repo: Repo, ref: str = REF) -> str:
    """Take a snapshot, and see that it leaves the rest alone."""
    before = own(repo)
    async with desk.quietly(str(repo.path)) as git:
        commit = await snapshots.take(git, ref, "a turn")
    assert own(repo) == before
    assert repo.git("rev-parse", ref).strip() == commit
    return commit


def listed(repo: Repo, commit: str) -> list[str]:
    return repo.git("ls-tree", "-r", "--name-only", "-z", commit).rstrip("\0").split("\0")


async def test_it_works_before_the_first_commit_and_in_a_linked_worktree(desk, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.write("a", "one\n")
    unborn = await taken(desk, repo)
    assert listed(repo, unborn) == ["a"]
    assert repo.git("log", "--format=%an %ae %P|", unborn) == "agentcmd agentcmd@localhost |\n"
    head = repo.commit()
    repo.git("worktree", "add", "-q", str(tmp_path / "linked"))
    linked = Repo.__new__(Repo)
    linked.path = tmp_path / "linked"
    linked.write("b", "two\n")
    commit = await taken(desk, linked, "refs/agentcmd/checkpoints/s/2")
    assert listed(linked, commit) == ["a", "b"]
    assert repo.git("log", "-1", "--format=%P", commit).strip() == head
    (linked.path / "b").unlink()
    async with desk.quietly(str(linked.path)) as git:
        restored = await snapshots.restore(git, commit, ["b"])
    assert (restored.written, restored.removed_count) == (["b"], 0)
    assert not (repo.path / "b").exists()


async def test_conflicts_and_submodules_stay_as_they_are(desk, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "base\n"})
    inner = Repo(repo.path / "inner")
    inner.commit({"x": "one\n"})
    Repo(repo.path / "empty")  # has no commit: nothing to keep of it
    repo.git("add", "a", "inner")
    repo.git("commit", "-qm", "with a submodule")
    repo.git("switch", "-qc", "other")
    repo.write("a", "theirs\n")
    repo.git("commit", "-qam", "theirs")
    repo.git("switch", "-q", "main")
    repo.write("a", "ours\n")
    repo.git("commit", "-qam", "ours")
    repo.git("merge", "-q", "other", ok=(1,))
    marked = (repo.path / "a").read_bytes()
    commit = await taken(desk, repo)
    repo.write("a", "resolved\n")
    inner.commit({"x": "two\n"})
    moved = inner.git("rev-parse", "HEAD")
    before = own(repo)
    async with desk.quietly(str(repo.path)) as git:
        restored = await snapshots.restore(git, commit, None)
    assert (restored.written, restored.removed) == (["a"], [])
    assert (repo.path / "a").read_bytes() == marked
    assert inner.git("rev-parse", "HEAD") == moved
    assert own(repo)[:3] == before[:3]


async def test_only_what_is_named_comes_back_with_what_stands_in_its_way(desk, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit({"src/a": "1\n", "src/b": "1\n", "srcs": "1\n", "top": "1\n"})
    commit = await taken(desk, repo)
    shutil.rmtree(repo.path / "src")
    for name in ("src", "srcs", "top"):
        repo.write(name, "2\n")
    async with desk.quietly(str(repo.path)) as git:
        restored = await snapshots.restore(git, commit, ["src/a"], undo_ref=REF + "undo")
        assert (restored.written, restored.removed) == (["src/a"], ["src"])
        assert restored.undo_ref == REF + "undo"
        restored = await snapshots.restore(git, commit, ["src", "nowhere"])
        assert (restored.written, restored.removed) == (["src/b"], [])
        assert {name: (repo.path / name).read_text() for name in ("srcs", "top")} == {
            "srcs": "2\n",
            "top": "2\n",
        }
        restored = await snapshots.restore(git, commit, ["src"])
        assert restored == snapshots.Restored()


async def test_an_ignored_file_that_is_in_the_way_can_be_had_back(desk, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit({"built": "old\n", "dir": "a file\n"})
    commit = await taken(desk, repo)
    (repo.path / "dir").unlink()
    for name, text in ((".gitignore", "built\ndir/\n"), ("built", "new\n"), ("dir/x", "kept?\n")):
        repo.write(name, text)
    repo.git("rm", "-q", "--cached", "built", "dir")
    async with desk.quietly(str(repo.path)) as git:
        restored = await snapshots.restore(git, commit, None)
        assert (repo.path / "dir").read_text() == "a file\n"
        await snapshots.restore(git, restored.undo, None)
    assert (repo.path / "dir/x").read_text() == "kept?\n"
    assert (repo.path / "built").read_text() == "new\n"


async def test_a_link_out_of_the_project_is_not_followed(desk, tmp_path):
    repo = Repo(tmp_path / "own")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a").write_text("theirs\n")
    repo.commit({"dir/a": "ours\n"})
    commit = await taken(desk, repo)
    shutil.rmtree(repo.path / "dir")
    (repo.path / "dir").symlink_to(outside)
    linked = await taken(desk, repo, REF + "0")
    async with desk.quietly(str(repo.path)) as git:
        await snapshots.restore(git, commit, None)
        assert not (repo.path / "dir").is_symlink()
        assert (repo.path / "dir/a").read_text() == "ours\n"
        await snapshots.restore(git, linked, None)
    assert (repo.path / "dir").readlink() == outside
    assert [path.name for path in outside.iterdir()] == ["a"]
    assert (outside / "a").read_text() == "theirs\n"


async def test_a_repository_where_a_file_was_is_not_written_over(desk, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "one\n"})
    commit = await taken(desk, repo)
    (repo.path / "a").unlink()
    Repo(repo.path / "a").commit({"x": "work\n"})
    async with desk.quietly(str(repo.path)) as git:
        restored = await snapshots.restore(git, commit, None)
    assert restored == snapshots.Restored()
    assert (repo.path / "a/x").read_text() == "work\n"


async def test_hooks_of_a_trusted_project_see_nothing_of_it(desk, tmp_path, monkeypatch):
    monkeypatch.setattr(Folders, "trusts", lambda *_: True)
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "one\n"})
    for hook in ("post-index-change", "reference-transaction", "post-checkout"):
        repo.write(f".git/hooks/{hook}", f"#!/bin/sh\ntouch {tmp_path}/ran\n").chmod(0o755)
    commit = await taken(desk, repo)
    (tmp_path / "ran").unlink(missing_ok=True)  # status and the like of ours
    repo.write("a", "two\n")
    async with desk.quietly(str(repo.path)) as git:
        await snapshots.restore(git, commit, None)
        await snapshots.prune(git, once.PREFIX, time.time() + 9)
    assert not (tmp_path / "ran").exists()


async def test_old_ones_are_let_go_below_a_prefix_only(desk, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "one\n"})
    await taken(desk, repo, "refs/agentcmd/checkpoints/s/1")
    await taken(desk, repo, "refs/agentcmd/discarded/1")
    await taken(desk, repo, "refs/agentcmd/discarded/2")
    async with desk.quietly(str(repo.path)) as git:
        assert await snapshots.prune(git, snapshots.DISCARDED, time.time() - 60) == 0
        assert await snapshots.prune(git, snapshots.DISCARDED, time.time() + 60) == 2
    refs = repo.git("for-each-ref", "--format=%(refname)", "refs/agentcmd").split()
    assert refs == ["refs/agentcmd/checkpoints/s/1"]


async def test_to_look_at_a_turn_copies_no_more_than_a_checkpoint(desk, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "one\n"})
    checkpoints, place = Checkpoints(desk), (str(repo.path), None, "s")
    await checkpoints.take(*place, "1")
    with repo.write("large").open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(TooLarge, match="65 MiB"):
        await checkpoints.compare(*place, "1", "2")


async def test_an_index_that_cannot_be_copied_is_said_and_nothing_left(desk, tmp_path, monkeypatch):
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "one\n"})

    def full(_, target):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(Unavailable, match="No space left"):
        await Checkpoints(desk).take(str(repo.path), None, "s", "1")
    assert list((repo.path / ".git").glob("agentcmd*")) == []


def test_copies_of_an_old_index_are_removed_by_when_they_were_made(tmp_path):
    repo = Repo(tmp_path / "own")
    left = [repo.write(f".git/agentcmd-1.index{end}") for end in ("", ".lock")]
    for each in left:
        os.utime(each, (1, 1))
    remove_copies(str(repo.path / ".git"), time.time() + 60)
    assert all(each.exists() for each in left)
    remove_copies(str(repo.path / ".git"), time.time() - 60)
    assert not any(each.exists() for each in left)
