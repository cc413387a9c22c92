"""agentcmd tail and call: channels and commands as they are on the wire."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from typing import Any

from daemon.cli.connect import add_connection, client
from daemon.cli.job import note
from daemon.cli.printing import complain, say, say_json
from daemon.cli.reader import ends_with_its_reader
from daemon.cli.shell import WITHIN
from daemon.client import Client, Message
from daemon.core.channels import is_pattern, parse_channel
from daemon.core.errors import BadRequest, Conflict

OFFSET_DIGITS = 18
"""More than any offset has."""


def add_commands(commands: Any) -> None:
    """Add `tail` and `call`."""
    own = commands.add_parser("tail", help="print a channel's events: history, then live")
    own.add_argument("channel", nargs="+", help="as in session:123, or a pattern as in session:*")
    own.add_argument("--since", default="start", metavar="OFFSET", help="an offset, or start")
    own.add_argument("--no-follow", action="store_true", help="end after the history")
    own.add_argument("--json", action="store_true", help="one wire message a line")
    add_connection(own)
    own.set_defaults(run=tail)
    own = commands.add_parser("call", help="carry out any command, and print its answer")
    own.add_argument("type", help="as in session.list")
    own.add_argument("data", nargs="?", default="{}", help="its data, as JSON")
    add_connection(own)
    own.set_defaults(run=call)


@ends_with_its_reader
async def tail(args: argparse.Namespace) -> int:
    """Print the events of channels."""
    channels = list(dict.fromkeys(parse_channel(name) for name in args.channel))
    _offset(args.since)
    if args.no_follow and any(is_pattern(name) for name in channels):
        raise BadRequest("a pattern is live only: name channels with --no-follow")

    own = _own_terminal(args)
    if own in channels:
        raise Conflict("this terminal would print its own output without end; tail it elsewhere")

    def on_status(status: str, detail: str) -> None:
        if status == "gap":
            complain(f"agentcmd: events of {detail} are no longer kept; going on live\n")
        elif status == "disconnected":
            note("the connection broke; connecting again (Ctrl-C ends)")

    async with client(args, on_status=on_status) as daemon:
        following = [asyncio.ensure_future(_follow(daemon, n, args, own)) for n in channels]
        try:
            await asyncio.gather(*following)  # the first failure ends all, as itself
        finally:
            for each in following:
                each.cancel()
            await asyncio.wait(following)
    return 0


def _own_terminal(args: argparse.Namespace) -> str:
    """Return the channel of the terminal of ours that this is printed to; empty outside of one."""
    within = os.environ.get(WITHIN)
    shown = within and not args.no_follow and sys.stdout.isatty()
    return f"shell:terminal:{within}" if shown else ""


async def _follow(daemon: Client, name: str, args: argparse.Namespace, own: str) -> None:
    """Print the events of a channel; of a pattern all but those that printing makes."""
    since = _offset(args.since)
    if args.no_follow:
        messages = daemon.history(name, since=since)
    else:
        messages = daemon.subscribe(name, since=None if is_pattern(name) else since)
    async for message in messages:
        if message.channel == own:
            continue
        await asyncio.to_thread(_print, message, as_json=args.json)


async def call(args: argparse.Namespace) -> int:
    """Carry out one command."""
    try:
        data = json.loads(args.data)
    except RecursionError:
        raise BadRequest("the data is nested too deeply to be read") from None
    except ValueError as error:
        raise BadRequest(f"the data is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadRequest('the data is a JSON object, as in {"sessionId": "123"}')
    async with client(args) as daemon:
        answer = await daemon.call(args.type, data)
    say_json(json.dumps(answer, indent=2, ensure_ascii=False) + "\n")
    return 0


def _print(message: Message, *, as_json: bool) -> None:
    if as_json:
        say_json(message.raw + "\n")
    else:
        stamp = time.strftime("%H:%M:%S", time.localtime(message.ts))
        data = json.dumps(message.data, ensure_ascii=False)
        say(f"{stamp} {message.channel} #{message.offset} {message.type} {data}\n")


def _offset(text: str) -> int:
    if text == "start":
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > OFFSET_DIGITS:
        raise BadRequest("--since is an offset, or start")
    return int(text)
