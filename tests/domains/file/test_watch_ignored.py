"""What the watcher tells under git's rules: all that git tracks or does not ignore, wherever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filed import Files
from repositories import Repo, added
from watches import settled, watching

from domains.file import watcher

TAKEN_IN = {
    ".vscode/*\n!.vscode/settings.json\n": (".vscode/settings.json", ".vscode/other.json"),
    ".yarn/*\n!.yarn/releases\n": (".yarn/releases/yarn.cjs", ".yarn/cache/x"),
    "**/target/*\n!**/target/keep/\n": ("a/target/keep/x", "a/target/debug/x"),
    "/out/**\n!/out/\n!/out/deep/\n!/out/deep/kept\n": ("out/deep/kept", "out/deep/other"),
    "/*\n!/src/\n!/settled*\n": ("src/x", "lib/x"),
    "logs/*.log\n!logs/keep.log\n": ("logs/keep.log", "logs/x.log"),
    "data/?\n!data/k\n": ("data/k", "data/x"),
    "tmp/[a-z]*\n!tmp/kept/\n": ("tmp/kept/x", "tmp/other/x"),
}


@pytest.mark.parametrize("rules", TAKEN_IN)
async def test_a_file_that_a_later_pattern_takes_in_is_told(running, tmp_path, rules):
    kept, left = TAKEN_IN[rules]
    root = tmp_path / "own"
    repo = Repo(root)
    repo.write(left, "1")
    repo.commit({".gitignore": rules, "first": "", kept: "1"})
    assert kept in repo.git("ls-files").split("\n") or rules.startswith("/*")
    view = await watching(running, root)
    (root / left).write_text("22")
    (root / kept).write_text("22")
    assert await view.took({kept: "modified"}) == {kept: "modified"}
    (root / kept).unlink()
    assert await view.took({kept: "deleted"}) == {kept: "deleted"}
    (root / kept).write_text("333")
    (root / left).write_text("333")
    assert await view.took({kept: "added"}) == {kept: "added"}
    assert await settled(view, root) == {}


async def test_rules_from_everywhere_count(start_daemon, tmp_path, monkeypatch):
    monkeypatch.setattr(watcher, "ROOT_CHECK", 0.1)
    home = tmp_path / "home"
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".config" / "git" / "ignore").write_text("*.global\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    running = await start_daemon()
    root = tmp_path / "own"
    repo = Repo(root)
    (root / ".git" / "info").mkdir(exist_ok=True)
    (root / ".git" / "info" / "exclude").write_text("*.excluded\n")
    repo.git("config", "core.ignoreCase", "true")
    repo.commit(
        {
            ".gitignore": "*.top\nBUILD/\n",
            "sub/.gitignore": "*.sub\n!x.top\n",
            "build2/x": "",
            "sub/x": "",
        }
    )
    view = await watching(running, root)
    (root / "build").mkdir()
    (root / "build" / "x").touch()
    for name in ("a.global", "a.excluded", "a.top", "sub/a.top", "sub/a.sub"):
        (root / name).touch()
    (root / "sub" / "x.top").touch()
    (root / "b.sub").touch()
    wanted = {"sub/x.top": "added", "b.sub": "added"}
    assert await view.took(wanted) == wanted

    (home / ".config" / "git" / "ignore").write_text("*.other\n")
    while not view.overflows:
        await view.next()
    (root / "a.global").write_text("seen now")
    await view.took({"a.global": "modified"})


async def test_what_git_tracks_in_ignored_folders_is_told(running, tmp_path):
    inner = Repo(tmp_path / "inner")
    inner.commit({"x": "1"})
    root = tmp_path / "own"
    repo = Repo(root)
    repo.write(".gitignore", "vendor/\nnode_modules/\n")
    repo.write("vendor/kept/deep/x", "1")
    for number in range(2000):
        repo.write(f"node_modules/{number % 50}/{number}", "")
    repo.git("add", ".gitignore")
    repo.git("add", "-f", "vendor/kept/deep/x")
    repo.git("commit", "-qm", "first")
    repo.git("-c", "protocol.file.allow=always", "submodule", "-q", "add", "-f",
             str(inner.path), "vendor/module")  # fmt: skip
    repo.git("commit", "-qm", "a submodule")
    view = await watching(running, root)
    assert "vendor/module" in repo.git("ls-files", "vendor")
    assert view.state["folders"] == 5  # "", vendor, its module, kept, deep: not node_modules
    (root / "vendor" / "kept" / "deep" / "x").write_text("22")
    (root / "vendor" / "kept" / "deep" / "other").write_text("22")
    (root / "node_modules" / "1" / "1").write_text("22")
    wanted = {"vendor/kept/deep/x": "modified"}
    assert await view.took(wanted) == wanted


# A project that is a part of a repository


@pytest.fixture
async def package(running, tmp_path):
    """A package of a monorepo as project."""
    repo = Repo(tmp_path / "mono")
    repo.write("packages/one/node_modules/dep/index.js", "needle")
    repo.commit(
        {
            ".gitignore": "node_modules/\n*.log\n",
            "packages/.gitignore": "dist/\n",
            "packages/one/src/a.py": "needle",
            "packages/two/b.py": "needle",
        }
    )
    repo.write("packages/one/dist/out.js", "needle")
    repo.write("packages/one/new.py", "needle")
    path = repo.path / "packages" / "one"
    async with running.client() as client:
        yield Files(client, await added(client, path), path)


@pytest.mark.parametrize("by", ["git", "any"])
async def test_the_rules_of_a_repository_count_in_a_project_below_its_top(
    package, running, monkeypatch, by
):
    if by == "git":
        monkeypatch.setattr("domains.file.disk.scanning.ripgrep", lambda: None)
    assert await package.names() == ["src", "new.py"]
    found = await package.ask("search", query="needle")
    assert sorted(each["path"] for each in found["matches"]) == ["new.py", "src/a.py"]
    found = await package.ask("search", query="py", **{"in": "names"})
    assert sorted(each["path"] for each in found["matches"]) == ["new.py", "src/a.py"]
    assert found["by"] == "git"
    monkeypatch.setattr(watcher, "ROOT_CHECK", 0.1)
    view = await watching(running, package.path)
    assert view.state["byGit"]
    (package.path / "node_modules" / "dep" / "new.js").touch()
    (package.path / "x.log").touch()
    (package.path / "src" / "b.py").touch()
    assert await view.took({"src/b.py": "added"}) == {"src/b.py": "added"}
    (package.path.parent / ".gitignore").write_text("dist/\nnew.*\n")
    while not view.overflows:
        await view.next()
    (package.path / "new.py").write_text("ignored now")
    assert await settled(view, package.path) == {}


async def test_a_project_that_the_repository_around_it_ignores_has_all_its_files(running, tmp_path):
    repo = Repo(tmp_path / "mono")
    repo.commit({".gitignore": "build/\n*.log\n"})
    path = repo.path / "build" / "own"
    path.mkdir(parents=True)
    (path / "a.log").write_text("needle")
    async with running.client() as client:
        files = Files(client, await added(client, path), path)
        assert await files.names() == ["a.log"]
        found = await files.ask("search", query="a.log", **{"in": "names"})
        assert [each["path"] for each in found["matches"]] == ["a.log"]
    view = await watching(running, path)
    assert not view.state.get("byGit")
    (path / "b.log").touch()
    await view.took({"b.log": "added"})


async def test_a_repository_around_that_would_run_something_is_not_asked(running, tmp_path):
    repo = Repo(tmp_path / "mono")
    repo.commit({".gitignore": "*.log\n", "own/x": ""})
    repo.git("config", "core.fsmonitor", f"touch {tmp_path}/ran; false")
    repo.git("config", "filter.x.clean", f"touch {tmp_path}/ran; cat")
    (repo.path / "own" / "a.log").touch()
    async with running.client() as client:
        path = repo.path / "own"
        files = Files(client, await added(client, path), path)
        assert "x" in await files.names()
        await files.ask("search", query="x")
    assert not (tmp_path / "ran").exists()
    assert Path(os.path.realpath(path)) == path
