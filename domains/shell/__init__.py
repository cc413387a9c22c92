"""Terminals: programs at a pseudoterminal, seen and used by many at once."""

from __future__ import annotations

from daemon.core.registry import Noun
from domains.shell import commands, events
from domains.shell.service import open_service

__all__ = ["DURABLE", "NOUN", "SCHEMA", "commands", "events", "open_service"]

DURABLE = False

SCHEMA: tuple[str, ...] = ()

NOUN = Noun.of("terminal")
