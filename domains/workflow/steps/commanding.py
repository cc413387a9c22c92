"""Steps that other domains carry out: agents and git, by the commands that clients have too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import msgspec

from daemon.core.bus import EventBus
from daemon.core.commands import Caller
from daemon.core.errors import AgentcmdError, BadRequest, NotFound
from daemon.core.ids import new_id
from domains.workflow.commands import StepProgress, StepRecord
from domains.workflow.definition import Json
from domains.workflow.endings import out
from domains.workflow.failures import StepFailure
from domains.workflow.live import LiveRun
from domains.workflow.steps.hearing import Hearings

GO_ON = "The daemon was away for a moment. Go on where you were, until what was asked is done."
"""What an agent is told whose session was cut off."""


class Dispatch(Protocol):
    """What carries commands out: the daemon's dispatcher."""

    def call_with(
        self, name: str, data: Mapping[str, Any], caller: Caller
    ) -> msgspec.Struct | Awaitable[msgspec.Struct]:
        """Carry out a command given as values."""


class Others:
    """Asks other domains on behalf of runs."""

    def __init__(self, commands: Dispatch, bus: EventBus) -> None:
        """Ask by these commands, and hear on this bus."""
        self._commands = commands
        self._hearings = Hearings(bus)
        self._operations: dict[str, Callable[[StepProgress], None]] = {}
        bus.on("git.operation.progress", self._hear_operation, as_data=True)

    async def call(self, live: LiveRun, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out a command as the one who started the run."""
        return await self.ask(live.run.user, name, data)

    async def ask(self, user: str, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out a command as a user."""
        caller = Caller(sub=user, grants=(("read", "*"), ("write", "*")), expires_at=float("inf"))
        said = {key: value for key, value in data.items() if value is not None}
        answered = self._commands.call_with(name, said, caller)
        answer = answered if isinstance(answered, msgspec.Struct) else await answered
        found: dict[str, Any] = msgspec.to_builtins(answer)
        return found

    async def repeats(self, live: LiveRun, cut: StepRecord) -> bool:
        """Return whether a step that goes on may do again what it did before it was cut off."""
        try:
            if cut.kind == "agent" and cut.session_id is not None:
                return not _has_answered(await self._about(live, cut.session_id), cut.result)
            if cut.kind == "git":
                return not await self._is_known(live, cut.result)
        except AgentcmdError:  # the step itself tells what is wrong
            return cut.kind == "agent"
        return True

    async def _is_known(self, live: LiveRun, noted: Json) -> bool:
        """Return whether git did all that the step had begun, or nothing."""
        if not noted:
            return True
        asked = {
            "projectId": live.run.project_id,
            "operationId": noted["operationId"],
            "worktree": live.run.id if live.run.workspace == "worktree" else None,
        }
        answer = await self.call(live, "git.outcome", asked)
        return bool(answer["known"])

    # Agents

    async def agent(self, live: LiveRun, step_id: str, fields: dict[str, Json]) -> Json:
        """Hold a conversation to its end; one that was cut off goes on."""
        step = live.timeline[step_id]
        if step.session_id is not None:
            return await self._go_on(live, step_id, fields, step.session_id)
        earlier = fields.get("resume")
        if earlier is not None:
            about = await self._about(live, earlier)
            noted = {"turns": about["turns"], "costUsd": about.get("costUsd") or 0.0}
            live.timeline.note(step_id, session_id=earlier, result=noted)
            return await self._continue(live, step_id, earlier, fields["prompt"], noted)
        return await self._begin(live, step_id, fields)

    async def _continue(
        self, live: LiveRun, step_id: str, session_id: str, prompt: str, noted: dict[str, Any]
    ) -> Json:
        """Say something in a conversation that has been; `noted` tells whether it was said."""

        async def say() -> None:
            await self._say(live, session_id, prompt)
            live.timeline.note(step_id, result={**noted, "said": True})

        return await self._until_its_end(live, step_id, session_id, say)

    async def _begin(self, live: LiveRun, step_id: str, fields: dict[str, Json]) -> Json:
        asked = {
            "agent": fields["agent"],
            "projectId": live.run.project_id,
            "cwd": live.folder(fields.get("cwd")),
            "prompt": fields["prompt"],
            "model": fields.get("model"),
            "permissionMode": fields.get("permission_mode"),
            "allowedTools": fields.get("allowed_tools"),
            "systemPrompt": fields.get("system_prompt"),
            "budgetUsd": fields.get("budget_usd"),
            "env": {**live.definition.env, **(fields.get("env") or {})} or None,
            "name": f"{live.run.name}: {step_id}"[:200],
        }
        created = await self._created(live, step_id, asked)
        session_id = created["sessionId"]
        live.timeline.note(step_id, session_id=session_id)
        return await self._until_its_end(live, step_id, session_id)

    async def _created(self, live: LiveRun, step_id: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Create a session; who is cancelled meanwhile leaves none behind."""

        async def create() -> dict[str, Any] | AgentcmdError:
            try:
                return await self.call(live, "session.create", asked)
            except AgentcmdError as error:
                return error

        creating = live.supervisor.start(create(), name=f"workflow:run:{live.run.id}:session")
        try:
            created = await asyncio.shield(creating)
        except asyncio.CancelledError:
            if not live.stopping:
                with suppress(asyncio.CancelledError):
                    await out(creating)
                if isinstance(made := creating.result(), dict):
                    with self._hearings.of(live, step_id, made["sessionId"]) as heard:
                        await self._stop(live, made["sessionId"], heard.ended)
            raise
        if isinstance(created, AgentcmdError):
            raise created
        return created

    async def _go_on(
        self, live: LiveRun, step_id: str, fields: dict[str, Json], session_id: str
    ) -> Json:
        """Take up a session that the step had before the daemon ended."""
        try:
            session = await self._about(live, session_id)
        except NotFound:
            return await self._begin(live, step_id, fields)
        noted = live.timeline[step_id].result or {"turns": 0, "said": True}
        if _has_answered(session, noted):
            return await self._outcome(
                live, step_id, session_id, "session.completed", session["end"]
            )
        if not noted.get("said"):
            return await self._continue(live, step_id, session_id, fields["prompt"], noted)
        if session.get("agentSessionId") is None:
            return await self._begin(live, step_id, fields)
        return await self._until_its_end(
            live, step_id, session_id, lambda: self._say(live, session_id, GO_ON)
        )

    async def _about(self, live: LiveRun, session_id: str) -> dict[str, Any]:
        answer = await self.call(live, "session.get", {"sessionId": session_id})
        session: dict[str, Any] = answer["session"]
        return {"turns": 0, **session}

    async def _say(self, live: LiveRun, session_id: str, words: str) -> None:
        await self.call(live, "session.send_message", {"sessionId": session_id, "content": words})

    async def _until_its_end(
        self,
        live: LiveRun,
        step_id: str,
        session_id: str,
        begin: Callable[[], Awaitable[None]] | None = None,
    ) -> Json:
        with self._hearings.of(live, step_id, session_id) as heard:
            try:
                if begin is not None:
                    await begin()
                about = await self._about(live, session_id)
                if (known := about.get("end")) is not None:  # it was faster than we
                    heard.end(f"session.{known['type']}", known)
                name, end = await asyncio.shield(heard.ended)
            except asyncio.CancelledError:
                if not live.stopping:
                    await self._stop(live, session_id, heard.ended)
                raise
        return await self._outcome(live, step_id, session_id, name, end)

    async def _stop(self, live: LiveRun, session_id: str, ended: asyncio.Future[Any]) -> None:
        """Cancel a session, and wait until nothing of it runs."""
        try:
            await self.call(live, "session.cancel", {"sessionId": session_id})
        except AgentcmdError:
            return
        await out(ended)

    async def _outcome(
        self, live: LiveRun, step_id: str, session_id: str, name: str, end: dict[str, Any]
    ) -> Json:
        session = await self._about(live, session_id)
        noted = live.timeline[step_id].result or {}
        cost = (session.get("costUsd") or 0.0) - noted.get("costUsd", 0.0)
        result = {
            "sessionId": session_id,
            "result": end.get("result"),
            "exitCode": end.get("exitCode"),
            "usage": session.get("usage"),
            "costUsd": cost or None,
        }
        if cost:
            live.spend(cost)
        if name == "session.completed" and not end.get("exitCode"):
            return result
        code = end.get("code") or ("cancelled" if name == "session.cancelled" else "exit")
        message = end.get("message") or f"the session ended as {name.partition('.')[2]}"
        raise StepFailure(code, message, result=result)

    # Git

    async def git(self, live: LiveRun, step_id: str, fields: dict[str, Json]) -> Json:
        """Run a git operation where the run works; its progress is the step's."""
        asked = dict(fields["git"])
        noted = live.timeline[step_id].result  # by a daemon that died while it was done
        id_ = (noted or {}).get("operationId") or new_id()
        live.timeline.note(step_id, result={"operationId": id_})
        about = {
            "projectId": live.run.project_id,
            "operation": asked.pop("operation"),
            "operationId": id_,
            "once": True,
        }
        if live.run.workspace == "worktree":
            asked["worktree"] = live.run.id
        self._operations[id_] = partial(live.timeline.progress, step_id)
        try:
            answer = await self.call(live, "git.run", {**about, "args": asked})
        except BadRequest as error:
            if "Expected `str" in error.message:  # 1.5 is a number in YAML
                raise BadRequest(f"{error.message}; put a text in quotes") from None
            raise
        finally:
            del self._operations[id_]
        return answer["result"]

    def _hear_operation(self, data: dict[str, Any]) -> None:
        if (tell := self._operations.get(data["operationId"])) is not None:
            tell(msgspec.convert(data["progress"], StepProgress))


def _has_answered(session: Mapping[str, Any], noted: Json) -> bool:
    """Return whether an agent came to the end of the turn that a step has begun."""
    end = session.get("end")
    before: int = (noted or {}).get("turns", 0)
    return end is not None and end["type"] == "completed" and session["turns"] > before
