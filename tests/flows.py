"""Workflows for tests: a project with files of them, runs that are started and followed."""

from __future__ import annotations

import asyncio
import textwrap
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

from daemon.cli.runs import run_of, whole_run
from daemon.client import Client, Message

RUN_ENDS = ("workflow.run.completed", "workflow.run.failed", "workflow.run.cancelled")


class Flows:
    """A project whose workflows are written here, and a client that runs them."""

    def __init__(self, client: Client, folder: Path, project: str = "") -> None:
        self.client = client
        self.folder = folder
        self.project = project

    @classmethod
    async def of(cls, client: Client, folder: Path, **files: str) -> Flows:
        """Add a project at a folder, with these workflows."""
        folder.mkdir(parents=True, exist_ok=True)
        flows = cls(client, folder)
        for name, text in files.items():
            flows.write(name, text)
        added = await client.call("project.add", {"path": str(folder)})
        flows.project = added["projectId"]
        return flows

    def write(self, name: str, text: str) -> Path:
        """Write a workflow; text without `steps:` is that of its steps."""
        path = self.folder / ".agent/workflows" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = textwrap.dedent(text)
        if "steps:" not in text.splitlines():
            text = "steps:\n" + textwrap.indent(text, "  ")
        path.write_text(text)
        return path

    async def start(self, workflow: str, client: Client | None = None, **more: Any) -> Flow:
        """Start a run."""
        asked = {"projectId": self.project, "workflow": workflow, **more}
        answer = await (client or self.client).call("workflow.start", asked)
        return Flow(client or self.client, answer["runId"])

    async def done(self, workflow: str, **more: Any) -> Flow:
        """Start a run and follow it to its end."""
        flow = await self.start(workflow, **more)
        await flow.end()
        return flow

    def lines(self, name: str = "log") -> list[str]:
        """Give the lines that steps have appended to a file."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def counts(self, name: str = "log") -> Counter[str]:
        """Count them."""
        return Counter(self.lines(name))


class Flow:
    """One run, as a client sees it."""

    def __init__(self, client: Client, run_id: str) -> None:
        self.client = client
        self.id = run_id
        self.seen: list[Message] = []

    async def until(self, type_: str, timeout: float = 60.0, **fields: Any) -> dict[str, Any]:
        """Read from the beginning, or from where this has read, up to an event with such data."""
        since = self.seen[-1].offset if self.seen else 0
        wanted = type_ if type_.startswith("workflow.") else f"workflow.run.{type_}"
        async with asyncio.timeout(timeout), aclosing(self._following(since)) as following:
            async for message in following:
                self.seen.append(message)
                told = all(message.data.get(key) == value for key, value in fields.items())
                if message.type == wanted and told:
                    return message.data
                if message.type in RUN_ENDS:
                    break
        raise AssertionError((wanted, fields, [(m.type, m.data) for m in self.seen[-6:]]))

    async def end(self, timeout: float = 60.0) -> dict[str, Any]:
        """Read to its end, and give that, with its type."""
        since = self.seen[-1].offset if self.seen else 0
        async with asyncio.timeout(timeout), aclosing(self._following(since)) as following:
            async for message in following:
                self.seen.append(message)
                if message.type in RUN_ENDS:
                    return {"type": message.type.rpartition(".")[2], **message.data}
        raise AssertionError("it has no end")

    def _following(self, since: int) -> AsyncGenerator[Message, None]:
        return cast(
            AsyncGenerator[Message, None],
            self.client.subscribe(f"workflow:run:{self.id}", since=since),
        )

    async def call(self, command: str, **data: Any) -> dict[str, Any]:
        """Ask something of this run."""
        return await self.client.call(f"workflow.{command}", {"runId": self.id, **data})

    async def run(self) -> dict[str, Any]:
        """Give the run as it stands."""
        return await run_of(self.client, self.id)

    async def steps(self) -> dict[str, dict[str, Any]]:
        """Give its steps as they stand, by id, in the order in which they began."""
        _, steps = await whole_run(self.client, self.id)
        return {each["id"]: each for each in steps}

    async def result(self, step: str) -> dict[str, Any]:
        """Give what a step came to."""
        return (await self.steps())[step].get("result")

    def types(self, prefix: str = "workflow.run.") -> list[str]:
        """List what has been seen, by the last words."""
        return [m.type.removeprefix("workflow.run.") for m in self.seen if prefix in m.type]

    def told(self, type_: str) -> list[dict[str, Any]]:
        """Give the data of those of one type."""
        return [m.data for m in self.seen if m.type == f"workflow.run.{type_}"]

    def in_order(self) -> bool:
        """Tell whether offsets have neither holes nor others twice."""
        return [m.offset for m in self.seen] == list(range(1, len(self.seen) + 1))
