"""The daemon itself: how it is, and its stop."""

from __future__ import annotations

from domains.system import commands, events
from domains.system.service import open_service

__all__ = ["DURABLE", "SCHEMA", "commands", "events", "open_service"]

DURABLE = False
SCHEMA: tuple[str, ...] = ()
