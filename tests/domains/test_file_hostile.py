"""Files asked for by somebody who wants out of the project, or the daemon to hang."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
import time
from pathlib import Path

import pytest
from filed import Files
from repositories import Repo, ran

from daemon.core.errors import AgentcmdError, BadRequest, Conflict, NotFound, Unavailable
from domains.file.commands.changing import RenameFile, WriteFile
from domains.file.commands.looking import ReadFile
from domains.file.disk import moving, writing
from domains.file.disk.listing import described, listing
from domains.file.disk.reading import read
from domains.file.names import is_git, is_hidden, parts_of


async def everything(files: Files, path: str) -> list[object]:
    """Ask every command about a path, and give the answers."""
    asked = [
        files.ask("tree", path),
        files.ask("read", path),
        files.ask("write", path, content="evil", parents=True),
        files.ask("make_folder", path, parents=True),
        files.ask("rename", path, to="stolen"),
        files.ask("rename", "mine", to=path),
        files.ask("delete", path, recursive=True),
        files.ask("search", path, query="secret"),
        files.ask("search", path, **{"query": "s", "in": "names"}),
    ]
    answers = []
    for each in asked:
        answers += await asyncio.gather(each, return_exceptions=True)
    return answers


PATHS = [
    "../secret",
    "a/../../secret",
    "/etc/passwd",
    "..",
    "a\0b",
    ".git/config",
    ".GIT/config",
    "a/.Git/hooks/x",
    ".g\u200cit/config",
    "git~1/config",
    ".git",
    ".agentcmd-0123456789abcdef.tmp",
    "out/secret",
    "up/secret",
    "deep/up/up/secret",
    "to-git/config",
    "a/" * 2100 + "b",
    "n" * 256,
]


async def test_no_command_leaves_the_project_or_enters_git(files, tmp_path):
    Repo(files.path).commit({"mine": "mine", "a/x": "", "deep/x": ""})
    (tmp_path / "secret").write_text("secret")
    (files.path / "out").symlink_to(tmp_path)
    (files.path / "up").symlink_to("..")
    (files.path / "deep" / "up").symlink_to("../up")
    (files.path / "to-git").symlink_to(".git")
    config = (files.path / ".git" / "config").read_text()
    for path in PATHS:
        for answer in await everything(files, path):
            assert isinstance(answer, BadRequest | NotFound), (path, answer)
    assert (tmp_path / "secret").read_text() == "secret"
    assert (files.path / ".git" / "config").read_text() == config
    assert (files.path / "mine").read_text() == "mine"
    assert not (files.path / "stolen").exists()


@pytest.mark.parametrize("link", ["link", "relative"])
async def test_a_symlink_out_of_the_project_is_not_followed(plain, tmp_path, link):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (plain.path / "link").symlink_to(secret)
    (plain.path / "relative").symlink_to("../secret")
    (plain.path / "new").symlink_to(tmp_path / "new")
    for verb, more in (("read", {}), ("write", {"content": "evil"})):
        with pytest.raises(BadRequest, match="out of the project"):
            await plain.ask(verb, link, **more)
    with pytest.raises(BadRequest):
        await plain.ask("write", "new", content="evil")
    found = await plain.ask("search", query="secret")
    assert found["matches"] == []
    await plain.ask("delete", link)
    assert secret.read_text() == "secret"
    assert not (tmp_path / "new").exists()


def test_what_only_looks_like_a_loop_or_outside_is_found(tmp_path):
    root = tmp_path / "own"
    (root / "a" / "b").mkdir(parents=True)
    (root / "f").write_text("here")
    (root / "a" / "back").symlink_to("../a/b/../../f")
    (root / "a" / "b" / "all").symlink_to("../..")
    (root / "loop").symlink_to("loop")
    asked = ReadFile(project_id="p", path="f")
    for path in ("a/back", "a/b/all/a/b/all/f"):
        assert read(str(root), path.split("/"), asked, most=99, hashed=99).content == "here"
    found = listing(str(root), ("a", "b", "all"), hidden=True)
    assert (found.parts, found.names) == ((), ["a", "f", "loop"])
    with pytest.raises(BadRequest, match="too many symlinks"):
        read(str(root), ["loop"], asked, most=99, hashed=99)
    (entry,) = described(str(root), (), ["loop"])
    assert entry.outside
    assert entry.target is None


async def test_a_pipe_a_socket_and_a_device_are_refused_at_once(plain):
    os.mkfifo(plain.path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(plain.path)  # such a path is short
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
        (plain.path / "zero").symlink_to("/dev/zero")
        async with asyncio.timeout(30):
            for name in ("pipe", "socket", "zero"):
                with pytest.raises(BadRequest):
                    await plain.ask("read", name, encoding="base64", hash=True)
                with pytest.raises(BadRequest):
                    await plain.ask("write", name, content="")
            assert (await plain.ask("search", query="x"))["matches"] == []
            assert set(await plain.names()) == {"pipe", "socket", "zero"}
    (plain.path / "zero").unlink()
    os.mkfifo(plain.path / "another")
    await plain.ask("rename", "pipe", to="zero")
    assert (await plain.ask("delete", "zero"))["discarded"]["type"] == "other"


def test_files_of_proc_are_no_files():
    asked = ReadFile(project_id="p", path="self/environ")
    if not Path("/proc/self/environ").exists():
        pytest.skip("there is no /proc here")
    for path in ("proc/self/environ", "proc/version", "sys/kernel/uevent_seqnum"):
        if Path("/", path).exists():
            with pytest.raises(BadRequest):
                read("/", path.split("/"), asked, most=1 << 20, hashed=0)


@pytest.mark.parametrize("swapped", ["folder", "file"])
def test_a_symlink_swapped_in_at_the_worst_moment_lets_nobody_out(tmp_path, swapped):
    """Somebody swaps a folder or file for a symlink and back, a second long or until it is read."""
    root, outside = tmp_path / "own", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "f").write_text("secret")
    over = threading.Event()

    def swap_folder() -> None:
        away, link = tmp_path / "away", tmp_path / "link"
        while not over.is_set():
            link.symlink_to(outside)
            (root / "d").rename(away)
            link.rename(root / "d")
            (root / "d").unlink()
            away.rename(root / "d")

    def swap_file() -> None:
        link, file = tmp_path / "link", tmp_path / "file"
        while not over.is_set():
            link.symlink_to(outside / "f")
            link.replace(root / "d" / "f")
            file.write_text("mine")
            file.replace(root / "d" / "f")

    (root / "d").mkdir()
    (root / "d" / "f").write_text("mine")
    swapper = threading.Thread(target=swap_folder if swapped == "folder" else swap_file)
    swapper.start()
    begun = time.monotonic()
    seen: dict[str, int] = {}
    path = ["d", "f"]
    try:
        while (took := time.monotonic() - begun) < 1 or ("0 mine" not in seen and took < 30):
            for number, act in enumerate((
                lambda: read(
                    str(root), path, ReadFile(project_id="p", path="d/f"), most=99, hashed=99
                ).content,
                lambda: writing.write(
                    str(root), path, WriteFile(project_id="p", path="d/f", content=""), b"mine"
                ).path,
                lambda: [e.name for e in described(str(root), ("d",), ["f"])],
                lambda: moving.rename(
                    str(root),
                    path,
                    ["d", "g"],
                    RenameFile(project_id="p", path="d/f", to="d/g", overwrite=True),
                ).to,
                lambda: moving.rename(
                    str(root),
                    ["d", "g"],
                    path,
                    RenameFile(project_id="p", path="d/g", to="d/f", overwrite=True),
                ).to,
            )):  # fmt: skip
                try:
                    told = act()
                except AgentcmdError as error:
                    told = type(error).__name__
                seen[f"{number} {told}"] = seen.get(f"{number} {told}", 0) + 1
    finally:
        over.set()
        swapper.join()
    assert not any("secret" in each for each in seen), seen
    assert (outside / "f").read_text() == "secret"
    assert [p.name for p in outside.iterdir()] == ["f"]
    assert seen["0 mine"] > 0


def test_a_folder_that_is_moved_out_meanwhile_is_not_written_into(tmp_path, monkeypatch):
    root = tmp_path / "own"
    (root / "d").mkdir(parents=True)
    fill = writing._fill

    def moved(*args, **more):
        fill(*args, **more)
        (root / "d").rename(tmp_path / "away")

    monkeypatch.setattr(writing, "_fill", moved)
    with pytest.raises(Conflict, match="moved"):
        writing.write(
            str(root), ["d", "f"], WriteFile(project_id="p", path="d/f", content=""), b"x"
        )
    assert list((tmp_path / "away").iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, number):
    (tmp_path / "f").write_text("old")

    def full(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(writing.os, "write", full)
    for name in ("f", "new"):
        with pytest.raises(Unavailable):
            writing.write(
                str(tmp_path), [name], WriteFile(project_id="p", path=name, content=""), b"new"
            )
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_text() == "old"


def test_a_write_that_somebody_overtakes_is_refused(tmp_path, monkeypatch):
    (tmp_path / "f").write_text("old")
    fill = writing._fill

    def overtaken(*args, **more):
        fill(*args, **more)
        (tmp_path / name).write_text("theirs")

    monkeypatch.setattr(writing, "_fill", overtaken)
    for name in ("f", "new"):
        with pytest.raises(Conflict):
            writing.write(
                str(tmp_path), [name], WriteFile(project_id="p", path=name, content=""), b"mine"
            )
        assert (tmp_path / name).read_text() == "theirs"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f", "new"]


def test_a_file_that_a_dead_daemon_left_goes_with_the_next_write(tmp_path):
    asked = WriteFile(project_id="p", path="f", content="")
    seen: list[str] = []
    replace = os.replace
    (tmp_path / "f").write_text("")

    def noted(name, *args, **more):
        seen.append(name)
        replace(name, *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing.os, "replace", noted)
        writing.write(str(tmp_path), ["f"], asked, b"1")
    left = tmp_path / seen[0]
    left.write_text("left")
    assert listing(str(tmp_path), (), hidden=True).names == ["f"]
    writing.write(str(tmp_path), ["f"], asked, b"2")
    assert left.exists()  # it may be another daemon's, at work
    os.utime(left, (0, 0))
    writing.write(str(tmp_path), ["f"], asked, b"3")
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


async def test_a_project_whose_folder_is_gone_is_said(plain):
    plain.path.rename(plain.path.with_name("elsewhere"))
    for answer in await everything(plain, "f"):
        assert isinstance(answer, NotFound)
    with pytest.raises(NotFound):
        await plain.ask("delete", "f")
    assert (await plain.ask("trash_list"))["discarded"] == []
    with pytest.raises(Conflict, match="is gone"):
        await ran(plain.client, plain.project, "clone", url="https://host/name.git")


async def test_a_repository_that_would_run_something_is_looked_at_and_runs_nothing(
    files, tmp_path, monkeypatch
):
    repo = Repo(files.path)
    repo.commit({"a.txt": "word", ".gitattributes": "*.txt filter=x diff=x\n"})
    for name in ("core.fsmonitor", "filter.x.clean", "diff.x.textconv"):
        repo.git("config", name, f"touch {tmp_path}/ran")
    monkeypatch.setattr("domains.file.disk.scanning.ripgrep", lambda: None)
    (files.path / "a.txt").write_text("words")
    assert "a.txt" in await files.names()
    assert len((await files.ask("search", query="word"))["matches"]) == 1
    assert not (tmp_path / "ran").exists()


def test_names_of_git_are_known_in_every_dress():
    for name in (".git", ".GIT", ".Git ", ".git.", ".g\u200dit", "\ufeff.git", "GIT~1"):
        assert is_git(name), name
    for name in (".gitignore", ".github", "git", ".git-keep", "a.git"):
        assert not is_git(name), name
    assert parts_of("./a//b/") == ("a", "b")
    assert not is_hidden((".agent", "workflows"))
    with pytest.raises(BadRequest, match="half a character"):
        parts_of("\ud800")
