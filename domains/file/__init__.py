"""Files: the tree of a project, read, written, searched and watched."""

from __future__ import annotations

from daemon.core.registry import Noun
from domains.file import commands, events
from domains.file.service import SCHEMA, open_service

__all__ = ["DURABLE", "NOUN", "SCHEMA", "commands", "events", "open_service"]

DURABLE = False

NOUN = Noun.of("file", key="project")
