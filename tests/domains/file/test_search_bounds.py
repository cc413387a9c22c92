"""Searches are bounded in memory and time, by each program, whatever lies in a project."""

from __future__ import annotations

import shutil
import tracemalloc

import debian
import pytest
from filed import Files
from repositories import Repo, added

from domains.file.disk import scanning
from domains.file.matching import Globs


@pytest.fixture(params=["ripgrep", "git"])
def by(request, monkeypatch):
    program = shutil.which("rg") or str(debian.unpacked("ripgrep") / "usr" / "bin" / "rg")
    found = program if request.param == "ripgrep" else None
    monkeypatch.setattr(scanning, "ripgrep", lambda: found)
    return request.param


async def test_a_huge_file_is_left_out_and_the_others_are_found(by, running, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "needle", "sub/b": "needle"})
    huge = repo.write("sub/[hu]*ge", "needle " * 10)
    with huge.open("ab") as file:
        file.truncate(33 << 20)
    repo.write("sub/huge", "needle")
    async with running.client() as client:
        files = Files(client, await added(client, repo.path), repo.path)
        for path, wanted in (("", ["a", "sub/b", "sub/huge"]), ("sub", ["sub/b", "sub/huge"])):
            found = await files.ask("search", path, query="needle")
            assert [each["path"] for each in found["matches"]] == wanted
            assert found["by"] == by
            assert "truncated" not in found  # it is no text


@pytest.fixture(params=["ripgrep", "git", "walk"])
async def large(request, running, tmp_path, monkeypatch):
    """A project in which two texts are too large, and a small one is not."""
    program = shutil.which("rg") or str(debian.unpacked("ripgrep") / "usr" / "bin" / "rg")
    monkeypatch.setattr(
        scanning, "ripgrep", lambda: program if request.param == "ripgrep" else None
    )
    own = tmp_path / "own"
    if request.param == "walk":
        own.mkdir()
    else:
        Repo(own).commit({"README": "first"})
    for name in ("small.txt", "logs/large.txt"):
        (own / name).parent.mkdir(exist_ok=True)
        (own / name).write_text("needle\n")
    with (own / "logs/large.txt").open("a") as file:
        while file.tell() <= scanning.FILE_BYTES:
            file.write("hay hay hay\n" * 100_000)
    async with running.client() as client:
        yield Files(client, await added(client, own), own)


@pytest.mark.parametrize(
    "asked",
    [{}, {"globs": ["*.txt"]}, {"path": "logs"}, {"path": "logs/large.txt"}],
    ids=["everywhere", "by glob", "folder", "file"],
)
async def test_a_search_says_that_a_text_was_too_large_for_it(asked, large):
    found = await large.ask("search", query="needle", **asked)
    assert found["truncated"]
    small = [each for each in found["matches"] if each["path"] == "small.txt"]
    assert bool(small) == ("path" not in asked)


async def test_a_large_file_that_is_not_searched_anyway_is_not_told_of(large):
    by = (await large.ask("search", query="needle"))["by"]
    found = await large.ask("search", query="needle", globs=["!large.txt"])
    assert "truncated" not in found
    if by != "walk":
        (large.path / ".gitignore").write_text("logs/\n")
        found = await large.ask("search", query="needle")
        assert "truncated" not in found
        (large.path / ".gitignore").unlink()
    with (large.path / "logs/large.txt").open("r+b") as file:
        file.write(b"\0\0\0")
    found = await large.ask("search", query="needle")
    assert "truncated" not in found
    assert [each["path"] for each in found["matches"]] == ["small.txt"]


async def test_what_was_found_before_the_time_limit_is_given(start_daemon, tmp_path, monkeypatch):
    line = (
        '{"type":"match","data":{"path":{"text":"./a"},"lines":{"text":"needle"},'
        '"line_number":1,"absolute_offset":0,"submatches":[{"match":{"text":"needle"},'
        '"start":0,"end":6}]}}'
    )
    slow = tmp_path / "rg"
    slow.write_text(f"#!/bin/sh\necho '{line}'\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setattr(scanning, "ripgrep", lambda: str(slow))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a").write_text("needle")
    running = await start_daemon(FILE__SEARCH_TIMEOUT="2")
    async with running.client() as client:
        files = Files(client, await added(client, tmp_path / "own"), tmp_path / "own")
        found = await files.ask("search", query="needle")
    assert [each["path"] for each in found["matches"]] == ["a"]
    assert found["truncated"]


@pytest.mark.parametrize("content", [b"\n" * (8 << 20) + b"needle", b"needle" * (1 << 20)])
def test_our_own_search_holds_no_list_of_all_lines(tmp_path, content):
    (tmp_path / "f").write_bytes(content)
    tracemalloc.start()
    try:
        found = scanning.scanned(
            str(tmp_path), (), b"needle", Globs(()), sensitive=True, most=10, deadline=1e12
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [match.line for match in found.matches] == [content.count(b"\n") + 1]
    assert peak < 8 * len(content)
