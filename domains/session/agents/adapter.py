"""What an agent's adapter is: its name, its program, and the environment it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from domains.session.commands import CreateSession


class Adapter(Protocol):
    """One agent."""

    @property
    def name(self) -> str:
        """Give the name that `session.create` calls it by."""

    @property
    def prefixes(self) -> Sequence[str]:
        """Give the prefixes of the variables that its processes get from the daemon's own."""

    def invocation(self, request: CreateSession) -> Invocation:
        """Turn a request into a program; BadRequest says what it lacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A program to start: its arguments, what it reads first, and whether its input stays open."""

    argv: list[str]
    first_input: bytes = b""
    keep_input: bool = False
