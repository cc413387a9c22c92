"""Tasks: the supervised programs as such, whichever domain started them."""

from __future__ import annotations

from domains.task import commands
from domains.task.service import open_service

__all__ = ["DURABLE", "SCHEMA", "commands", "open_service"]

DURABLE = False
SCHEMA: tuple[str, ...] = ()
