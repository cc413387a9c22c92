"""What the steps of a run have written, and the files that were kept with it."""

from __future__ import annotations

import argparse
import asyncio
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from daemon.cli.connect import client
from daemon.cli.drawing import harmless, size_of
from daemon.cli.printing import at_terminal, bytes_out, pass_on, say, say_json
from daemon.cli.reader import ends_with_its_reader
from daemon.cli.runs import is_over, run_of, whole_run
from daemon.cli.tasks import table
from daemon.cli.timeline import ENDS, RUN
from daemon.client import Client
from daemon.core.errors import BadRequest, NotFound

Answer = dict[str, Any]

OWN = "workflow"
"""What a workflow in Python prints is told as that of a step which is called so."""

LINE = 1 << 16
"""Characters of a line that are waited for; of a longer one each piece is printed as a line."""


@ends_with_its_reader
async def logs(args: argparse.Namespace) -> int:
    """Print what steps have written: of one as it is, of several with their names."""
    channel = f"workflow:run:{args.id}"
    midline: dict[tuple[str, str], str] = {}
    async with client(args) as daemon:
        run, steps = await whole_run(daemon, args.id)
        ended = run["state"] == "ended"
        known = [OWN, *(each["id"] for each in steps)]
        follows = args.follow and not ended
        if args.step and not follows and not any(_is_of(each, args.step) for each in known):
            raise NotFound(f"the run has no step {args.step!r} that has begun")
        messages = daemon.subscribe(channel, since=0) if follows else daemon.history(channel)
        async for message in messages:
            if message.type == f"{RUN}step.output":
                await asyncio.to_thread(_print_output, message.data, args.step, midline)
            elif follows and message.type in ENDS and await is_over(daemon, run, message.ts or 0.0):
                break
    for (stream, step), rest in midline.items():
        if rest:
            _write(f"{step} | {rest}\n", error=stream == "stderr")
    return 0


def _print_output(data: Answer, only: str | None, midline: dict[tuple[str, str], str]) -> None:
    step, stream = data["stepId"], data["stream"]
    if only and not _is_of(step, only):
        return
    text = data["content"]
    if step != only:
        *lines, rest = (midline.get((stream, step), "") + text).split("\n")
        if len(rest) > LINE:
            lines, rest = [*lines, rest], ""
        midline[stream, step] = rest
        text = "".join(f"{step} | {line}\n" for line in lines)
    _write(text, error=stream == "stderr")


def _write(text: str, *, error: bool) -> None:
    """Write it as it is, but to a terminal so that it does nothing there."""
    if at_terminal(error=error):
        text = "\n".join(map(harmless, text.split("\n")))
    pass_on(text, error=error)


def _is_of(step: str, around: str) -> bool:
    """Tell whether a step is another, or within it."""
    return f"{step}/".startswith(f"{around}/")


async def artifacts(args: argparse.Namespace) -> int:
    """List the files kept with a run, or get one."""
    async with client(args) as daemon:
        if args.name:
            await daemon.call("workflow.artifact", {"runId": args.id, "name": args.name})
            path = f"/api/runs/{args.id}/artifact?name={quote(args.name)}"
            await _download(daemon, path, args.output or _free(args.name))
            return 0
        if args.output:
            raise BadRequest("-o needs the NAME of the artifact")
        found = await _kept(daemon, args.id)
    if args.json:
        say_json(json.dumps(found, ensure_ascii=False) + "\n")
        return 0
    rows = [("NAME", "SIZE", "STEP")]
    rows += [(each["name"], size_of(each["size"]), harmless(each["stepId"])) for each in found]
    say(table(rows))
    return 0


async def _kept(daemon: Client, run_id: str) -> list[Answer]:
    """Give the artifacts that the run tells of, of each name the last."""
    await run_of(daemon, run_id)  # one that is not there is an error
    kept = {}
    async for message in daemon.history(f"workflow:run:{run_id}"):
        if message.type == f"{RUN}artifact":
            kept[message.data["name"]] = message.data
    return list(kept.values())


def _free(name: str) -> str:
    if Path(name).name != name or Path(name).exists():
        raise BadRequest(f"{name!r} is here already: say where to write with -o FILE")
    return name


async def _download(daemon: Client, path: str, name: str) -> None:
    with ExitStack() as stack:
        file: BinaryIO = bytes_out()
        if name != "-":
            file = stack.enter_context(await asyncio.to_thread(Path(name).open, "wb"))
        async for piece in daemon.download(path):
            await asyncio.to_thread(file.write, piece)
        await asyncio.to_thread(file.flush)
