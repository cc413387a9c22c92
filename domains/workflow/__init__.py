"""Workflows: runs of steps that survive anything.

A workflow's own process imports this too, for `@workflow`: the daemon's side comes when it is asked
for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from domains.workflow.sdk import Run, StepError, workflow

if TYPE_CHECKING:
    from daemon.core.registry import Noun
    from domains.workflow import commands, events
    from domains.workflow.records import SCHEMA
    from domains.workflow.service import open_service

    NOUN: Noun

__all__ = [
    "DURABLE",
    "NOUN",
    "SCHEMA",
    "Run",
    "StepError",
    "commands",
    "events",
    "open_service",
    "workflow",
]

DURABLE = True

_ELSEWHERE = {"SCHEMA": "records", "open_service": "service"}


def __getattr__(name: str) -> Any:
    """Give what the daemon is told of a domain."""
    if name == "NOUN":
        return import_module("daemon.core.registry").Noun.of("run", key="run")
    if name in {"commands", "events"}:
        return import_module(f"{__name__}.{name}")
    if name in _ELSEWHERE:
        return getattr(import_module(f"{__name__}.{_ELSEWHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
