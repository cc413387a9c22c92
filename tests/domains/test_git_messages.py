"""Messages of commits survive byte for byte."""

from __future__ import annotations

import pytest
from repositories import Repo, added, ran

from daemon.core.errors import Conflict
from domains.git.messages import without_hint

WORDS = "#42 fix it\r\n\r\n# a heading  \ntrailing \t\n; no comment\n\n\n"
ADA = {"author": "Ada <ada@example.org>"}


def message(repo: Repo, revision: str = "HEAD") -> str:
    return repo.raw("cat-file", "commit", revision).decode().partition("\n\n")[2]


@pytest.fixture(params=["", "strip", "scissors"])
async def place(request, running, tmp_path):
    """A repository of two sides in conflict, whose user treats messages in a way of their own."""
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "1\n"})
    repo.git("switch", "-q", "-c", "side")
    repo.write("a", "side\n")
    repo.git("commit", "-qa", "--cleanup=verbatim", "-F", "-", stdin=WORDS.encode())
    repo.git("switch", "-q", "main")
    repo.commit({"a": "main\n"})
    repo.git("config", "user.name", "Ada")
    repo.git("config", "user.email", "ada@example.org")
    if request.param:
        repo.git("config", "commit.cleanup", request.param)
        repo.git("config", "core.commentChar", ";")
    async with running.client() as client:
        yield client, await added(client, repo.path), repo


async def resolved(place, operation: str, **args) -> None:
    client, project, repo = place
    with pytest.raises(Conflict, match="conflicts in a"):
        await ran(client, project, operation, **args)
    repo.write("a", "resolved\n")
    await ran(client, project, "stage", paths=["a"])
    await ran(client, project, "continue")


async def test_a_commit_and_its_amendment_keep_every_byte(place):
    client, project, repo = place
    repo.write("a", "2\n")
    await ran(client, project, "commit", message=WORDS, all=True, **ADA)
    assert message(repo) == WORDS
    repo.write("a", "3\n")
    await ran(client, project, "commit", amend=True, all=True)
    assert message(repo) == WORDS
    await ran(client, project, "commit", amend=True, message="no end of line", **ADA)
    assert message(repo) == "no end of line\n"


async def test_a_rebase_keeps_every_byte_also_behind_a_conflict(place):
    repo = place[2]
    repo.git("switch", "-q", "side")
    await resolved(place, "rebase", onto="main")
    assert message(repo) == WORDS
    assert message(repo, "HEAD~1") == message(repo, "main")


async def test_picked_commits_keep_every_byte_also_behind_a_conflict(place):
    client, project, repo = place
    repo.git("switch", "-q", "side")
    repo.write("b", "b\n")
    repo.git("add", "b")
    repo.git("commit", "-q", "--cleanup=verbatim", "-F", "-", stdin=WORDS.encode())
    repo.git("switch", "-q", "main")
    await resolved(place, "cherry_pick", revisions=["side~1", "side"])
    assert [message(repo), message(repo, "HEAD~1")] == [WORDS, WORDS]
    summary = (await ran(client, project, "status"))["summary"]
    assert summary.get("underWay") is None


async def test_a_merge_keeps_every_byte_of_its_message(place):
    client, project, repo = place
    await resolved(place, "merge", revision="side", message=WORDS)
    assert message(repo) == WORDS
    repo.git("reset", "-q", "--hard", "HEAD~1")
    with pytest.raises(Conflict):
        await ran(client, project, "merge", revision="side")
    repo.write("a", "resolved\n")
    await ran(client, project, "stage", paths=["a"])
    await ran(client, project, "continue", message=WORDS)
    assert message(repo) == WORDS
    repo.git("reset", "-q", "--hard", "main~1")
    repo.git("branch", "clean", "HEAD~1")
    await ran(client, project, "merge", revision="clean", ff="never", message="m")


async def test_a_revert_that_stopped_has_the_message_of_a_revert(place):
    repo = place[2]
    repo.commit({"a": "later\n"})
    await resolved(place, "revert", revisions=["HEAD~1"])
    commit = repo.git("rev-parse", "HEAD~2").strip()
    assert message(repo) == f'Revert "a commit"\n\nThis reverts commit {commit}.\n'.replace(
        commit, repo.git("rev-parse", "HEAD~2").strip()
    )


def test_only_gits_own_hint_is_left_out():
    hint = b"\n# Conflicts:\n#\ta\n#\tb c\n"
    assert without_hint(b"#1 m\n\n# x\n" + hint) == b"#1 m\n\n# x\n"
    assert without_hint(b"m\n\n; Conflicts:\n;\ta\n") == b"m\n"
    for words in (b"m\n\n# Conflicts:\nwe had some\n", b"Conflicts:\n", b"\n" * 60_000):
        assert without_hint(words) == words
