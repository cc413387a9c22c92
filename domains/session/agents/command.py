"""The agent `command`: any program, no protocol; its output is the stream, its exit the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from daemon.core.errors import BadRequest
from domains.session.agents.adapter import Invocation
from domains.session.commands import CreateSession


@dataclass(frozen=True, slots=True)
class CommandAdapter:
    """Runs `argv`; the prompt, if any, is its standard input."""

    name: str = "command"
    prefixes: Sequence[str] = ()

    def invocation(self, request: CreateSession) -> Invocation:
        """Take the arguments as they are; nothing passes through a shell."""
        if not request.argv:
            raise BadRequest(
                'agent command needs argv, the program and its arguments, as in ["ls", "-l"]'
            )
        return Invocation(
            argv=request.argv,
            first_input=(request.prompt or "").encode(),
            keep_input=request.keep_alive,
        )


COMMAND = CommandAdapter()
