"""What a terminal is opened with: its shell, its environment, its limits, and why it was not."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from msgspec import structs

from daemon.core.errors import AgentcmdError, BadRequest, SpawnFailed, Unavailable
from daemon.core.task import Task, TaskSettings

KIND = "terminal"
"""What its task is called, in `[task.kinds.terminal]` too."""

ENVIRONMENT = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
"""What a terminal says of itself: what xterm.js and all current emulators can do."""

WITHIN = "AGENTCMD_TERMINAL"
"""The variable with the id of the terminal that a program is in."""

NO_SHELLS = ("nologin", "false")
"""What stands in passwd for a user who is not to log in, as a service's."""

THEIR_FAULT = frozenset({
    "program_not_found", "not_executable", "is_directory", "cwd_missing", "exec_format",
    "interpreter_missing", "too_big",
})  # fmt: skip
"""Reasons of a failed start that another try does not mend."""


class ShellSettings(Protocol):
    """The section of the settings for terminals."""

    @property
    def program(self) -> str:
        """Give the shell; empty: the user's own."""

    @property
    def max_terminals(self) -> int:
        """Give how many may be open."""

    @property
    def max_terminals_per_user(self) -> int:
        """Give how many of one user."""

    @property
    def ring_bytes(self) -> int:
        """Give how much output of one is kept."""

    @property
    def idle_timeout(self) -> float:
        """Give the seconds without viewer, input and output that end one; 0: none."""

    @property
    def close_grace(self) -> float:
        """Give the seconds from the hang-up to the kill."""

    @property
    def keep_ended(self) -> float:
        """Give the seconds that an ended one can still be looked at."""

    @property
    def clipboard(self) -> bool:
        """Tell whether programs may write to the clipboards of viewers."""

    @property
    def recording_bytes(self) -> int:
        """Give the largest recording."""


def own_shell(environ: Mapping[str, str]) -> str:
    """Find the shell of the user as whom the daemon runs."""
    named = environ.get("SHELL", "")
    if not named:
        try:
            named = pwd.getpwuid(os.getuid()).pw_shell
        except KeyError:  # a uid without a name, as in containers
            named = ""
    return named if named and Path(named).name not in NO_SHELLS else "/bin/sh"


def limits(task_settings: TaskSettings, shell_settings: ShellSettings) -> TaskSettings:
    """Give what holds for terminals: no end but their own, unless their kind has one set."""
    own = task_settings.kinds.get(KIND)
    set_ = own.run_timeout if own is not None and own.run_timeout >= 0 else 0.0
    return structs.replace(
        task_settings.of(KIND),
        run_timeout=set_,
        silence_timeout=0.0,
        stop_grace=shell_settings.close_grace,
        drain_timeout=0.0,  # what is left behind ends at once; what it wrote is read all the same
    )


def refusal(task: Task) -> AgentcmdError:
    """Say why a terminal was not opened."""
    error = task.failure
    if error is None:
        return Unavailable("the terminal was closed before its program ran; try again")
    if isinstance(error, SpawnFailed) and error.details.get("reason") in THEIR_FAULT:
        return BadRequest(error.message, **error.details)
    return error
