"""The events of a run as lines, for where nothing can be drawn."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from daemon.cli.drawing import harmless, size_of, took
from daemon.cli.printing import say, say_json
from daemon.cli.timeline import RUN
from daemon.client import Message

Data = Mapping[str, Any]


class Lines:
    """A line for each event, or each as it came over the wire."""

    notice = ""

    def __init__(self, *, as_json: bool) -> None:
        """Write to standard output."""
        self._json = as_json

    async def show(self, message: Message) -> None:
        """Write it; the reader may take its time."""
        if self._json:
            await asyncio.to_thread(say_json, f"{message.raw}\n")
        else:
            stamp = time.strftime("%H:%M:%S", time.localtime(message.ts))
            lines = told(message.type, message.data)
            text = "".join(f"{stamp} {line}\n" for line in lines)
            await asyncio.to_thread(say, text)

    async def keep(self) -> None:
        """Nothing changes by itself."""
        await asyncio.Event().wait()

    def close(self) -> None:
        """All has been said."""


def told(type_: str, data: Data) -> list[str]:
    """Say in a line what an event tells; output has a line for each of its own."""
    name = type_.removeprefix(RUN)
    if "." not in name and name not in ("annotation", "artifact"):
        name = f"run.{name}"
    who = data.get("stepId") or data.get("phase") or ""
    if name == "step.output":
        lines = data["content"].removesuffix("\n").split("\n")
        return [f"{name} {who} | {harmless(line)}" for line in lines]
    return [" ".join(harmless(each) for each in (name, who, *_about(name, data)) if each)]


def _about(name: str, data: Data) -> Iterator[str]:
    """Give what else there is to say of an event."""
    particular = _PARTICULAR.get(name)
    if particular is not None:
        yield particular(data)
    yield data.get("message") or data.get("reason") or ""
    if data.get("waitsFor") == "approval":
        yield f"(agentcmd workflow approve {data['runId']} {data['stepId']})"
    if "durationMs" in data:
        yield took(data["durationMs"] / 1000)
    if data.get("continued"):
        yield "(the run goes on)"


def _started(data: Data) -> str:
    tries = data.get("attempt", 1)
    return str(data["kind"]) if tries == 1 else f"{data['kind']} (try {tries})"


def _progress(data: Data) -> str:
    progress = data["progress"]
    share, total = progress.get("percentage"), progress.get("total")
    text = f"{progress['current']:g}" + (f" of {total:g}" if total else "")
    return text if share is None else f"{text} ({share:.0f} %)"


def _waiting(data: Data) -> str:
    event = f" {data['event']}" if data.get("event") else ""
    return f"for {data['waitsFor']}{event}" + (":" if data.get("message") else "")


def _updated(data: Data) -> str:
    return str(data["state"]) + (f", place {data['position']}" if data.get("position") else "")


def _completed(data: Data) -> str:
    output = data.get("output")
    return "" if output is None else json.dumps(output, ensure_ascii=False)


_PARTICULAR: dict[str, Callable[[Data], str]] = {
    "step.started": _started,
    "step.progress": _progress,
    "step.retrying": lambda data: f"(try {data['attempt']} in {took(data['delayMs'] / 1000)})",
    "step.waiting": _waiting,
    "artifact": lambda data: f"{data['name']} {size_of(data['size'])}",
    "run.created": lambda data: f"{data['run']['id']} {data['run'].get('name', '')}",
    "run.updated": _updated,
    "run.completed": _completed,
}
