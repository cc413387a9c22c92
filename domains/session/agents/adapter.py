"""What an agent's adapter is: its program on one side, its protocol on the other."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from daemon.core.errors import BadRequest
from domains.session.agents.facts import Fact
from domains.session.commands import Abilities, CreateSession
from domains.session.messages import Image, Permission


class Adapter(Protocol):
    """One agent."""

    @property
    def name(self) -> str:
        """Give the name that `session.create` calls it by."""

    @property
    def prefixes(self) -> Sequence[str]:
        """Give the prefixes of the variables that its processes get from the daemon's own."""

    @property
    def abilities(self) -> Abilities:
        """Give what it can do."""

    def invocation(self, request: CreateSession, program: str = "") -> Invocation:
        """Turn a request into a program; BadRequest says what it lacks.

        `program` is the path of the agent's own, where the settings name one.
        """

    def history_folder(self, cwd: str, env: Mapping[str, str]) -> Path | None:
        """Give where it keeps the conversations of a folder, None where it keeps none."""

    def dialogue(self) -> Dialogue | None:
        """Begin the protocol of one process; None where there is no protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A program to start: its arguments, what it reads first, and whether its input stays open.

    `in_files`: arguments `--flag=value` whose value goes into a file that only the agent can read,
    by their index, each with the flag that takes the file's path: everybody sees arguments.
    """

    argv: list[str]
    in_files: Mapping[int, str] = field(default_factory=dict)
    first_input: bytes = b""
    keep_input: bool = False
    stop_signal: int = signal.SIGTERM


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer to a permission: `updated_input` replaces the tool's, `message` tells why not."""

    allow: bool
    message: str = ""
    updated_input: dict[str, Any] | None = None
    remember: bool = False


class Dialogue(Protocol):
    """An agent's protocol with one process: bytes in, facts out, and the other way; no I/O."""

    def parse(self, line: bytes) -> Sequence[Fact]:
        """Understand one line of output, given without its newline."""

    def message(self, content: str, images: Sequence[Image]) -> bytes:
        """Say something, which begins a turn."""

    def decide(self, permission: Permission, decision: Decision) -> bytes:
        """Answer a permission."""

    def interrupt(self) -> bytes:
        """Ask the agent to end the turn; its process stays."""


def refuse(request: CreateSession, *names: str) -> None:
    """Raise BadRequest for what this agent does not take."""
    for name in names:
        if getattr(request, name):
            wire = request.__struct_encode_fields__[request.__struct_fields__.index(name)]
            raise BadRequest(f"agent {request.agent} takes no {wire}; leave it out")
