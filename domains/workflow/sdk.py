"""What workflows in Python are written with: `@workflow`, and the run that each is given."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from math import inf
from typing import Any, Literal, Protocol, TypeVar, Unpack

import msgspec

from domains.workflow import python_results as results
from domains.workflow.python_calls import Tell, Work, called, together
from domains.workflow.python_options import Acts, Common, Does, Keeps
from domains.workflow.python_results import AgentResult, Approval, CommandResult, StepError
from domains.workflow.python_wire import FIELDS, ID, OWN, Answer, Json, Options, Start

__all__ = ["AgentResult", "Approval", "CommandResult", "Run", "StepError", "workflow"]

MAX_PARALLEL = 64

MARK = "__agentcmd_workflow__"
"""What a function has that was decorated."""

Flow = TypeVar("Flow", bound=Callable[..., Awaitable[Any]])
Item = TypeVar("Item")
Result = TypeVar("Result")


def workflow(
    function: Any = None,
    /,
    *,
    name: str = "",
    description: str = "",
    phases: Sequence[str] = (),
    workspace: Literal["stay", "branch", "worktree"] = "stay",
    timeout: float | str | None = None,
    concurrency: str | dict[str, Any] | None = None,
    env: dict[str, str] | None = None,
) -> Any:
    """Make a function the workflow of its file: `async def it(run, ...)`.

    The arguments are read from the text of the file, so they are literals; `timeout` is in seconds
    or a text such as "30m", `concurrency` a key or a dict of `key`, `limit` and `on_conflict`.
    """
    del name, description, phases, workspace, timeout, concurrency, env

    def mark(decorated: Flow) -> Flow:
        setattr(decorated, MARK, True)
        return decorated

    return mark if function is None else mark(function)


class Link(Protocol):
    """The way to the daemon."""

    async def ask(
        self,
        kind: str,
        step_id: str,
        fields: dict[str, Json],
        options: Options,
        phase: str | None,
        work: Work | None,
    ) -> Answer:
        """Have a step done, `work` where it is done here; StepError where it failed."""


_phase: ContextVar[str | None] = ContextVar("phase", default=None)
_function: ContextVar[tuple[str, Tell] | None] = ContextVar("function", default=None)
"""The step whose function is called here, and what tells how far that is."""

_branch: ContextVar[str | None] = ContextVar("branch", default=None)
"""The item of a for-each, or the function of a parallel, that goes on here."""


class Run:
    """A run, or the inside of a step of it: the steps asked for here bear that one's id."""

    def __init__(
        self,
        link: Link,
        about: Start,
        prefix: str = "",
        counts: dict[str, tuple[int, str | None]] | None = None,
    ) -> None:
        """Have steps done over this link."""
        self.id = about.run_id
        self.args = about.args
        self.cwd = about.cwd
        self.project_id = about.project_id
        self.attempt = about.attempt
        self._link = link
        self._about = about
        self._prefix = prefix
        self._counts: dict[str, tuple[int, str | None]] = {} if counts is None else counts

    @asynccontextmanager
    async def phase(self, name: str) -> AsyncIterator[None]:
        """Count the steps inside as those of a phase, which `@workflow` has to list."""
        known = self._about.phases
        if name not in known:
            listed = ", ".join(known) or "none, @workflow has to list them"
            raise ValueError(f"there is no phase {name!r}; there is: {listed}")
        before = _phase.set(name)
        try:
            yield
        finally:
            _phase.reset(before)

    # Steps

    async def command(
        self,
        id: str,  # noqa: A002  # as in YAML
        text: str | Sequence[str],
        *,
        shell: Literal["sh", "bash"] | Sequence[str] = "sh",
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        check: bool = False,
        **options: Unpack[Does],
    ) -> CommandResult:
        """Run a text for a shell, or a program with its arguments; a failure is a result.

        `shell` is sh (`sh -e -c`), bash (`bash -eo pipefail -c`), or a program with its arguments,
        behind which the text stands.
        """
        text = text if isinstance(text, str) else shlex.join(text)
        reads = shell if isinstance(shell, str) else list(shell)
        return await self._step(
            "run",
            id,
            {"run": text, "shell": reads, "cwd": cwd, "env": env},
            {**options, "check": check},
            results.command,
        )

    async def agent(
        self,
        id: str,  # noqa: A002
        *,
        prompt: str,
        agent: str = "claude",
        session: str | None = None,
        model: str | None = None,
        permission_mode: str | None = None,
        allowed_tools: Sequence[str] | None = None,
        system_prompt: str | None = None,
        budget_usd: float | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        **options: Unpack[Acts],
    ) -> AgentResult:
        """Ask an agent, in a new conversation or in that of `session`, and wait for its end."""
        fields = {
            "agent": agent,
            "prompt": prompt,
            "resume": session,
            "model": model,
            "permission_mode": permission_mode,
            "allowed_tools": None if allowed_tools is None else list(allowed_tools),
            "system_prompt": system_prompt,
            "budget_usd": budget_usd,
            "cwd": cwd,
            "env": env,
        }
        return await self._step("agent", id, fields, options, results.agent)

    async def git(
        self,
        id: str,  # noqa: A002
        operation: str,
        /,
        *,
        on_interrupt: Literal["rerun", "fail", "ask"] = "rerun",
        **args: Any,
    ) -> Any:
        """Run an operation of git, and give what it answers."""
        fields = {"git": {"operation": operation, **args}}
        return await self._step("git", id, fields, {"on_interrupt": on_interrupt}, results.plain)

    async def approve(
        self,
        id: str,  # noqa: A002
        message: str,
        *,
        otherwise: Literal["fail", "approve", "reject"] = "fail",
        **options: Unpack[Common],
    ) -> Approval:
        """Ask somebody; a refusal is an error, unless `check` is false.

        `otherwise` is what it means that nobody has answered when `timeout` is over.
        """
        fields = {"approve": message, "otherwise": otherwise}
        return await self._step("approve", id, fields, options, results.approval)

    async def wait_for(
        self,
        id: str,  # noqa: A002
        event: str,
        *,
        match: str | None = None,
        **options: Unpack[Common],
    ) -> Any:
        """Wait for an event from outside; gives its data. `match` is an expression over `event`."""
        fields = {"wait_for": event, "match": match}
        return await self._step("wait-for", id, fields, options, results.data)

    async def sleep(self, id: str, seconds: float) -> None:  # noqa: A002
        """Wait for a while, which a restart of the daemon does not prolong."""
        await self._step("sleep", id, {"sleep": seconds}, {}, results.plain)

    async def workflow(
        self,
        id: str,  # noqa: A002
        workflow: str,
        args: dict[str, Any] | None = None,
        **options: Unpack[Common],
    ) -> Any:
        """Run another workflow to its end, and give what it returns."""
        fields = {"workflow": workflow, "args": args}
        return await self._step("workflow", id, fields, options, results.output)

    async def artifact(
        self,
        id: str,  # noqa: A002
        path: str,
        name: str | None = None,
        **options: Unpack[Keeps],
    ) -> None:
        """Keep a file of the run's folder."""
        fields = {"artifact": path} if name is None else {"artifact": path, "name": name}
        await self._step("artifact", id, fields, options, results.plain)

    async def annotation(
        self,
        message: str,
        level: Literal["info", "warning", "error"] = "info",
        id: str | None = None,  # noqa: A002
    ) -> None:
        """Remark something in the timeline."""
        fields = {"annotation": message, "level": level}
        await self._step("annotation", id or "annotation", fields, {}, results.plain)

    async def step(
        self,
        id: str,  # noqa: A002
        function: Callable[..., Any],
        *args: Any,
        **options: Unpack[Acts],
    ) -> Any:
        """Call a function of the file and keep what it gives, which JSON has to be able to hold.

        One that is not `async` runs in a thread. What has come to its end is not called again.
        """

        async def work(tell: Tell) -> Json:
            around = _function.set((id, tell))
            try:
                if iscoroutinefunction(function):
                    return await function(*args)
                found = await asyncio.to_thread(called, function, args)
                return await found if isawaitable(found) else found
            finally:
                _function.reset(around)

        return await self._step("python", id, {}, options, results.plain, work)

    def progress(self, current: float, total: float | None = None) -> None:
        """Tell how far the function is that `step` has called, of how much where that is known.

        What is told in a hurry comes a few times a second; this never waits, in a thread neither.
        """
        around = _function.get()
        if around is None:
            raise ValueError("progress is that of a function which run.step calls")
        for amount in (current, 0 if total is None else total):
            if not (0 <= amount < inf):
                raise ValueError(f"progress counts from 0 on, so it cannot be {amount!r}")
        around[1](float(current), None if total is None else float(total))

    # Steps with others inside

    async def for_each(
        self,
        id: str,  # noqa: A002
        items: Iterable[Item],
        function: Callable[[Run, Item, int], Awaitable[Result]],
        max_parallel: int = 1,
    ) -> list[Result]:
        """Call `function(scope, item, index)` for each item and give all results, in order.

        Steps asked of the scope are called `ID/INDEX/STEP`. After a failure no further one begins.
        """
        step_id, listed = self._named(id), list(items)
        works = [
            partial(function, self._inside(f"{step_id}/{index}/"), item, index)
            for index, item in enumerate(listed)
        ]
        return await self._block("for-each", step_id, works, max_parallel, {"items": len(listed)})

    async def parallel(
        self,
        id: str,  # noqa: A002
        *functions: Callable[[Run], Awaitable[Any]],
    ) -> list[Any]:
        """Call each `function(scope)` at once; steps asked of the scope are called `ID/STEP`.

        So each function gives its steps ids of their own.
        """
        step_id = self._named(id)
        scope = self._inside(f"{step_id}/")
        works = [partial(function, scope) for function in functions]
        return await self._block(
            "parallel", step_id, works, MAX_PARALLEL, {"steps": len(functions)}
        )

    async def _block(
        self,
        kind: str,
        step_id: str,
        works: Sequence[Callable[[], Awaitable[Any]]],
        limit: int,
        result: Json,
    ) -> list[Any]:
        if not 1 <= limit <= MAX_PARALLEL:
            raise ValueError(f"max_parallel of {step_id} is from 1 to {MAX_PARALLEL}")
        given: list[list[Any]] = []

        def inside(at: int, function: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
            async def call() -> Any:
                _branch.set(f"{step_id}/{at}")  # until the next one of this worker's
                return await function()

            return call

        branches = [inside(at, function) for at, function in enumerate(works)]

        async def work(tell: Tell | None = None) -> Json:
            given.append(await together(branches, limit, tell))
            return result

        await self._link.ask(kind, step_id, {}, Options(), _phase.get(), work)
        if not given:  # it was done before: what is inside gives again what it gave
            await work()
        return given[-1]

    # Inside

    def _inside(self, prefix: str) -> Run:
        return Run(self._link, self._about, prefix, self._counts)

    def _named(self, id_: str) -> str:
        """Give a step's whole id; one that is used again has its number behind it."""
        if not re.fullmatch(ID, str(id_)):
            raise ValueError(f"{id_!r} cannot be a step's id: 1 to 64 letters, digits, _ and -")
        if id_ == OWN and not self._prefix:
            raise ValueError(f"a step cannot be called {OWN!r}: that is the workflow's own output")
        if (around := _function.get()) is not None:  # its occurrences would not count in a replay
            raise RuntimeError(
                f"step {id_} is asked for by the function of step {around[0]}, which is not called "
                "again once it has ended: ask for it outside of that, or in for_each or parallel"
            )
        step_id, branch = f"{self._prefix}{id_}", _branch.get()
        count, first = self._counts.get(step_id, (0, branch))
        if branch != first:  # after a restart they may be asked for in another order
            raise ValueError(
                f"step {step_id} is asked for in {first or 'the workflow'} and in "
                f"{branch or 'the workflow'}: give it an id of its own, or ask it of the scope"
            )
        self._counts[step_id] = count + 1, branch
        return step_id if count == 0 else f"{step_id}#{count + 1}"

    async def _step(
        self,
        kind: str,
        id_: str,
        fields: dict[str, Json],
        options: Mapping[str, Any],
        shape: Callable[[Answer], Result],
        work: Work | None = None,
    ) -> Result:
        given = {key: value for key, value in fields.items() if value is not None}
        try:
            msgspec.convert(given, FIELDS[kind])
            said = msgspec.convert(dict(options), Options)
        except msgspec.ValidationError as error:
            raise ValueError(f"step {id_}: {error}") from None
        step_id = self._named(id_)
        try:
            answer = await self._link.ask(kind, step_id, given, said, _phase.get(), work)
        except StepError as error:
            error.result = shape(Answer(0, error.result, error.code, error.message))
            raise
        return shape(answer)
