"""What a workflow is, whichever way it was written: its arguments, its phases, its steps."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

KINDS = (
    "agent",
    "run",
    "git",
    "approve",
    "wait-for",
    "sleep",
    "for-each",
    "parallel",
    "workflow",
    "artifact",
    "annotation",
)
"""What a step can do; each step has the field of exactly one of them."""

Json = Any
"""What JSON can hold: arguments, results and what is rendered come from and go to elsewhere."""

NESTED = 100
"""How deep data may be nested that comes from elsewhere: what writes and reads it goes deeper."""


def is_too_deep(value: Json) -> bool:
    """Tell whether data is nested so deeply that it cannot be written, or read by others."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(NESTED):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


OnInterrupt = Literal["rerun", "fail", "ask"]
"""What becomes of a step that the end of a daemon has cut off."""


class Retries(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """How often a step is tried again that has failed: `backoff` doubles, up to `max_backoff`."""

    max: int = 0
    backoff: float = 1.0
    max_backoff: float = 300.0
    jitter: float = 0.1


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step; `fields` are those of its kind, not rendered yet, `steps` what is inside of it."""

    id: str
    kind: str
    name: str = ""
    phase: str | None = None
    condition: str | None = None
    fields: dict[str, Json] = {}
    steps: tuple[Step, ...] = ()
    timeout: float | None = None
    retries: Retries = Retries()
    continue_on_error: bool = False
    on_interrupt: OnInterrupt = "rerun"
    line: int = 0


class Concurrency(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """How many runs may be under way that have one key, and what becomes of one more."""

    key: str = ""
    limit: int = 1
    on_conflict: Literal["queue", "replace", "reject"] = "queue"


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow as its file has it; `digest` is that of the file.

    `args` are JSON Schema properties, `required` those without which no run begins. One in YAML has
    `steps`, one in Python its text as `source`, which is what its process runs.
    """

    id: str
    name: str
    path: str
    language: Literal["yaml", "python"]
    digest: str
    description: str = ""
    args: dict[str, Json] = {}
    required: tuple[str, ...] = ()
    phases: tuple[str, ...] = ()
    workspace: Literal["stay", "branch", "worktree"] = "stay"
    timeout: float | None = None
    concurrency: Concurrency | None = None
    env: dict[str, str] = {}
    steps: tuple[Step, ...] = ()
    source: str = ""


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine needs to know of one step of a run; its id is unique there.

    An `outside` one does something that is not in the journal: its beginning is on disk first.
    """

    id: str
    kind: str
    name: str | None = None
    phase: str | None = None
    timeout: float | None = None
    retries: Retries = Retries()
    continue_on_error: bool = False
    on_interrupt: OnInterrupt = "rerun"
    outside: bool = True
