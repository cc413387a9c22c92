"""Examples of git operations that stage, commit, discard, branch, tag and stash."""

from __future__ import annotations

from daemon.reference.examples.example import OF_PROJECT, Data, Example

COMMIT = "5f2d9c0e8b7a61534f2e1d0c9b8a7f6e5d4c3b2a"
BEFORE = "0c4b8a7f6e5d4c3b2a1f0e9d8c7b6a5f4e3d2c1b"
STASH = "9e8d7c6b5a4f3e2d1c0b9a8f7e6d5c4b3a2f1e0d"
DISCARD_ID = "01kdws6c2m9v4q7h5b"

STANDING: Data = {
    "summary": {
        "head": COMMIT,
        "branch": "main",
        "counts": {"staged": 2, "unstaged": 1},
    }
}

EVENTS: dict[str, Data] = {}

COMMANDS: dict[str, Example] = {
    "git.stage": Example({**OF_PROJECT, "paths": ["src/cart.py", "tests"]}, STANDING),
    "git.unstage": Example({**OF_PROJECT, "all": True}, STANDING),
    "git.discard": Example(
        {**OF_PROJECT, "paths": ["src"], "untracked": True},
        {"discardId": DISCARD_ID, "paths": ["src/cart.py", "src/old.py"], "count": 2},
    ),
    "git.discard_restore": Example(
        {**OF_PROJECT, "discardId": DISCARD_ID, "paths": ["src/cart.py"]},
        {"written": ["src/cart.py"], "writtenCount": 1, "discardId": "01kdws7p4t8n3x6w2r"},
    ),
    "git.discard_list": Example(
        {**OF_PROJECT, "limit": 50},
        {
            "discarded": [
                {
                    "discardId": DISCARD_ID,
                    "operation": "discard",
                    "at": 1767322800,
                    "commit": STASH,
                    "paths": ["src/cart.py", "src/old.py"],
                    "count": 2,
                }
            ]
        },
    ),
    "git.commit": Example(
        {
            **OF_PROJECT,
            "message": "Count each item of the cart once\n\nIt was counted for each of its prices.",
            "author": "Ada Lovelace <ada@example.org>",
            "signOff": True,
        },
        {
            "commit": COMMIT,
            "summary": "Count each item of the cart once",
            "files": 2,
            "insertions": 14,
            "deletions": 3,
            "hooksSkipped": True,
        },
    ),
    "git.reset": Example(
        {**OF_PROJECT, "revision": "HEAD~1", "mode": "hard"},
        {"commit": BEFORE, "before": COMMIT, "discardId": DISCARD_ID},
    ),
    "git.branch_create": Example(
        {**OF_PROJECT, "name": "cart", "startPoint": "main", "switch": True},
        {"name": "cart", "commit": COMMIT},
    ),
    "git.switch": Example(
        {**OF_PROJECT, "branch": "main"},
        {"branch": "main", "commit": COMMIT, "previous": "cart"},
    ),
    "git.branch_delete": Example(
        {**OF_PROJECT, "name": "cart", "force": True}, {"name": "cart", "commit": COMMIT}
    ),
    "git.branch_rename": Example(
        {**OF_PROJECT, "name": "cart", "newName": "basket"}, {"oldName": "cart", "name": "basket"}
    ),
    "git.tag_create": Example(
        {**OF_PROJECT, "name": "v1.0", "message": "The first one that sells something"},
        {"name": "v1.0", "commit": COMMIT, "objectId": BEFORE},
    ),
    "git.tag_delete": Example({**OF_PROJECT, "name": "v1.0"}, {"name": "v1.0", "objectId": BEFORE}),
    "git.stash_save": Example(
        {**OF_PROJECT, "message": "half a cart", "includeUntracked": True},
        {"commit": STASH, "message": "On main: half a cart"},
    ),
    "git.stash_apply": Example({**OF_PROJECT, "index": 1, "restoreIndex": True}, {"commit": STASH}),
    "git.stash_pop": Example({**OF_PROJECT, "commit": STASH}, {"commit": STASH, "dropped": True}),
    "git.stash_drop": Example({**OF_PROJECT, "index": 0}, {"commit": STASH}),
}
