"""What a snapshot gives back is what was there, byte for byte, whatever git would convert."""

from __future__ import annotations

import os
import shutil
from itertools import product
from pathlib import Path

import pytest
from desks import open_desk
from repositories import ENVIRONMENT, Repo, added, ran

from domains.git import snapshots
from domains.git.checkpoints import Checkpoints
from domains.git.copied_index import CopiedIndex

REF = "refs/agentcmd/checkpoints/s/1"

CRLF, LF, MIXED = b"one\r\ntwo\r\n", b"one\ntwo\n", b"one\r\ntwo\nthree\r\r\n"
UTF16 = "\ufeffzwölf\r\nzwei\n".encode("utf-16-le")


@pytest.fixture
async def desk(open_core, tmp_path):
    async with open_desk(open_core, tmp_path / "state") as opened:
        yield opened


@pytest.fixture
def repo(tmp_path):
    return Repo(tmp_path / "own")


def contents(repo: Repo) -> dict[str, tuple[bytes, bool]]:
    """Read all files, and whether each can be run."""
    return {
        str(path.relative_to(repo.path)): (path.read_bytes(), os.access(path, os.X_OK))
        for path in sorted(repo.path.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(repo.path).parts
    }


async def taken(desk, repo, ref=REF):
    async with desk.quietly(str(repo.path)) as git:
        return await snapshots.take(git, ref, "a turn")


async def restored(desk, repo, commit, **how):
    async with desk.quietly(str(repo.path)) as git:
        return await snapshots.restore(git, commit, how.pop("paths", None), **how)


async def comes_back(desk, repo, change) -> snapshots.Restored:
    """See that a restore gives back what was there, and that undone, what was there before it."""
    first = contents(repo)
    commit = await taken(desk, repo)
    change()
    second = contents(repo)
    assert second != first
    told = await restored(desk, repo, commit)
    assert contents(repo) == first
    undone = await restored(desk, repo, told.undo)
    assert contents(repo) == second
    await restored(desk, repo, undone.undo)
    assert contents(repo) == first
    assert await restored(desk, repo, commit) == snapshots.Restored()
    return told


def all_become(repo: Repo, content: bytes):
    """Have an agent write the same into all files."""

    def change():
        for path in [*repo.path.rglob("*.*")]:
            if path.is_file() and ".git" not in str(path.relative_to(repo.path)):
                path.write_bytes(content)

    return change


ATTRIBUTES = {
    "auto": "* text=auto\n",
    "text": "* text\n",
    "legacy": "* crlf=input\n",
    "crlf": "* text eol=crlf\n",
    "auto crlf": "* text=auto eol=crlf\n",
    "lf": "* eol=lf\n",
    "ident": "* ident\n",
    "utf-16": "*.txt working-tree-encoding=UTF-16\n*.bat eol=crlf\n",
    "utf-16le": "*.txt text working-tree-encoding=UTF-16LE-BOM eol=crlf\n",
    "none": "",
}

ENDINGS = ("true", "input")


@pytest.mark.parametrize(
    ("attributes", "autocrlf"),
    [*((each, "") for each in ATTRIBUTES if each != "none"), *product(("none", "auto"), ENDINGS)],
)
async def test_every_file_comes_back_whether_tracked_clean_changed_or_new(
    desk, repo, attributes, autocrlf
):
    attributes = ATTRIBUTES[attributes]
    if autocrlf:
        repo.git("config", "core.autocrlf", autocrlf)
    repo.git("config", "core.safecrlf", "false")
    text = UTF16 if "UTF-16" in attributes else CRLF
    files = {
        f"{kind}/{name}": content
        for kind in ("clean", "changed", "new")
        for name, content in (
            ("a.txt", text),
            ("b.bat", MIXED),
            ("c.c", LF),
            ("d.bin", b"\0\r\n$Id$\r\n"),
            ('"odd\n\\.c', b"$Id: as I wrote it $\r\n"),
        )
    }
    repo.write(".gitattributes", attributes)
    for name, content in files.items():
        if not name.startswith("new"):
            repo.write(name, content if name.startswith("clean") else b"\xff\xfe\n\0")
    repo.commit()
    for name, content in files.items():
        repo.write(name, content)
    (repo.path / "clean/b.bat").chmod(0o755)
    (repo.path / "new/b.bat").chmod(0o755)

    def change():
        all_become(repo, b"\xff\xfex\0\r\0\n\0")()
        shutil.rmtree(repo.path / "clean")

    await comes_back(desk, repo, change)


@pytest.mark.parametrize("attributes", ["* text=auto\n", "* text=auto eol=crlf\n", "* eol=lf\n"])
async def test_an_edit_of_line_endings_only_is_taken_back(desk, repo, attributes):
    repo.commit({".gitattributes": attributes, "a.txt": CRLF, "b.txt": LF, "sub/c.txt": MIXED})

    def swap():
        repo.write("a.txt", LF)
        repo.write("b.txt", CRLF)
        repo.write("sub/c.txt", MIXED.replace(b"\r\n", b"\n"))

    told = await comes_back(desk, repo, swap)
    assert told.written == ["a.txt", "b.txt", "sub/c.txt"]


async def test_only_what_is_named_is_given_its_bytes_again(desk, repo):
    repo.commit({".gitattributes": "* text=auto\n", "a/x": CRLF, "b": CRLF})
    commit = await taken(desk, repo)
    repo.write("a/x", LF)
    repo.write("b", LF)
    told = await restored(desk, repo, commit, paths=["a"])
    assert (told.written, contents(repo)["a/x"], contents(repo)["b"]) == (
        ["a/x"],
        (CRLF, False),
        (LF, False),
    )


@pytest.fixture
def filters(tmp_path, monkeypatch):
    """Configure filters as a user does, for everybody."""
    place = tmp_path / "gitconfig"
    lossy = '\tclean = "sed s/secret.*/removed/"\n\tsmudge = cat\n'
    lossless = "\tclean = sed s/$/-pointer/\n\tsmudge = sed s/-pointer$//\n"
    place.write_text(
        f'[filter "lossy"]\n{lossy}[filter "lfs"]\n{lossless}[filter "git-crypt-key"]\n{lossless}'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(place))
    monkeypatch.setitem(ENVIRONMENT, "GIT_CONFIG_GLOBAL", str(place))


@pytest.mark.usefixtures("filters")
async def test_what_a_filter_would_lose_comes_back(desk, repo):
    repo.commit({".gitattributes": "*.nb filter=lossy\n", "clean.nb": "secret 1\n", "b.nb": "b\n"})
    assert repo.git("show", "HEAD:clean.nb") == "removed\n"
    repo.write("b.nb", b"secret 2\n")
    repo.write("new.nb", b"secret 3\r\n")
    told = await comes_back(desk, repo, all_become(repo, b"secret 4\n"))
    assert told.written == ["b.nb", "clean.nb", "new.nb"]


@pytest.mark.usefixtures("filters")
async def test_bytes_of_a_filter_that_loses_nothing_are_not_copied(desk, repo):
    rules = "a filter=lfs\nb filter=git-crypt-key\nc filter=none\n"
    files = {"a": "large\n", "b": "of few\n", "c": "c\n"}
    repo.commit({".gitattributes": rules, **files})
    commit = await taken(desk, repo)
    for name in "ab":
        plain = repo.git("hash-object", "--no-filters", name).strip()
        repo.git("cat-file", "-e", plain, ok=(1,))
    assert "Raw-files: none" in repo.git("log", "-1", "--format=%B", commit)
    await comes_back(desk, repo, lambda: [repo.write(name, "x\n") for name in "abc"])


@pytest.mark.usefixtures("filters")
async def test_a_pointer_that_was_never_filled_in_comes_back(desk, repo):
    repo.commit({".gitattributes": "a filter=lfs\n"})
    blob = repo.git("hash-object", "-w", "--stdin", stdin=b"large-pointer\n").strip()
    repo.git("update-index", "--add", "--cacheinfo", f"100644,{blob},a")
    repo.git("commit", "-qm", "large")
    repo.git("-c", "filter.lfs.smudge=cat", "checkout", "--", "a")
    assert contents(repo)["a"][0] == b"large-pointer\n"
    await comes_back(desk, repo, lambda: repo.write("a", "large\n"))
    await comes_back(desk, repo, lambda: repo.write("a", "other\n"))


async def test_files_become_links_and_folders_and_files_again(desk, repo, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"theirs\n")
    repo.commit({".gitattributes": "* text=auto\n", "a": CRLF, "b/x": CRLF, "c": CRLF, "d/x": CRLF})

    def change():
        for name in ("a", "c"):
            (repo.path / name).unlink()
        for name in ("b", "d"):
            shutil.rmtree(repo.path / name)
        (repo.path / "a").symlink_to(outside / "x")
        (repo.path / "b").symlink_to(outside)
        repo.write("c/x", MIXED)
        repo.write("d", MIXED)

    commit = await taken(desk, repo)
    change()
    linked = await taken(desk, repo, REF + "0")
    await restored(desk, repo, commit)
    now = contents(repo)
    assert [now[name][0] for name in ("a", "b/x", "c", "d/x")] == [CRLF] * 4
    assert not any((repo.path / name).is_symlink() for name in "ab")
    await restored(desk, repo, linked)
    assert [(repo.path / name).readlink() for name in "ab"] == [outside / "x", outside]
    assert [(repo.path / name).read_bytes() for name in ("c/x", "d")] == [MIXED, MIXED]
    assert [(path.name, path.read_bytes()) for path in outside.iterdir()] == [("x", b"theirs\n")]


async def test_an_executable_bit_comes_and_goes_with_the_bytes(desk, repo):
    repo.commit({".gitattributes": "* text=auto\n", "a": CRLF, "b": CRLF})
    (repo.path / "a").chmod(0o755)

    def change():
        (repo.path / "a").chmod(0o644)
        (repo.path / "b").chmod(0o755)
        repo.write("b", LF)

    await comes_back(desk, repo, change)


async def test_attributes_that_change_meanwhile_change_no_other_file(desk, repo):
    repo.commit({"a": CRLF, "b": LF, "sub/c": MIXED, ".gitattributes": "b eol=crlf\n"})

    def renormalised():
        repo.write(".gitattributes", "* text=auto\n")
        repo.write("sub/c", b"one\ntwo\nthree\r\n")
        repo.write("b", CRLF)

    await comes_back(desk, repo, renormalised)
    await comes_back(desk, repo, (repo.path / ".gitattributes").unlink)


async def test_snapshots_of_earlier_versions_come_back_as_they_did(desk, repo):
    repo.commit({".gitattributes": "*.a text=auto\n*.b eol=crlf\n", "x.a": CRLF, "y.b": CRLF})
    tree = repo.git("write-tree").strip()
    old = repo.git("commit-tree", "-m", "s 1", "-p", "HEAD", tree).strip()
    repo.git("update-ref", REF, old)
    assert await restored(desk, repo, old) == snapshots.Restored()
    assert contents(repo)["x.a"] == (CRLF, False)
    repo.write("x.a", b"other\r\n")
    repo.write("y.b", b"other\n")
    told = await restored(desk, repo, old)
    assert (contents(repo)["x.a"], contents(repo)["y.b"]) == ((LF, False), (CRLF, False))
    await restored(desk, repo, told.undo)
    assert (contents(repo)["x.a"][0], contents(repo)["y.b"][0]) == (b"other\r\n", b"other\n")


async def test_what_a_turn_has_changed_is_shown_as_text(desk, repo):
    repo.commit(
        {
            ".gitattributes": "a working-tree-encoding=UTF-16\n",
            "a": UTF16,
        }
    )
    checkpoints, place = Checkpoints(desk), (str(repo.path), None, "s")
    await checkpoints.take(*place, "1")
    repo.write("a", "\ufeffelf\n".encode("utf-16-le"))
    shown = await checkpoints.compare(*place, "1", "2")
    assert [(each.path, each.additions, each.deletions) for each in shown.files] == [("a", 1, 2)]
    assert "+elf" in shown.patch
    await checkpoints.restore(*place, "1")
    assert contents(repo)["a"][0] == UTF16
    await checkpoints.restore(*place, "undo")
    assert contents(repo)["a"][0] == "\ufeffelf\n".encode("utf-16-le")


async def test_a_repository_without_conversion_pays_little(desk, repo, monkeypatch):
    repo.commit({"a": CRLF, ".gitattributes": "*.png binary\n", "x.png": "x"})
    said: list[str] = []
    run = CopiedIndex.run

    async def heard(self, *args, **how):
        said.append(args[0])
        return await run(self, *args, **how)

    monkeypatch.setattr(CopiedIndex, "run", heard)
    await taken(desk, repo)
    usual = ["config", "ls-files", "add", "write-tree", "ls-files", "commit-tree", "update-ref"]
    assert said == usual


async def test_a_discard_and_its_undo_are_of_bytes(running, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit(
        {".gitattributes": "*.a text=auto\n*.b eol=crlf\n", "x.a": LF, "y.b": CRLF, "z.a": LF}
    )
    async with running.client() as client:
        project = await added(client, repo.path)
        mine = {"x.a": b"mine\r\n", "y.b": b"mine\n", "z.a": MIXED, "new.a": CRLF}
        for name, content in mine.items():
            repo.write(name, content)
        before = contents(repo)
        one = await ran(client, project, "discard", paths=["z.a"])
        assert (one["paths"], contents(repo)["z.a"][0]) == (["z.a"], LF)
        rest = await ran(client, project, "discard", all=True, untracked=True)
        assert rest["paths"] == ["new.a", "x.a", "y.b"]
        assert [contents(repo).get(name, [None])[0] for name in mine] == [LF, CRLF, LF, None]
        listed = await ran(client, project, "discard_list")
        assert [each["discardId"] for each in listed["discarded"]] == [
            rest["discardId"],
            one["discardId"],
        ]
        for each in (rest, one):
            await ran(client, project, "discard_restore", discardId=each["discardId"])
        assert contents(repo) == before
        lost = await ran(client, project, "reset", revision="HEAD", mode="hard")
        await ran(client, project, "discard_restore", discardId=lost["discardId"])
        assert contents(repo) == before


async def test_a_link_in_place_of_a_folder_is_not_written_through(
    desk, repo, tmp_path, monkeypatch
):
    outside = tmp_path / "outside"
    outside.mkdir()
    repo.commit({".gitattributes": "* text=auto\n", "a/x": CRLF})
    commit = await taken(desk, repo)
    repo.write("a/x", LF)
    write_back = snapshots.write_back

    async def raced(git, files):
        shutil.rmtree(repo.path / "a")
        (repo.path / "a").symlink_to(outside)
        await write_back(git, files)

    monkeypatch.setattr(snapshots, "write_back", raced)
    with pytest.raises(snapshots.Conflict, match="cannot be written"):
        await restored(desk, repo, commit)
    assert list(outside.iterdir()) == []
    assert [*Path(repo.path).glob("**/.agentcmd-*")] == []


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
async def test_a_local_edit_that_git_is_told_to_overlook_comes_back(desk, repo, flag):
    repo.commit({"local.conf": "shared\n", "b": "1\n"})
    repo.git("update-index", flag, "local.conf")
    (repo.path / "local.conf").write_text("mine\n")
    await comes_back(desk, repo, lambda: (repo.path / "local.conf").write_text("an agent's\n"))
    assert repo.git("ls-files", "-v", "local.conf").split()[0] in ("h", "S")


async def test_a_file_keeps_who_may_read_it(desk, repo):
    repo.commit({"secret": "one\n", "tool": "#!/bin/sh\n"})
    modes = {"secret": 0o600, "tool": 0o700}
    for name, mode in modes.items():
        (repo.path / name).chmod(mode)
    commit = await taken(desk, repo)
    for name in modes:
        (repo.path / name).write_text("an agent's\n")
    (repo.path / "tool").chmod(0o600)
    await restored(desk, repo, commit)
    found = {name: (repo.path / name).stat().st_mode & 0o777 for name in modes}
    assert (repo.path / "secret").read_text() == "one\n"
    assert found == modes
