"""Examples of git operations as such; those of each operation are beside this file."""

from __future__ import annotations

from daemon.reference.examples.example import OF_PROJECT, Data, Example

OPERATION_ID = "01kdws4r8b2n6x0q3t"

FETCH: Data = {**OF_PROJECT, "operationId": OPERATION_ID, "operation": "fetch"}

SUMMARY: Data = {
    "head": "5f2d9c0e8b7a61534f2e1d0c9b8a7f6e5d4c3b2a",
    "branch": "main",
    "upstream": "origin/main",
    "ahead": 1,
    "behind": 0,
    "counts": {"staged": 1, "untracked": 2},
}

EVENTS: dict[str, Data] = {
    "git.operation.started": {**FETCH, "user": "ada"},
    "git.operation.progress": {
        **FETCH,
        "stage": "Receiving objects",
        "progress": {"current": 120, "total": 480, "percentage": 25.0},
    },
    "git.operation.completed": {**FETCH, "durationMs": 1840},
    "git.operation.failed": {
        **FETCH,
        "code": "unavailable",
        "message": "the remote cannot be reached, or has hung up: fatal: early EOF",
        "durationMs": 5210,
    },
    "git.status.changed": {**OF_PROJECT, "summary": SUMMARY},
}

COMMANDS: dict[str, Example] = {
    "git.run": Example(
        {**OF_PROJECT, "operation": "init", "args": {"branch": "main"}},
        {
            "operationId": OPERATION_ID,
            "result": {**OF_PROJECT, "summary": {"branch": "main", "counts": {}}},
        },
    ),
    "git.outcome": Example(
        {**OF_PROJECT, "operationId": OPERATION_ID}, {"operationId": OPERATION_ID, "known": True}
    ),
    "git.cancel": Example({**OF_PROJECT, "operationId": OPERATION_ID}, {**FETCH, "user": "ada"}),
    "git.list": Example({}, {"operations": [{**FETCH, "user": "ada"}]}),
    "git.init": Example(
        {**OF_PROJECT, "branch": "main"},
        {**OF_PROJECT, "summary": {"branch": "main", "counts": {}}},
    ),
    "git.unlock": Example(OF_PROJECT, {"removed": ["index.lock"]}),
}
