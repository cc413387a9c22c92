"""A snapshot is taken, and comes back, although git refuses to convert some of the files."""

from __future__ import annotations

import os
import shutil

import pytest
from desks import open_desk
from repositories import ENVIRONMENT, Repo

from domains.git import snapshots
from domains.git.checkpoints import Checkpoints

REF = "refs/agentcmd/checkpoints/s/1"

BROKEN = '[filter "broken"]\n\tclean = false\n\tsmudge = false\n\trequired\n'


@pytest.fixture
async def desk(open_core, tmp_path):
    async with open_desk(open_core, tmp_path / "state") as opened:
        yield opened


@pytest.fixture
def repo(tmp_path, monkeypatch):
    (tmp_path / "gitconfig").write_text(BROKEN)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setitem(ENVIRONMENT, "GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    return Repo(tmp_path / "own")


def contents(repo):
    return {
        str(path.relative_to(repo.path)): path.read_bytes()
        for path in sorted(repo.path.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(repo.path).parts
    }


async def comes_back(desk, repo, change):
    first = contents(repo)
    async with desk.quietly(str(repo.path)) as git:
        commit = await snapshots.take(git, REF, "a turn")
        change()
        second = contents(repo)
        told = await snapshots.restore(git, commit, None)
        assert contents(repo) == first
        await snapshots.restore(git, told.undo, None)
        assert contents(repo) == second
        await snapshots.restore(git, commit, None)
        assert contents(repo) == first
    return told


async def test_what_is_not_in_the_encoding_that_it_should_be_in_comes_back(desk, repo):
    rules = "*.u working-tree-encoding=UTF-16\n*.z working-tree-encoding=none-such\n"
    repo.commit({".gitattributes": rules, "good.u": "a\n".encode("utf-16"), "plain": "p\n"})
    repo.write("bad.u", b"no mark\n")
    repo.write("sub/x.z", b"\xff\r\n")
    (repo.path / "sub/x.z").chmod(0o755)

    def change():
        repo.write("bad.u", b"\xfe")
        repo.write("good.u", b"\xff")
        repo.write("new.u", b"new")
        repo.write("plain", b"q\n")
        shutil.rmtree(repo.path / "sub")

    told = await comes_back(desk, repo, change)
    assert told.written == ["bad.u", "good.u", "plain", "sub/x.z"]
    assert told.removed == ["new.u"]
    assert (repo.path / "sub/x.z").stat().st_mode & 0o100


async def test_files_whose_filter_fails_come_back_and_it_is_not_asked(desk, repo):
    repo.commit({".gitattributes": "", "clean.bin": "1\n", "plain": "p\n"})
    os.utime(repo.path / "clean.bin", (1, 1))
    repo.git("update-index", "--refresh")
    repo.write(".gitattributes", "*.bin filter=broken\n")
    repo.write("new.bin", b"2\n")

    def change():
        repo.write("clean.bin", b"3\n")
        repo.write("more/new.bin", b"4\n")
        repo.write("plain", b"q\n")
        (repo.path / "new.bin").unlink()

    assert await Checkpoints(desk).take(str(repo.path), None, "s", "2")
    told = await comes_back(desk, repo, change)
    assert (told.written, told.removed) == (
        ["clean.bin", "new.bin", "plain"],
        ["more/new.bin"],
    )


async def test_many_that_are_refused_are_taken_as_they_are(desk, repo):
    repo.commit({".gitattributes": "*.u working-tree-encoding=UTF-16\n"})
    for number in range(60):
        repo.write(f"{number}.u", f"no mark {number}\n")

    def change():
        for number in range(60):
            repo.write(f"{number}.u", f"otherwise {number}\n")

    told = await comes_back(desk, repo, change)
    assert told.written_count == 60


async def test_what_else_git_refuses_is_still_an_error(desk, repo):
    repo.commit({"a": "one\n"})
    async with desk.quietly(str(repo.path)) as git:
        (repo.path / ".git" / "index").write_bytes(b"no index at all, and long enough for one")
        with pytest.raises(snapshots.Conflict):
            await snapshots.take(git, REF, "a turn")
