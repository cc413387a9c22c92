"""Names and contents searched, in each of the three ways."""

from __future__ import annotations

import shutil
from typing import Any

import debian
import pytest
from filed import Files
from repositories import Repo, added

from daemon.core.errors import BadRequest, NotFound, Unavailable
from domains.file.commands.searching import SearchFiles
from domains.file.disk import scanning
from domains.file.matching import Globs, of_git, of_ripgrep, ranked, shortened

FILES = {
    "src/one.py": "first fee line\nFee here, fee there\r\nécole fee\n",
    "src/two.txt": "no match\nfee\n",
    "docs/fee.md": "f.e is a dot\n",
    ".hidden": "fee\n",
    "wide.txt": "x\nfee wide\n".encode("utf-16"),
    "binary.bin": b"fee\0\1",
    "ignored.log": "fee\n",
    "new\nline.txt": "fee\n",
    ".gitignore": "*.log\n",
}


@pytest.fixture(params=["ripgrep", "git", "walk"])
def by(request, monkeypatch) -> str:
    """Search in one of the ways."""
    program = shutil.which("rg") or str(debian.unpacked("ripgrep") / "usr" / "bin" / "rg")
    found = program if request.param == "ripgrep" else None
    monkeypatch.setattr(scanning, "ripgrep", lambda: found)
    return request.param


@pytest.fixture
async def searched(by, running, tmp_path):
    """Files to search; in no repository where neither git nor ripgrep is to search them."""
    root = tmp_path / "own"
    for name, content in FILES.items():
        if by != "walk" or not name.endswith("log"):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if by != "walk":
        Repo(root).commit()
        (root / "src" / "untracked.c").write_text("a fee\n")
    else:
        (root / "src" / "untracked.c").write_text("a fee\n")
    async with running.client() as client:
        yield Files(client, await added(client, root), root)


def ranges(match: dict[str, Any]) -> list[list[int]]:
    return [[each["start"], each["end"]] for each in match["ranges"]]


async def test_contents_are_found_with_line_column_and_ranges(by, searched):
    found = await searched.ask("search", query="fee", case="sensitive")
    assert found["by"] == by
    assert "truncated" not in found
    lines = {(m["path"], m["line"]): m for m in found["matches"]}
    wide = {("wide.txt", 2)} if by != "git" else set()  # to git that is binary
    assert (
        lines.keys()
        == {
            (".hidden", 1),
            ("new\nline.txt", 1),
            ("src/one.py", 1),
            ("src/one.py", 2),
            ("src/one.py", 3),
            ("src/two.txt", 2),
            ("src/untracked.c", 1),
        }
        | wide
    )
    first, second, third = (lines["src/one.py", line] for line in (1, 2, 3))
    assert (first["text"], first["column"], ranges(first)) == ("first fee line", 7, [[6, 9]])
    assert (second["text"], ranges(second)) == ("Fee here, fee there", [[10, 13]])
    assert (third["column"], ranges(third)) == (7, [[6, 9]])
    assert [m["path"] for m in found["matches"]] == sorted(m["path"] for m in found["matches"])


async def test_case_paths_globs_and_limits_narrow_a_search(searched):
    async def paths(query: str, **data: object) -> list[tuple[str, int]]:
        found = await searched.ask("search", query=query, **data)
        return [(m["path"], m["line"]) for m in found["matches"]]

    smart = await searched.ask("search", query="fee", path="src/one.py")
    assert [ranges(m) for m in smart["matches"]] == [[[6, 9]], [[0, 3], [10, 13]], [[6, 9]]]
    assert await paths("Fee") == [("src/one.py", 2)]
    assert ("src/one.py", 2) in await paths("FEE", case="insensitive")
    assert await paths("f.e") == [("docs/fee.md", 1)]
    assert await paths("fee", globs=["*.txt", "!src"], path="src") == []
    assert await paths("fee", globs=["src/*.{c,txt}"]) == [
        ("src/two.txt", 2),
        ("src/untracked.c", 1),
    ]
    limited = await searched.ask("search", query="fee", limit=2)
    assert (len(limited["matches"]), limited["truncated"]) == (2, True)
    exact = await searched.ask("search", query="no match", limit=1)
    assert (len(exact["matches"]), "truncated" in exact) == (1, False)
    assert await paths("nowhere to be found") == []
    for dashed in ("--help", "-e", "--pre=sh"):
        assert await paths(dashed) == []
    with pytest.raises(NotFound):
        await paths("fee", path="gone")
    with pytest.raises(BadRequest, match="one line"):
        await paths("a\nb")


async def test_expressions_are_for_programs_that_can_be_stopped(by, searched):
    if by == "walk":
        with pytest.raises(BadRequest, match="install ripgrep"):
            await searched.ask("search", query="f.e", regex=True)
        return
    found = await searched.ask("search", query=r"^(f\w+) (l|e)|[Ff]ee,? t", regex=True)
    assert [(m["path"], m["line"]) for m in found["matches"]] == [("src/one.py", 2)]
    assert ranges(found["matches"][0]) == [[10, 15]]
    with pytest.raises(BadRequest, match="refuses"):
        await searched.ask("search", query="(", regex=True)


async def test_names_are_found_by_their_letters(by, searched):
    del by
    found = await searched.ask("search", **{"query": "fee", "in": "names"})
    assert [m["path"] for m in found["matches"]] == ["docs/fee.md"]
    assert ranges(found["matches"][0]) == [[5, 8]]
    found = await searched.ask("search", **{"query": "sone", "in": "names"})
    assert [m["path"] for m in found["matches"]] == ["src/one.py"]
    found = await searched.ask(
        "search", **{"query": "t", "in": "names", "globs": ["src"], "limit": 1}
    )
    assert (len(found["matches"]), found["truncated"]) == (1, True)
    with pytest.raises(BadRequest, match="globs"):
        await searched.ask("search", **{"query": "t", "in": "names", "regex": True})


async def test_a_file_that_git_has_but_is_gone_is_not_found(running, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit({"gone.txt": "", "here.txt": ""})
    (repo.path / "gone.txt").unlink()
    async with running.client() as client:
        files = Files(client, await added(client, repo.path), repo.path)
        found = await files.ask("search", **{"query": "txt", "in": "names"})
    assert [m["path"] for m in found["matches"]] == ["here.txt"]


async def test_a_search_that_takes_too_long_is_ended(start_daemon, tmp_path, monkeypatch):
    """By a program that never ends in ripgrep's place; its process is gone afterwards."""
    slow = tmp_path / "rg"
    slow.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setattr(scanning, "ripgrep", lambda: str(slow))
    (tmp_path / "own").mkdir()
    running = await start_daemon(FILE__SEARCH_TIMEOUT="2")
    async with running.client() as client:
        files = Files(client, await added(client, tmp_path / "own"), tmp_path / "own")
        with pytest.raises(Unavailable, match="search_timeout"):
            await files.ask("search", query="x")
        assert (await client.call("task.list"))["tasks"] == []
    assert (tmp_path / "pid").exists()


async def test_only_what_is_really_in_the_project_is_told_of_what_a_program_finds(
    running, tmp_path, monkeypatch
):
    """A program in ripgrep's place names files outside, behind symlinks, and lines that differ."""
    root = tmp_path / "own"
    (root / "real").mkdir(parents=True)
    (root / "real" / "f").write_text("a secret\nother\n")
    (tmp_path / "secret").write_text("a secret\n")
    (root / "out").symlink_to(tmp_path)
    (root / "in").symlink_to("real")
    said = "".join(
        '{"type":"match","data":{"path":{"text":"' + path + '"},"lines":{"text":"a secret"},'
        f'"line_number":{line},"submatches":[{{"start":2,"end":8}}]}}}}\n'
        for path, line in (
            ("../secret", 1),
            (f"{tmp_path}/secret", 1),
            ("out/secret", 1),
            ("in/f", 1),
            (".git/config", 1),
            ("real/f", 1),
            ("real/f", 2),
            ("real/f", 99),
        )
    )
    (tmp_path / "said").write_text(said)
    program = tmp_path / "rg"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/said\n")
    program.chmod(0o755)
    monkeypatch.setattr(scanning, "ripgrep", lambda: str(program))
    async with running.client() as client:
        files = Files(client, await added(client, root), root)
        found = await files.ask("search", query="secret")
    assert [(m["path"], m["text"]) for m in found["matches"]] == [("real/f", "a secret")]


# Parts that need no daemon


def test_globs_choose_as_in_gitignore():
    def chosen(*globs: str) -> list[str]:
        paths = ("a.py", "src/b.py", "src/deep/c.ts", "docs/d.md", "node/x.js")
        return [path for path in paths if Globs(globs).allow(path.split("/"))]

    assert chosen() == chosen("*") == chosen("**") == chosen("!*.rs")
    assert chosen("*.py") == ["a.py", "src/b.py"]
    assert chosen("/*.py") == ["a.py"]
    assert chosen("src") == chosen("src/**") == chosen("src/") == ["src/b.py", "src/deep/c.ts"]
    assert chosen("src/*.{py,js}") == ["src/b.py"]
    assert chosen("**/deep/*.ts") == ["src/deep/c.ts"]
    assert chosen("!src", "!*.md") == ["a.py", "node/x.js"]
    assert chosen("*.py", "!src") == ["a.py"]
    with pytest.raises(BadRequest, match="too many"):
        Globs(["{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}"])
    slow = "*a" * 90 + "b"
    assert not Globs([slow, "**/" * 60 + "x"]).allow(["a" * 250] * 100)


def test_names_are_ranked_by_how_they_fit():
    paths = ["lib/card/t.py", "src/cart.py", "cart/x.py", "src/my_cart.py", "no.py", "c/a/r/t"]
    best = ranked(paths, "cart", sensitive=False, most=10)
    assert [path for path, _ in best] == [
        *("src/cart.py", "src/my_cart.py", "cart/x.py", "lib/card/t.py", "c/a/r/t"),
    ]
    assert best[0][1] == [(4, 8)]
    assert best[3][1] == [(4, 7), (9, 10)]


def test_gits_words_are_read_though_a_path_has_newlines():
    said = b"a\nb\x003\x002\x00xy\na\nb\x003\x009\x00xy\nz\x001\x001\x00q\n"
    first, second = of_git(said)
    assert (first.path, first.line, first.spans, first.texts) == (b"a\nb", 3, ((1, 3),), (b"xy",))
    assert (second.path, second.line) == (b"z", 1)
    assert list(of_git(said[:20])) == [first._replace(texts=())]


def test_a_long_line_is_cut_around_its_first_match():
    line = ("é" * 1000 + "here" + "x" * 1000).encode()
    found = shortened(line, [(2000, 2004)])
    assert found.cut
    assert len(found.text) == 400
    assert found.column == 1001
    (match,) = found.ranges
    assert found.text[match.start : match.end] == "here"


def test_a_search_is_called_in_on_the_wire():
    assert "in" in SearchFiles.__struct_encode_fields__


def test_ripgreps_words_are_read_though_the_last_is_cut():
    said = (
        b'{"type":"begin","data":{"path":{"text":"a"}}}\n'
        b'{"type":"match","data":{"path":{"text":"./a"},"lines":{"bytes":"/w=="},"line_number":3,'
        b'"absolute_offset":9,"submatches":[{"match":{"text":"x"},"start":0,"end":1}]}}\n'
        b'{"type":"match","data":{"path":{"bytes":"/w=="},"lines":{"text":"x"},"line_number":3,'
        b'"submatches":[]}}\n'
        b'{"type":"match","data":{"path":{"te'
    )
    (hit,) = of_ripgrep(said)
    assert (hit.path, hit.line, hit.spans) == (b"a", 3, ((0, 1),))
