"""Examples of merges, rebases, picks and reverts, of worktrees and of pull requests."""

from __future__ import annotations

from daemon.reference.examples.example import OF_PROJECT, Data, Example

HEAD = "5f2d9c0e8b7a61534f2e1d0c9b8a7f6e5d4c3b2a"
PICKED = "91be40d7c2f35a8e6b1d0f4c7a9e2b5d8c3f6a10"

COMBINED: Data = {"head": HEAD, "branch": "main", "commits": 1}

WORKTREE: Data = {
    "path": "/home/ada/.local/state/agentcmd/worktrees/shop-3f9c1a/checkout",
    "name": "checkout",
    "branch": "fix/checkout",
    "head": HEAD,
}

EVENTS: dict[str, Data] = {}

COMMANDS: dict[str, Example] = {
    "git.merge": Example(
        {**OF_PROJECT, "revision": "fix/checkout", "ff": "never", "message": "Take the fix in"},
        {**COMBINED, "commits": 3},
    ),
    "git.rebase": Example(
        {**OF_PROJECT, "onto": "origin/main", "branch": "fix/checkout", "autostash": True},
        {**COMBINED, "branch": "fix/checkout", "commits": 2},
    ),
    "git.cherry_pick": Example({**OF_PROJECT, "revisions": [PICKED]}, COMBINED),
    "git.revert": Example({**OF_PROJECT, "revisions": ["HEAD~2"]}, COMBINED),
    "git.continue": Example(OF_PROJECT, {**COMBINED, "commits": 3}),
    "git.abort": Example(OF_PROJECT, {"aborted": "merge", "head": HEAD}),
    "git.skip": Example(OF_PROJECT, COMBINED),
    "git.worktree_list": Example(
        {**OF_PROJECT, "details": True},
        {
            "worktrees": [
                {
                    "path": "/home/ada/shop",
                    "branch": "main",
                    "head": HEAD,
                    "main": True,
                    "current": True,
                    "clean": True,
                    "merged": True,
                },
                {**WORKTREE, "clean": False, "merged": True, "processes": ["vim (pid 4711)"]},
            ],
            "total": 2,
        },
    ),
    "git.worktree_add": Example(
        {**OF_PROJECT, "name": "checkout", "branch": "fix/checkout", "start": "origin/main"},
        {"worktree": WORKTREE, "new": True},
    ),
    "git.worktree_remove": Example(
        {**OF_PROJECT, "name": "checkout", "deleteBranch": True},
        {"path": WORKTREE["path"], "branch": "fix/checkout", "branchDeleted": True},
    ),
    "git.pull_request": Example(
        {**OF_PROJECT, "title": "Fix the checkout", "base": "main", "draft": True},
        {"url": "https://github.com/ada/shop/pull/7", "head": "fix/checkout"},
    ),
}
