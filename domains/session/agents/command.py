"""The agent `command`: any program, no protocol; its output is the stream, its exit the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.core.errors import BadRequest
from domains.session.agents.adapter import Dialogue, Invocation, refuse
from domains.session.commands import Abilities, CreateSession

CAN = Abilities()


@dataclass(frozen=True, slots=True)
class CommandAdapter:
    """Runs `argv`; the prompt, if any, is its standard input."""

    name: str = "command"
    prefixes: Sequence[str] = ()
    abilities: Abilities = CAN

    def invocation(self, request: CreateSession, program: str = "") -> Invocation:
        """Take the arguments as they are; nothing passes through a shell."""
        del program
        if not request.argv:
            raise BadRequest(
                'agent command needs argv, the program and its arguments, as in ["ls", "-l"]'
            )
        refuse(
            request, "model", "permission_mode", "system_prompt", "mcp_config", "allowed_tools",
            "budget_usd", "resume", "fork", "images",
        )  # fmt: skip
        return Invocation(
            argv=request.argv,
            first_input=(request.prompt or "").encode(),
            keep_input=request.keep_alive,
        )

    def history_folder(self, cwd: str, env: Mapping[str, str]) -> Path | None:
        """Give none: what a command said, only we have."""
        del cwd, env
        return None

    def dialogue(self) -> Dialogue | None:
        """Give none: its output is text."""
        return None


COMMAND = CommandAdapter()
