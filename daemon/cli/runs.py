"""What is asked of runs of workflows: how one stands, and its steps from page to page."""

from __future__ import annotations

from typing import Any, Protocol

from daemon.cli.timeline import Data

Answer = dict[str, Any]


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
