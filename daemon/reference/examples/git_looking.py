"""Examples of what only looks: status, diffs, logs, blame, lists of names."""

from __future__ import annotations

from daemon.reference.examples.example import OF_PROJECT, Data, Example
from daemon.reference.examples.git import SUMMARY

EVENTS: dict[str, Data] = {}

HEAD: str = SUMMARY["head"]
BEFORE = "c355127a61feaf2ae111c9db0399106522d003bb"

ADA: Data = {"name": "Ada", "email": "ada@example.org", "time": 1767323045, "utcOffset": 60}

COMMIT: Data = {
    "id": HEAD,
    "parents": [BEFORE],
    "author": ADA,
    "committer": ADA,
    "subject": "Prices are whole cents",
    "body": "They were not, and sums came out wrong.",
    "refs": ["HEAD", "refs/heads/main", "refs/tags/v1.1"],
}

DIFF: Data = {
    "files": [
        {
            "path": "shop/price.py",
            "status": "modified",
            "oldMode": "100644",
            "newMode": "100644",
            "additions": 1,
            "deletions": 1,
            "text": "diff --git a/shop/price.py b/shop/price.py\n"
            "index 4d1ae35..6a69f92 100644\n"
            "--- a/shop/price.py\n"
            "+++ b/shop/price.py\n"
            "@@ -1 +1 @@\n"
            "-price = 9.99\n"
            "+price = 999\n",
        }
    ],
    "fileCount": 1,
    "additions": 1,
    "deletions": 1,
}

COMMANDS: dict[str, Example] = {
    "git.status": Example(
        {**OF_PROJECT, "limit": 1000},
        {
            "summary": SUMMARY,
            "files": [
                {
                    "path": "shop/cost.py",
                    "index": "renamed",
                    "oldPath": "cost.py",
                    "similarity": 97,
                },
                {"path": "notes.txt", "workTree": "untracked"},
                {"path": "todo.txt", "workTree": "untracked"},
            ],
        },
    ),
    "git.diff": Example({**OF_PROJECT, "paths": ["shop"], "contextLines": 0}, DIFF),
    "git.log": Example(
        {**OF_PROJECT, "paths": ["shop"], "grep": "cents", "limit": 1},
        {
            "commits": [COMMIT],
            "tip": HEAD,
            "nextCursor": "W1siNWYyZDljMGU4YjdhIl0sMSxmYWxzZSwiYTEiXQ",
        },
    ),
    "git.show": Example(
        {**OF_PROJECT, "revision": "v1.1"},
        {"commit": COMMIT, "diff": DIFF},
    ),
    "git.blame": Example(
        {**OF_PROJECT, "path": "shop/price.py", "revision": "main", "startLine": 1, "endLine": 1},
        {
            "path": "shop/price.py",
            "revision": HEAD,
            "commits": [
                {
                    "id": HEAD,
                    "author": ADA,
                    "committer": ADA,
                    "summary": "Prices are whole cents",
                    "path": "shop/price.py",
                }
            ],
            "lines": [
                {"commit": 0, "line": 1, "originalLine": 1, "count": 1, "text": "price = 999\n"}
            ],
        },
    ),
    "git.branch_list": Example(
        {**OF_PROJECT, "remote": True},
        {
            "branches": [
                {
                    "name": "main",
                    "head": HEAD,
                    "subject": "Prices are whole cents",
                    "time": 1767323045,
                    "current": True,
                    "worktree": "/home/ada/shop",
                    "upstream": "origin/main",
                    "ahead": 1,
                    "behind": 0,
                },
                {
                    "name": "origin/main",
                    "head": BEFORE,
                    "subject": "Goods have prices",
                    "time": 1767320000,
                    "remote": True,
                },
            ]
        },
    ),
    "git.tag_list": Example(
        OF_PROJECT,
        {
            "tags": [
                {
                    "name": "v1.1",
                    "target": HEAD,
                    "targetType": "commit",
                    "annotated": True,
                    "tagger": ADA,
                    "message": "The second release",
                    "time": 1767323045,
                }
            ]
        },
    ),
    "git.remote_list": Example(
        OF_PROJECT,
        {
            "remotes": [
                {
                    "name": "origin",
                    "fetchUrl": "https://example.org/shop.git",
                    "pushUrls": ["https://example.org/shop.git"],
                }
            ]
        },
    ),
    "git.stash_list": Example(
        OF_PROJECT,
        {
            "stashes": [
                {
                    "index": 0,
                    "commit": HEAD,
                    "parent": BEFORE,
                    "message": "half a discount",
                    "time": 1767323045,
                    "branch": "main",
                }
            ]
        },
    ),
}
