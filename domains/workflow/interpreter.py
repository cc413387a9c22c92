"""Runs the steps of a YAML workflow: conditions, templates, loops, each step by its effect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from domains.workflow.definition import Json, Spec, Step
from domains.workflow.failures import RunFailure, StepFailure
from domains.workflow.live import LiveRun
from domains.workflow.rendering import away, rendered
from domains.workflow.templates import BadExpression
from domains.workflow.together import Work, together
from domains.workflow.views import never_begun, view

Effects = Mapping[str, Callable[[LiveRun, str, dict[str, Json]], Awaitable[Json]]]
"""What each kind of step does: given the run, the step's id and its fields, all rendered."""

INSIDE = frozenset({"annotation", "for-each", "parallel"})
"""Kinds that do nothing outside of the journal by themselves."""

Names = dict[str, Any]


class Interpreter:
    """Interprets one run; what it knows are the results of the steps, which the run keeps."""

    def __init__(self, live: LiveRun, effects: Effects) -> None:
        """Have steps done by these effects."""
        self._live = live
        self._effects = effects

    async def run(self) -> Json:
        """Do all steps, in order."""
        run = self._live.run
        names: Names = {
            "args": run.args,
            "run": {"id": run.id, "attempt": run.attempt},
            "project": {"id": run.project_id, "path": run.cwd},
            "env": self._live.definition.env,
            "steps": {},
        }
        await self._all(self._live.definition.steps, names, "")
        return None

    async def _all(self, steps: Sequence[Step], names: Names, prefix: str) -> None:
        for step in steps:
            await self._one(step, names, prefix)

    async def _one(self, step: Step, names: Names, prefix: str) -> None:
        spec = Spec(
            id=f"{prefix}{step.id}",
            kind=step.kind,
            name=step.name or None,
            phase=step.phase,
            timeout=None if step.kind == "approve" else step.timeout,
            retries=step.retries,
            continue_on_error=step.continue_on_error,
            on_interrupt=step.on_interrupt,
            outside=step.kind not in INSIDE,
        )
        record = self._live.timeline.settled(spec.id)
        await self._live.turn()
        if record is None and not await self._wanted(step, names):
            record = self._live.skip(spec, f"its condition does not hold: {step.condition}")
        if record is None or record.state != "skipped":
            record = await self._live.perform(spec, lambda: self._do(step, spec.id, names))
        names["steps"][step.id] = view(record)
        if step.kind == "parallel":
            self._look_inside(step, spec.id, names)

    def _look_inside(self, step: Step, id_: str, names: Names) -> None:
        """Let later steps know of what was done beside one another, before a restart too."""
        for each in step.steps:
            record = self._live.timeline.settled(f"{id_}/{each.id}")
            if record is None:
                names["steps"] |= never_begun([each])
                continue
            names["steps"][each.id] = view(record)
            if each.kind == "parallel":
                self._look_inside(each, record.id, names)

    async def _wanted(self, step: Step, names: Names) -> bool:
        condition = step.condition
        if condition is None:
            return True
        try:
            return await away(
                condition, names, lambda made, known: made.condition(condition, known)
            )
        except BadExpression as error:
            raise RunFailure("bad_expression", f"step {step.id}: {error}", step.id) from None

    async def _do(self, step: Step, id_: str, names: Names) -> Json:
        try:
            if step.kind == "for-each":
                return await self._for_each(step, id_, names)
            if step.kind == "parallel":
                return await self._parallel(step, id_, names)
            fields = await self._fields(step, names)
        except BadExpression as error:
            raise StepFailure("bad_expression", str(error), permanent=True) from None
        return await self._effects[step.kind](self._live, id_, fields)

    async def _fields(self, step: Step, names: Names) -> dict[str, Json]:
        fields = await _rendered(step, names)
        if isinstance(said := fields.get("annotation"), dict):
            fields |= {"annotation": said["message"], "level": said["level"]}
        elif isinstance(kept := fields.get("artifact"), dict):
            fields |= {"artifact": kept["path"], "name": kept.get("name")}
        if step.kind == "wait-for":  # its match is for the event that comes
            fields["names"] = names
        elif step.kind == "approve":
            fields["timeout"] = step.timeout
        elif session := fields.pop("session", None):
            fields["resume"] = names["steps"].get(session, {}).get("sessionId")
        return fields

    async def _for_each(self, step: Step, id_: str, names: Names) -> Json:
        fields = await _rendered(step, names)
        items: list[Json] = fields["for_each"]

        def work(index: int, item: Json) -> Work:
            inner = {
                **names,
                fields["as"]: item,
                "index": index,
                "steps": dict(names["steps"]),
            }
            return lambda: self._all(step.steps, inner, f"{id_}/{index}/")

        works = (work(index, item) for index, item in enumerate(items))
        await self._together(id_, works, len(items), fields["max_parallel"])
        return {"items": len(items)}

    async def _parallel(self, step: Step, id_: str, names: Names) -> Json:
        inner = {**names, "steps": dict(names["steps"])}

        def work(each: Step) -> Work:
            return lambda: self._one(each, inner, f"{id_}/")

        total = len(step.steps)
        works = [work(each) for each in step.steps]
        await self._together(id_, works, total, step.fields["parallel"] or total)
        return {"steps": total}

    async def _together(self, id_: str, works: Iterable[Work], total: int, limit: int) -> None:
        try:
            await together(self._live, id_, works, total=total, limit=limit)
        except RunFailure as failure:
            raise StepFailure(failure.code, failure.message, permanent=True) from None


async def _rendered(step: Step, names: Names) -> dict[str, Json]:
    return await away(step.fields, names, lambda made, known: rendered(step, known, made))
