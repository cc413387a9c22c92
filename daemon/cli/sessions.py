"""agentcmd session, attach: conversations from the shell, whoever began them."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any

from daemon.cli import shell
from daemon.cli.connect import add_connection, client
from daemon.cli.job import ENDS, note
from daemon.cli.printing import pass_on, say, say_json
from daemon.cli.questions import Questions
from daemon.cli.stdin import Stdin
from daemon.cli.tasks import table
from daemon.cli.view import View, summary
from daemon.client import Client, Message
from daemon.core.errors import AgentcmdError, BadRequest, Conflict, NotFound

LISTED = 50


def add_commands(commands: Any) -> None:
    """Add `session` with its own commands, and `attach`."""
    session = commands.add_parser("session", help="list, show and talk to sessions")
    verbs = session.add_subparsers(metavar="VERB", required=True)
    own = verbs.add_parser("list", help="the newest sessions")
    own.add_argument("--state", help="only those that are queued, idle, working, waiting or ended")
    own.add_argument("--agent", help="only those of one agent")
    _finish(own, list_, as_json=True)
    own = verbs.add_parser("show", help="one session, and what it asks")
    own.add_argument("id", help="the session")
    _finish(own, show, as_json=True)
    own = verbs.add_parser("send", help="say something; an ended conversation is resumed for it")
    own.add_argument("id", help="the session")
    own.add_argument("text", nargs="+", help="what to say")
    _finish(own, send)
    own = verbs.add_parser("transcript", help="the raw lines that its agent wrote")
    own.add_argument("id", help="the session")
    _finish(own, transcript)
    for verb, help_ in (
        ("interrupt", "end the turn; the process stays"),
        ("resume", "take up an ended conversation"),
    ):
        own = verbs.add_parser(verb, help=help_)
        own.add_argument("id", help="the session")
        _finish(own, command, verb=verb)
    for verb, help_ in (("approve", "allow what it asks"), ("deny", "do not allow it")):
        own = verbs.add_parser(verb, help=help_)
        own.add_argument("id", help="the session")
        own.add_argument("request", nargs="?", help="the request, where several wait")
        own.add_argument("--message", help="what to tell the agent")
        own.add_argument("--always", action="store_true", help="and do not ask this again")
        _finish(own, respond, decision="allow" if verb == "approve" else "deny")
    own = commands.add_parser(
        "attach", help="come back to a terminal; follow a session, and answer what it asks"
    )
    own.add_argument("id", help="the terminal or session")
    shell.add_detach_key(own)
    _finish(own, attach, as_json=True)


def _finish(own: argparse.ArgumentParser, run: Any, *, as_json: bool = False, **more: Any) -> None:
    if as_json:
        own.add_argument("--json", action="store_true", help="print JSON")
    add_connection(own)
    own.set_defaults(run=run, **more)


async def list_(args: argparse.Namespace) -> int:
    """List sessions."""
    wanted = {"state": args.state, "agent": args.agent, "limit": LISTED}
    async with client(args) as daemon:
        sessions = (
            await daemon.call("session.list", {k: v for k, v in wanted.items() if v is not None})
        )["sessions"]
    if args.json:
        say_json(json.dumps(sessions) + "\n")
        return 0
    rows = [("ID", "AGENT", "STATE", "AGE", "COST", "ABOUT")]
    rows += [
        (
            each["id"],
            each["agent"],
            each["end"]["type"] if "end" in each else each["state"],
            f"{time.time() - each['createdAt']:.0f}s",
            f"${each['costUsd']:.4f}" if "costUsd" in each else "-",
            each.get("name") or " ".join(each.get("argv", ())) or each["cwd"],
        )
        for each in sessions
    ]
    say(table(rows))
    return 0


async def show(args: argparse.Namespace) -> int:
    """Tell about one session."""
    async with client(args) as daemon:
        session = await _get(daemon, args.id)
    if args.json:
        say_json(json.dumps(session) + "\n")
        return 0
    for asked in session.pop("permissions", ()):
        about = summary(asked["toolName"], asked["input"])
        say(f"? {asked['requestId']}  {about}\n")
    rows = [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in session.items()
    ]
    say(table(rows))
    return 0


async def transcript(args: argparse.Namespace) -> int:
    """Print the raw lines."""
    wanted = {"sessionId": args.id}
    async with client(args) as daemon:
        while True:
            page = await daemon.call("session.transcript", wanted)
            await asyncio.to_thread(pass_on, page["content"])
            if "nextCursor" not in page:
                return 0
            wanted["cursor"] = page["nextCursor"]


async def send(args: argparse.Namespace) -> int:
    """Say something."""
    said = {"sessionId": args.id, "content": " ".join(args.text)}
    async with client(args) as daemon:
        accepted = await daemon.call("session.send_message", said)
    if "position" in accepted:
        note(f"it is busy; the message is at place {accepted['position']}")
    return 0


async def command(args: argparse.Namespace) -> int:
    """Carry out a command that needs the session alone."""
    async with client(args) as daemon:
        await daemon.call(f"session.{args.verb}", {"sessionId": args.id})
    return 0


async def respond(args: argparse.Namespace) -> int:
    """Answer what a session asks."""
    async with client(args) as daemon:
        request = args.request or await _only_request(daemon, args.id)
        answer: dict[str, Any] = {"requestId": request, "decision": args.decision}
        if args.message:
            answer["message"] = args.message
        if args.always:
            answer["remember"] = True
        await daemon.call("session.respond_permission", {"sessionId": args.id, **answer})
    return 0


async def _only_request(daemon: Client, session: str) -> str:
    asked = (await _get(daemon, session)).get("permissions", [])
    if not asked:
        raise Conflict(f"the session {session} asks nothing now")
    if len(asked) > 1:
        known = ", ".join(each["requestId"] for each in asked)
        raise BadRequest(f"{len(asked)} requests wait, name one: {known}")
    return str(asked[0]["requestId"])


async def attach(args: argparse.Namespace) -> int:
    """Come back to a terminal; follow a session to its end, and Ctrl-C leaves it running."""
    if (code := await shell.attach(args)) is not None:
        return code
    view = View(as_json=args.json)
    stdin = Stdin() if sys.stdin is not None and not args.json and sys.stdin.isatty() else None

    def on_status(status: str, _: str) -> None:
        if status == "disconnected":
            note("the connection broke; connecting again (Ctrl-C ends)")

    async with client(args, on_status=on_status) as daemon:
        try:
            await _get(daemon, args.id)  # one that is not there is an error, and no silence
        except NotFound:
            raise NotFound(
                f"there is no terminal and no session {args.id[:80]!r}; see 'agentcmd shell list' "
                "and 'agentcmd session list'"
            ) from None
        if args.detach_key is not None:
            raise BadRequest("--detach-key is for terminals; Ctrl-C leaves a session running")
        attached = _Attached(daemon, args.id, view, stdin)
        if stdin is None:
            return await attached.follow()
        stdin.start()
        answering = asyncio.ensure_future(attached.questions.run())
        try:
            return await attached.follow()
        finally:
            answering.cancel()


class _Attached:
    """One who looks on, and answers where it is at a terminal."""

    def __init__(self, daemon: Client, session: str, view: View, stdin: Stdin | None) -> None:
        self._daemon = daemon
        self._session = session
        self._view = view
        self._asks = stdin is not None
        self._answered: set[str] = set()
        self.questions = Questions(stdin, self._respond, view.note)

    async def follow(self) -> int:
        async for message in self._daemon.subscribe(f"session:{self._session}", since=0):
            await asyncio.to_thread(self._view.show, message)
            await self._heed(message)
            if message.type in ENDS and await self._is_last(message):
                note(f"{message.type.partition('.')[2]}, session {self._session}")
                return 0 if message.type == "session.completed" else 1
        return 1

    async def _heed(self, message: Message) -> None:
        data = message.data
        if message.type == "session.permission_resolved" and self._asks:
            here = data["requestId"] in self._answered
            self.questions.resolved(data["requestId"], data["decision"], here=here)
        elif message.type == "session.permission_requested" and self._asks:
            waiting = (await _get(self._daemon, self._session)).get("permissions", [])
            if any(each["requestId"] == data["requestId"] for each in waiting):
                self.questions.ask(data)  # else this is history

    async def _is_last(self, end: Message) -> bool:
        """Tell an end from one that was followed by a new process."""
        session = await _get(self._daemon, self._session)
        return session["state"] == "ended" and bool(end.ts >= session.get("startedAt", 0))

    async def _respond(self, answer: dict[str, Any]) -> None:
        self._answered.add(answer["requestId"])
        try:
            await self._daemon.call(
                "session.respond_permission", {"sessionId": self._session, **answer}
            )
        except AgentcmdError as error:
            self._view.note(f"  ({error.message})")


async def _get(daemon: Client, session: str) -> dict[str, Any]:
    found: dict[str, Any] = (await daemon.call("session.get", {"sessionId": session}))["session"]
    return found
