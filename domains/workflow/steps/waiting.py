"""Steps that wait: for somebody's approval, for an event, for a moment."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from daemon.core.clock import Deadline, wait_until
from domains.workflow.definition import Json
from domains.workflow.events import StepWaiting
from domains.workflow.expressions import Expressions
from domains.workflow.failures import StepFailure
from domains.workflow.live import LiveRun
from domains.workflow.templates import BadExpression


class Waits:
    """Waits on behalf of runs; what they wait for outlives the daemon."""

    def __init__(self, expressions: Expressions) -> None:
        """Judge events by these."""
        self._expressions = expressions

    async def approve(self, live: LiveRun, step_id: str, fields: dict[str, Json]) -> Json:
        """Wait until somebody approves or rejects; the answer is told in the result.

        After `timeout` seconds it is as `otherwise` says: approve, reject or fail.
        """
        said = live.timeline[step_id].result  # what was answered before the daemon ended
        if said is None:
            said = await self._answer(live, step_id, fields)
        if not said["approved"]:
            comment = f": {said['comment']}" if said.get("comment") else ""
            who = said.get("user") or "nobody answered, which"
            raise StepFailure(
                "rejected", f"{who} rejected it{comment}", result=said, permanent=True
            )
        return said

    async def _answer(self, live: LiveRun, step_id: str, fields: dict[str, Json]) -> Json:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        live.answers[step_id] = answer
        seconds = fields.get("timeout")
        until = live.timeline[step_id].until
        if until is None and seconds is not None:
            until = time.time() + seconds
        _tell(live, step_id, "approval", message=str(fields["approve"]), until=until)
        try:
            with live.waiting():
                if until is None:
                    await asyncio.wait([answer])
                else:
                    deadline = Deadline(until)
                    while not answer.done() and (pause := deadline.pause()):
                        await asyncio.wait([answer], timeout=pause)
        finally:
            live.answers.pop(step_id, None)
        if answer.done():
            return answer.result()
        otherwise = fields.get("otherwise", "fail")
        if otherwise == "fail":
            raise StepFailure("timeout", "nobody has approved it in time", permanent=True)
        return {"approved": otherwise == "approve", "user": None, "comment": None}

    async def wait_for(self, live: LiveRun, step_id: str, fields: dict[str, Json]) -> Json:
        """Wait for an event that fits; its data is the result."""
        name, match, names = fields["wait_for"], fields.get("match"), fields.get("names", {})
        if match is not None:
            try:
                self._expressions.check_condition(match)  # else nothing would ever fit
            except BadExpression as error:
                raise StepFailure("bad_expression", f"match: {error}", permanent=True) from None

        def fits(data: Json) -> bool:
            if match is None:
                return True
            try:
                return self._expressions.condition(match, {**names, "event": data})
            except BadExpression as error:  # whoever sends something else ends no run by it
                live.annotate(f"an event {name} is passed over: {error}", "warning", step_id)
                return False

        _tell(live, step_id, "event", event=name)
        with live.waiting():
            return {"event": name, "data": await live.inbox.take(name, fits)}

    async def sleep(self, live: LiveRun, step_id: str, fields: dict[str, Json]) -> Json:
        """Wait for a moment, which a restart of the daemon does not move."""
        until = live.timeline[step_id].until or time.time() + float(fields["sleep"])
        _tell(live, step_id, "time", until=until)
        with live.waiting():
            await wait_until(until)
        return {}


def _tell(live: LiveRun, step_id: str, what: Any, **more: Any) -> None:
    live.timeline.note(step_id, state="waiting", until=more.get("until"))
    live.bus.emit(
        StepWaiting(
            run_id=live.run.id,
            project_id=live.run.project_id,
            step_id=step_id,
            waits_for=what,
            attempt=live.timeline[step_id].attempt,
            **more,
        )
    )
