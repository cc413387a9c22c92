"""Projects: the root folders that everything runs in."""

from __future__ import annotations

from domains.project import commands, events
from domains.project.service import SCHEMA, open_service

__all__ = ["DURABLE", "SCHEMA", "commands", "events", "open_service"]

DURABLE = True
