"""A step that is a run of another workflow."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from daemon.core.errors import AgentcmdError, NotFound
from domains.workflow.commands import Run, RunEnd
from domains.workflow.definition import Json
from domains.workflow.endings import out
from domains.workflow.engine import Engine
from domains.workflow.failures import StepFailure
from domains.workflow.live import LiveRun

DEPTH = 8
"""How many runs may be inside of one another; a workflow that starts itself ends there."""


class ChildRuns:
    """Starts runs within runs."""

    def __init__(self, engine: Engine) -> None:
        """Start them by this engine."""
        self._engine = engine

    async def run(self, live: LiveRun, step_id: str, fields: dict[str, Json]) -> Json:
        """Start a run and wait for its end; one that was started before goes on by itself.

        Where this one is retried, the one that it had goes on from the step that failed there.
        """
        await self._engine.recovered.wait()
        child_id = live.timeline[step_id].child
        if child_id is None:
            self._require_shallow(live)
            child_id = await self._again(live, step_id, fields)
        if child_id is None:
            child_id = await self._start(live, fields, _key(live, step_id))
            live.timeline.note(step_id, child=child_id)
        end = await self._end_of(live, child_id)
        if end.type != "completed":
            message = end.message or f"the run {child_id} was {end.type}"
            raise StepFailure(end.code or end.type, message, result={"runId": child_id})
        return {"runId": child_id, "output": end.output}

    async def _again(self, live: LiveRun, step_id: str, fields: dict[str, Json]) -> str | None:
        """Have the run go on that this step had when its own run ended; None: it is to begin.

        The steps of before are forgotten by now; the keys of what they have started are not.
        """
        if live.run.attempt == 1 or live.timeline.tries(step_id) > 1:
            return None
        found = await self._engine.records.latest(
            live.run.project_id, fields["workflow"], _prefix(live, step_id)
        )
        if found is None or found[1] == _key(live, step_id):
            return None
        child_id, _ = found
        with suppress(NotFound):  # it has been forgotten meanwhile, or its file is gone
            if await self._engine.take_up(
                child_id,
                fields.get("args"),
                live,
                lambda: live.timeline.note(step_id, child=child_id),
            ):
                return child_id
        return None

    async def _start(self, live: LiveRun, fields: dict[str, Json], key: str) -> str:
        """Start the run, and give its id; who is cut off meanwhile leaves none behind."""

        async def begin() -> Run | AgentcmdError:
            try:
                run, _ = await self._engine.start(
                    live.run.project_id,
                    fields["workflow"],
                    fields.get("args"),
                    user=live.run.user,
                    key=key,
                    parent=live.run.id,
                )
            except AgentcmdError as error:
                return error
            return run

        starting = live.supervisor.start(begin(), name=f"workflow:child:{key}")
        try:
            found = await asyncio.shield(starting)
        except asyncio.CancelledError:
            await out(starting)
            if not live.stopping and not starting.cancelled():
                await self._cancel(live, starting.result())
            raise
        if isinstance(found, AgentcmdError):
            raise found
        return found.id

    async def _cancel(self, live: LiveRun, begun: Run | AgentcmdError) -> None:
        child = self._engine.live.get(begun.id) if isinstance(begun, Run) else None
        if child is not None:
            child.cancel(live.run.user)
            await out(child.over)

    async def _end_of(self, live: LiveRun, child_id: str) -> RunEnd:
        child = self._engine.wait_for(child_id, live.run.id)
        if child is None:
            end = (await self._engine.run(child_id)).end
            if end is None:
                raise NotFound(f"the run {child_id} is gone")
            return end
        try:
            return await asyncio.shield(child.over)
        except asyncio.CancelledError:
            if not live.stopping:
                child.cancel(live.run.user)
                await out(child.over)
            raise

    def _require_shallow(self, live: LiveRun) -> None:
        if len(self._engine.nesting.around(live.run.id)) >= DEPTH:
            raise StepFailure(
                "too_deep", f"runs may be {DEPTH} deep inside of one another", permanent=True
            )


def _prefix(live: LiveRun, step_id: str) -> str:
    return f"{live.run.id}/{step_id}/"


def _key(live: LiveRun, step_id: str) -> str:
    """Return the key by which a run is started once for each try of a step."""
    return f"{_prefix(live, step_id)}{live.run.attempt}.{live.timeline.tries(step_id)}"
