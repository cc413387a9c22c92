"""Git: operations on the repositories of projects."""

from __future__ import annotations

from daemon.core.registry import Noun
from domains.git import commands, events
from domains.git.service import SCHEMA, open_service

__all__ = ["DURABLE", "NOUN", "SCHEMA", "commands", "events", "open_service"]

DURABLE = True

NOUN = Noun.of("operation", many="git", key="project")
