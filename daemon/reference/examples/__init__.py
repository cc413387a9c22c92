"""Examples of every message, as they are on the wire; a test converts each to its structure."""

from __future__ import annotations

from daemon.reference.examples import (
    core,
    file,
    file_watching,
    git,
    git_changing,
    git_combining,
    git_looking,
    git_remotes,
    workflow,
    workspaces,
)
from daemon.reference.examples.core import REQUESTS, TS
from daemon.reference.examples.example import Data, Example

__all__ = ["COMMANDS", "EVENTS", "REQUESTS", "TS", "Data", "Example"]

PARTS = (
    core,
    workspaces,
    file,
    file_watching,
    git,
    git_combining,
    git_looking,
    git_remotes,
    git_changing,
    workflow,
)

EVENTS: dict[str, Data] = {name: data for part in PARTS for name, data in part.EVENTS.items()}
COMMANDS: dict[str, Example] = {
    name: example for part in PARTS for name, example in part.COMMANDS.items()
}
