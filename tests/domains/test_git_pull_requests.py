"""Pull requests by `gh`: what it is given, and what its words mean.

A program of ours stands in for it: the real one needs GitHub.
"""

from __future__ import annotations

import json
import os
import shutil
import sys

import pytest
from repositories import Repo, added, ran

from daemon.core.errors import BadRequest, Conflict, Unavailable

GH = """#!{python}
import json, os, sys
with open({record!r}, "w") as file:
    json.dump([sys.argv[1:], dict(os.environ), sys.stdin.read(), os.getcwd()], file)
with open({answer!r}) as file:
    code, out, error = json.load(file)
print(out)
print(error, file=sys.stderr)
sys.exit(code)
"""

URL = "https://github.com/ada/shop/pull/7"


@pytest.fixture
def gh(tmp_path, monkeypatch):
    """Put a `gh` on the PATH; gives what has it answer something, and what it was given last."""
    folder, record, answer = tmp_path / "bin", tmp_path / "record", tmp_path / "answer"
    folder.mkdir()
    program = folder / "gh"
    program.write_text(GH.format(python=sys.executable, record=str(record), answer=str(answer)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def answers(code=0, out=URL, error=""):
        answer.write_text(json.dumps([code, out, error]))

    answers()
    return answers, lambda: json.loads(record.read_text())


async def test_gh_is_given_words_as_data_and_a_token_that_git_does_not_get(
    running, tmp_path, gh, monkeypatch
):
    answers, given = gh
    for name in ("GH_TOKEN", "GITHUB_TOKEN", "GH_REPO", "GH_DEBUG", "OTHER_SECRET"):
        monkeypatch.setenv(name, "secret")
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "1\n"})
    repo.git("switch", "-q", "-c", "fix/it")
    answers(out=f"Creating pull request\n\n{URL}\n", error="warning: 1 uncommitted change")
    async with running.client() as client:
        project = await added(client, repo.path)
        answer = await ran(
            client,
            project,
            "pull_request",
            title="--web",
            body="--body\n$(id) \u00e9",
            base="main",
            draft=True,
        )
        assert answer == {"url": URL, "head": "fix/it"}
        argv, environ, body, cwd = given()
        assert argv == [
            "pr",
            "create",
            "--title=--web",
            "--head=fix/it",
            "--body-file=-",
            "--base=main",
            "--draft",
        ]
        assert body == "--body\n$(id) \u00e9"
        assert cwd == str(repo.path)
        assert environ["GH_TOKEN"] == environ["GITHUB_TOKEN"] == "secret"
        assert environ["GH_PROMPT_DISABLED"] == "1"
        assert not {"GH_REPO", "GH_DEBUG", "OTHER_SECRET"} & environ.keys()
        keys = {value for name, value in environ.items() if name.startswith("GIT_CONFIG_KEY_")}
        assert {"core.hooksPath", "core.fsmonitor"} <= keys
        for args in ({"title": "a\nb"}, {"title": " "}, {"title": "x", "base": "--repo=x"}):
            with pytest.raises(BadRequest):
                await ran(client, project, "pull_request", **args)
        told = [m async for m in client.history(f"git:project:{project}")]
    assert "secret" not in str([m.data for m in told])


async def test_what_gh_says_is_told_with_a_next_step(running, tmp_path, gh, monkeypatch):
    answers, _ = gh
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "1\n"})
    async with running.client() as client:
        project = await added(client, repo.path)

        async def error(kind, code=1, error="", out="", **args):
            answers(code, out, error)
            with pytest.raises(kind) as caught:
                await ran(client, project, "pull_request", title="x", **args)
            return caught.value

        said = "To get started with GitHub CLI, please run:  gh auth login"
        assert "not logged in" in (await error(Unavailable, 4, said)).message
        said = f'a pull request for branch "x" into branch "main" already exists:\n{URL}'
        assert URL in (await error(Conflict, error=said, head="x")).message
        said = "pull request create failed: GraphQL: No commits between main and x (create)"
        assert "push it first" in (await error(Conflict, error=said, head="x")).message
        assert "gh refused: it is odd" in (await error(Conflict, error="it is odd")).message
        assert "it said nothing" in (await error(Conflict)).message
        await error(Conflict, 0, out="no address")
        repo.git("switch", "-q", "--detach")
        assert "detached" in (await error(Conflict)).message
        folder = tmp_path / "only-git"
        folder.mkdir()
        (folder / "git").symlink_to(str(shutil.which("git")))
        monkeypatch.setenv("PATH", str(folder))
        assert "there is no gh" in (await error(Unavailable, head="x")).message
