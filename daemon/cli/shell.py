"""agentcmd shell: opens terminals and shows them here; lists, closes and records them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from daemon import home
from daemon.cli.attached import Attached
from daemon.cli.connect import add_connection, client, remote_url, settings_of
from daemon.cli.detaching import USUAL, VARIABLE, DetachKey, detach_key
from daemon.cli.job import note, project_root
from daemon.cli.printing import bytes_out, complain, say, say_json
from daemon.cli.tasks import table
from daemon.cli.tty import Tty
from daemon.client import Client
from daemon.core.errors import (
    AgentcmdError,
    BadRequest,
    Conflict,
    Forbidden,
    InvalidChannel,
    NotFound,
)

WITHIN = "AGENTCMD_TERMINAL"
"""The variable with the id of the terminal that a program is in."""

WIDTH = 60
"""Characters of a command that are listed."""

LANGUAGE = ("LANG", "LANGUAGE", "LC_")
"""How the names of the variables begin that say in which language and letters one writes."""


def add_commands(commands: Any) -> None:
    """Add `shell` and its verbs."""
    own = commands.add_parser(
        "shell",
        help="open a terminal that outlives this one; list, close and record terminals",
        usage="agentcmd shell [options] [PATH] [-- CMD ARG...]\n"
        "       agentcmd shell list [--json]\n"
        "       agentcmd shell close ID...\n"
        "       agentcmd shell record ID [--input] [--stop] [-o FILE]",
        description="Opens a terminal in a folder, with a login shell or a command, and shows it "
        "here. Ctrl-], or the --detach-key, detaches: it goes on, and 'agentcmd attach ID' comes "
        "back; typed twice it is for the program. A folder that is called list, close or record is "
        "meant with ./ before it.",
    )
    own.add_argument("path", nargs="?", default=".", metavar="PATH", help="folder (this one)")
    add_detach_key(own)
    add_connection(own)
    own.set_defaults(run=open_, takes_command=True)
    verb = _verb(own, "list", list_, "List the terminals; those that have ended for a while.")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb = _verb(own, "close", close, "End terminals, and all that runs in them.")
    verb.add_argument("ids", nargs="+", metavar="ID", help="the terminal, as list shows it")
    verb = _verb(own, "record", record, "Record a terminal as an asciicast (v3), from now on.")
    verb.add_argument("id", metavar="ID", help="the terminal, as list shows it")
    verb.add_argument("--input", action="store_true", help="record what is typed, too")
    verb.add_argument("--stop", action="store_true", help="end the recording")
    verb.add_argument("-o", "--output", metavar="FILE", help="write what there is of it (- here)")


def add_detach_key(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the key which detaches."""
    parser.add_argument(
        "--detach-key",
        metavar="KEY",
        help=f"key that detaches, such as ctrl-a, or none [{VARIABLE}] ({USUAL})",
    )


def _detach_key(args: argparse.Namespace) -> DetachKey:
    """Return the key that the option or the variable names."""
    if args.detach_key is not None:
        return detach_key(args.detach_key)
    try:
        return detach_key(os.environ.get(VARIABLE) or USUAL)
    except BadRequest as error:
        raise BadRequest(f"{VARIABLE}: {error}") from None


def _verb(shell: Any, name: str, run: Any, description: str) -> Any:
    own = shell.verbs[name] = type(shell)(prog=f"{shell.prog} {name}", description=description)
    add_connection(own)
    own.set_defaults(run=run)
    return own


# Here


async def open_(args: argparse.Namespace) -> int:
    """Open a terminal and show it; gives the exit code of its program."""
    if args.command_line == []:
        raise BadRequest("nothing to run: put a command after --, as in agentcmd shell -- htop")
    tty, key = Tty(), _detach_key(args)
    attached = Attached(tty, gone=_gone(args), own=True, key=key)
    async with client(args, on_status=attached.on_status) as daemon:
        terminal = await _create(daemon, args, tty)
        if WITHIN in os.environ:  # so that nothing in it shows what shows it
            await daemon.call("shell.get", _here(terminal))
        _greet(tty, terminal, key)
        try:
            return await attached.run(daemon, terminal, since=0)
        except OSError:  # our reader has left, and nobody else knows of it
            if not tty.interactive and daemon.connected:
                with contextlib.suppress(AgentcmdError):
                    await daemon.call("shell.close", {"terminalId": terminal})
            raise


async def attach(args: argparse.Namespace) -> int | None:
    """Come back to a terminal; gives its program's exit code, None where there is none."""
    tty, key = Tty(), _detach_key(args)
    attached = Attached(tty, gone=_gone(args), own=False, key=key)
    async with client(args, on_status=attached.on_status) as daemon:
        try:
            await daemon.call("shell.get", _here(args.id))
        except (NotFound, Forbidden, BadRequest, InvalidChannel):
            return None
        if args.json:
            raise BadRequest(f"a terminal has no --json: 'agentcmd tail shell:terminal:{args.id}'")
        writes = await _take_over(daemon, args.id, tty)
        _greet(tty, args.id, key, "" if writes else "you may look on only; ")
        return await attached.run(daemon, args.id, since=None, writes=writes)


def _here(terminal: str) -> dict[str, str]:
    """Name a terminal, and the one that we are in, if any."""
    within = os.environ.get(WITHIN)
    return {"terminalId": terminal, **({"within": within} if within else {})}


async def _take_over(daemon: Client, terminal: str, tty: Tty) -> bool:
    """Give the terminal our size before we see it; False where the token may only look on."""
    try:
        if tty.interactive:
            await daemon.call("shell.resize", {"terminalId": terminal, **tty.window()})
    except Forbidden:
        return False
    except (Conflict, NotFound):
        pass  # it has ended
    return True


def _greet(tty: Tty, terminal: str, key: DetachKey, more: str = "") -> None:
    if tty.interactive:
        note(f"terminal {terminal}; {more}{key.name} detaches")


def _gone(args: argparse.Namespace) -> Callable[[], bool]:
    """Make the question whether the daemon is no more, as far as that can be seen from here."""
    if remote_url(args):
        return lambda: False
    state_dir = settings_of(args).state_dir
    return lambda: home.discover(state_dir) is None


async def _create(daemon: Client, args: argparse.Namespace, tty: Tty) -> str:
    """Open the terminal, in a folder that becomes a project where it is in none."""
    folder = Path(args.path).absolute()
    asked: dict[str, Any] = {"cwd": str(folder), **tty.window(), "env": _own(args)}
    if args.command_line:
        asked["command"] = args.command_line
    try:
        created = await daemon.call("shell.create", asked)
    except NotFound:
        added = await daemon.call("project.add", {"path": str(project_root(folder))})
        created = await daemon.call("shell.create", {**asked, "projectId": added["projectId"]})
    return str(created["terminalId"])


def _own(args: argparse.Namespace) -> dict[str, str]:
    """Give what programs need of our environment, where the daemon is here as well."""
    if remote_url(args):
        return {}
    return {
        name: value
        for name, value in os.environ.items()
        if name == "PATH" or name.startswith(LANGUAGE)
    }


# All of them


async def list_(args: argparse.Namespace) -> int:
    """List the terminals."""
    async with client(args) as daemon:
        terminals = (await daemon.call("shell.list"))["terminals"]
    if args.json:
        say_json(json.dumps(terminals) + "\n")
        return 0
    rows = [("ID", "STATE", "AGE", "SIZE", "VIEWERS", "COMMAND", "FOLDER")]
    rows += [
        (
            each["id"],
            _state(each),
            f"{time.time() - each['createdAt']:.0f}s",
            f"{each['cols']}x{each['rows']}",
            str(each.get("viewers", 0)),
            _cut(shlex.join(each["command"])),
            _cut(each.get("folder") or each["cwd"]),
        )
        for each in terminals
    ]
    say(table(rows))
    return 0


def _state(terminal: dict[str, Any]) -> str:
    state = str(terminal["state"])
    if state != "exited":
        return f"{state}, recorded" if terminal.get("recording") else state
    code = terminal.get("exitCode")
    return f"signal {terminal.get('signal')}" if code is None else f"exit {code}"


def _cut(text: str) -> str:
    line = "".join(each if each.isprintable() else " " for each in text)
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..."


async def close(args: argparse.Namespace) -> int:
    """End terminals; those that can be where one cannot."""
    failures: list[AgentcmdError] = []
    async with client(args) as daemon:
        for id_ in args.ids:
            try:
                await daemon.call("shell.close", {"terminalId": id_})
            except (NotFound, Conflict, Forbidden, BadRequest, InvalidChannel) as error:
                failures.append(error)
    for each in failures[:-1]:
        complain(f"agentcmd: {each}\n")
    if failures:
        raise failures[-1]
    return 0


async def record(args: argparse.Namespace) -> int:
    """Begin a recording, end it, write it to a file."""
    if args.input and (args.stop or args.output):
        raise BadRequest("--input is for the beginning: without --stop and -o")
    about = {"terminalId": args.id}
    async with client(args) as daemon:
        if args.stop:
            await daemon.call("shell.stop_recording", about)
        elif not args.output:
            begun = await daemon.call("shell.record", {**about, "input": args.input})
            note(f"recording into {begun['path']}")
        if args.output:
            await daemon.call("shell.recording", about)  # before a file is made for nothing
            await _download(daemon, f"/api/terminals/{args.id}/recording", args.output)
    return 0


async def _download(daemon: Client, path: str, name: str) -> None:
    with contextlib.ExitStack() as stack:
        file: BinaryIO = bytes_out()
        if name != "-":
            file = stack.enter_context(await asyncio.to_thread(Path(name).open, "wb"))
        async for piece in daemon.download(path):
            await asyncio.to_thread(file.write, piece)
        await asyncio.to_thread(file.flush)
