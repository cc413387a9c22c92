"""The daemon dies in the middle of git steps of several processes, and of what had stopped."""

from __future__ import annotations

import subprocess

import git_steps
import pytest
from repositories import Repo

OPERATIONS = {
    "discarded": "{operation: discard, paths: [b.txt, new.txt], untracked: true}",
    "thrown": "{operation: reset, revision: HEAD~1, mode: hard}",
    "cloned": "{operation: clone, url: URL, path: sub}",
    "added": "{operation: remote_add, name: up, url: https://example.org/x.git}",
    "removed": "{operation: remote_remove, name: up}",
    "popped": "{operation: stash_pop}",
    "merge-on": "{operation: continue}",
    "rebase-on": "{operation: continue}",
    "pick-on": "{operation: continue}",
    "rebase-off": "{operation: abort}",
    "rebase-past": "{operation: skip}",
    "pick-past": "{operation: skip}",
}

STOPPED = ("merge", "rebase", "pick")


def stop(repo, verb):
    """Stop at a conflict, which is resolved where the message is not to be lost."""
    repo.git("switch", "-qc", "clash", "main")
    repo.commit({"a.txt": "theirs\n"}, "#1 theirs")
    repo.commit({"z.txt": "z\n"}, "#2 more")
    repo.git("switch", "-q", "main")
    repo.commit({"a.txt": "mine\n"}, "mine")
    if verb == "merge":
        repo.git("merge", "clash", ok=(1,))
    elif verb == "rebase":
        repo.git("switch", "-q", "clash")
        repo.git("rebase", "main", ok=(1,))
    else:
        repo.git("cherry-pick", "clash~1", "clash", ok=(1,))


def prepare(folder, name):
    """Make a repository in which the step has something to do."""
    repo = Repo(folder / "own")
    repo.git("config", "user.name", "Ada")
    repo.git("config", "user.email", "ada@example.org")
    repo.commit({"a.txt": "a\n", "b.txt": "b\n", ".gitignore": ".agent\n"}, "first")
    repo.git("branch", "-M", "main")
    repo.commit({"b.txt": "c\n"}, "second")
    remote = folder / "remote.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(repo.path), str(remote)], check=True)
    repo.git("remote", "add", "origin", str(remote))
    repo.git("remote", "add", "up", str(remote))
    verb, _, how = name.partition("-")
    if verb in STOPPED:
        stop(repo, verb)
        if how == "on":
            repo.write("a.txt", "both\n")
            repo.git("add", "a.txt")
    if name == "added":
        repo.git("remote", "remove", "up")
    if name in ("discarded", "thrown", "popped"):
        repo.write("b.txt", "changed\n")
        repo.write("new.txt", "new\n")
    if name == "popped":
        repo.git("stash", "push", "-q", "--include-untracked")
    return repo


def standing(repo):
    """Return all that the steps may have changed, discarded changes too."""
    kept = repo.git("for-each-ref", "--format=%(refname)", "refs/agentcmd").split()
    return {
        "head": repo.git("symbolic-ref", "-q", "HEAD", ok=(0, 1)),
        "history": repo.git("log", "--format=%T %B", "HEAD"),
        "status": repo.git("status", "--porcelain"),
        "stash": repo.git("stash", "list", "--format=%gs"),
        "remotes": repo.git("remote"),
        "kept": [repo.git("diff", "--name-status", f"{ref}^", ref) for ref in kept],
        "clone": (repo.path / "sub/.git").exists(),
        "files": sorted(path.name for path in repo.path.iterdir()),
    }


POINTS = [
    *(("discarded", f"git-process:after:{number}") for number in (2, 4, 6, 7, 9)),
    *(("thrown", f"git-process:after:{number}") for number in (3, 5, 7)),
    ("cloned", "git-result:before:1"),
    ("cloned", "git-result:before:2"),
    ("added", "git-result:before:2"),
    ("removed", "git-result:before:2"),
    ("popped", "git-result:before:1"),
    *((name, "git-result:before:1") for name in OPERATIONS if "-" in name),
    ("pick-on", "git-begun:after:2"),
    ("pick-on", "git-result:before:2"),
]


async def carried_out(folder, name, at=""):
    """Run one of the steps."""
    operation = OPERATIONS[name].replace("URL", f"file://{folder}/remote.git")
    return await git_steps.carried_out(
        folder, operation, lambda place: prepare(place, name), standing, at
    )


@pytest.mark.parametrize(("name", "at"), POINTS)
async def test_a_step_that_is_cut_off_between_two_processes_ends_as_an_undisturbed_one(
    tmp_path, name, at
):
    undisturbed = await carried_out(tmp_path / "undisturbed", name)
    assert await carried_out(tmp_path / "disturbed", name, at) == undisturbed
