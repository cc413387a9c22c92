"""What is asked of workflows: how a run stands, its steps and its end, and arguments as typed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Protocol

from daemon.cli.timeline import Data
from daemon.core.errors import BadRequest

Answer = dict[str, Any]

ROUNDED = 0.001
"""Seconds by which an event may seem to be older than what it tells."""


class Caller(Protocol):
    """Who asks: a client."""

    async def call(self, type_: str, data: Data, /) -> Answer:
        """Carry out a command."""


async def run_of(daemon: Caller, run_id: str) -> Answer:
    """Ask how a run stands, without its steps; NotFound where there is none."""
    found: Answer = (await daemon.call("workflow.get", {"runId": run_id, "limit": 0}))["run"]
    return found


async def whole_run(daemon: Caller, run_id: str) -> tuple[Answer, list[Answer]]:
    """Ask how a run stands, and for all of its steps."""
    asked = {"runId": run_id}
    found = await daemon.call("workflow.get", asked)
    run, steps = found["run"], found.get("steps", [])
    while "nextCursor" in found:
        found = await daemon.call("workflow.get", {**asked, "cursor": found["nextCursor"]})
        steps += found.get("steps", ())
    return run, steps


async def is_over(daemon: Caller, run: Answer, told: float) -> bool:
    """Tell whether an end that was told at this time is the run's, or one before a retry of it."""
    if "startedAt" in run:
        return bool(told >= run["startedAt"])
    now = await run_of(daemon, run["id"])
    return bool(now["state"] == "ended" and told >= now["endedAt"] - ROUNDED)


def pairs(given: Iterable[str]) -> dict[str, str]:
    """Take ARG=VALUE apart."""
    found: dict[str, str] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not equals or not name:
            raise BadRequest(f"{each!r} is no ARG=VALUE, such as word=text or count=3")
        found[name] = text
    return found


async def values(daemon: Caller, project: str, workflow: str, given: Data) -> dict[str, Any]:
    """Give what was typed as what the workflow's arguments are: a text stays one, all else is JSON.

    What is not JSON is a text, too; whether that may be is the daemon's to say.
    """
    read = {name: _read(text) for name, text in given.items()}
    if all(isinstance(value, str) and value == given[name] for name, value in read.items()):
        return read
    listed = (await daemon.call("workflow.list", {"projectId": project}))["workflows"]
    found: Answer = next((each for each in listed if each["id"] == workflow), {})
    return {
        name: text if _is_text(text, read[name], found.get("args", {}).get(name)) else read[name]
        for name, text in given.items()
    }


def _is_text(text: str, value: Any, schema: Any) -> bool:
    """Return whether a text stays one: where no other type is for it, or its form would be lost."""
    types = schema.get("type", ()) if isinstance(schema, dict) else ()
    types = [types] if isinstance(types, str) else types
    if types and "string" not in types:
        return False
    if isinstance(value, bool) or value is None:
        return bool(types) and ("boolean" if value is not None else "null") not in types
    if not isinstance(value, int | float):
        return types == ["string"]
    if types:
        return not {"number", "integer"} & set(types)
    return repr(value) != text  # 3.10, 1e3


def _read(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=str)  # NaN is none, but to Python
    except (ValueError, RecursionError):
        return text
