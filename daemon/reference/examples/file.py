"""Examples of what is asked of files, and told of them."""

from __future__ import annotations

from daemon.reference.examples.example import OF_PROJECT, Data, Example

HASH = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"

DISCARDED: Data = {
    "trashId": "20260101T000003-5e0f6d0e",
    "trashPath": "/home/ada/.local/state/agentcmd/trash/6f1e5b0c/20260101T000003-5e0f6d0e/old.py",
    "path": "src/old.py",
    "type": "file",
    "deletedAt": 1767225603.125,
    "user": "ada",
}

EVENTS: dict[str, Data] = {
    "file.changed": {
        **OF_PROJECT,
        "changes": [
            {"path": "src/cart.py", "change": "modified"},
            {"path": "src/old.py", "change": "deleted"},
        ],
    },
}

COMMANDS: dict[str, Example] = {
    "file.tree": Example(
        {**OF_PROJECT, "path": "src", "limit": 2},
        {
            **OF_PROJECT,
            "path": "src",
            "entries": [
                {
                    "name": "views",
                    "path": "src/views",
                    "type": "dir",
                    "modifiedAt": 1767225000.0,
                },
                {
                    "name": "cart.py",
                    "path": "src/cart.py",
                    "type": "file",
                    "size": 1840,
                    "modifiedAt": 1767225000.0,
                },
            ],
            "nextCursor": "ZmNhcnQucHk",
        },
    ),
    "file.read": Example(
        {**OF_PROJECT, "path": "src/cart.py", "fromLine": 1, "lines": 1},
        {
            **OF_PROJECT,
            "path": "src/cart.py",
            "content": "import json\n",
            "encoding": "utf-8",
            "size": 1840,
            "modifiedAt": 1767225000.0,
            "mode": "0644",
            "offset": 0,
            "length": 12,
            "truncated": True,
            "hash": HASH,
            "lineEndings": "lf",
            "fromLine": 1,
            "lines": 1,
        },
    ),
    "file.write": Example(
        {**OF_PROJECT, "path": "src/cart.py", "content": "foo", "expected": "absent"},
        {**OF_PROJECT, "path": "src/cart.py", "hash": HASH, "size": 3, "created": True},
    ),
    "file.make_folder": Example(
        {**OF_PROJECT, "path": "src/views", "parents": True},
        {**OF_PROJECT, "path": "src/views", "created": True},
    ),
    "file.rename": Example(
        {**OF_PROJECT, "path": "src/cart.py", "to": "src/basket.py"},
        {**OF_PROJECT, "path": "src/cart.py", "to": "src/basket.py"},
    ),
    "file.delete": Example(
        {**OF_PROJECT, "path": "src/old.py"}, {**OF_PROJECT, "discarded": DISCARDED}
    ),
    "file.restore": Example(
        {**OF_PROJECT, "trashId": DISCARDED["trashId"]}, {**OF_PROJECT, "path": "src/old.py"}
    ),
    "file.trash_list": Example(OF_PROJECT, {**OF_PROJECT, "discarded": [DISCARDED]}),
    "file.search": Example(
        {**OF_PROJECT, "query": "total", "globs": ["*.py"]},
        {
            **OF_PROJECT,
            "matches": [
                {
                    "path": "src/cart.py",
                    "line": 12,
                    "column": 5,
                    "text": "    total = 0",
                    "ranges": [{"start": 4, "end": 9}],
                }
            ],
            "by": "ripgrep",
        },
    ),
}
