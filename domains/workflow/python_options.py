"""Options that steps of a workflow in Python take."""

from __future__ import annotations

from typing import Literal, TypedDict


class Tries(TypedDict, total=False):
    """How long a step may take and how often it is tried again, in seconds."""

    timeout: float | None
    retries: int
    backoff: float


class Interrupts(TypedDict, total=False):
    """What becomes of it when the daemon ends meanwhile: it runs again, fails, or asks."""

    on_interrupt: Literal["rerun", "fail", "ask"]


class Named(Tries, total=False):
    """The same, and what people call it."""

    name: str | None


class Common(Named, total=False):
    """The same, and whether a failure is an error; without `check` it is a result."""

    check: bool


class Does(Named, Interrupts, total=False):
    """Those of a command."""


class Acts(Common, Interrupts, total=False):
    """Those of an agent and of a function."""


class Keeps(Tries, Interrupts, total=False):
    """Those of a file that is kept."""
