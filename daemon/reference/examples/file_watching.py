"""Examples of projects watched for changes."""

from __future__ import annotations

from daemon.reference.examples.example import OF_PROJECT, Data, Example

EVENTS: dict[str, Data] = {
    "file.watch.ended": {
        **OF_PROJECT,
        "code": "too_large",
        "message": "the project has more than 500000 files and folders that git does not ignore; "
        "have it ignore more, or raise [file] watch_entries",
    },
}

COMMANDS: dict[str, Example] = {
    "file.watch": Example(
        OF_PROJECT,
        {**OF_PROJECT, "watching": True, "byGit": True, "entries": 1240, "folders": 87},
    ),
    "file.unwatch": Example(OF_PROJECT, {**OF_PROJECT, "watching": False}),
}
