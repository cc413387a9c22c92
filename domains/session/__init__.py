"""Sessions: agents and commands at work, from prompt to end."""

from __future__ import annotations

from domains.session import commands, events
from domains.session.records import SCHEMA
from domains.session.service import open_service

__all__ = ["DURABLE", "SCHEMA", "commands", "events", "open_service"]

DURABLE = True
