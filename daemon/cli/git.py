"""agentcmd git: operations on the repository here, by the daemon, with their progress."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from daemon.cli.connect import add_connection, client
from daemon.cli.job import note, project_root
from daemon.cli.printing import complain_over, say, say_json
from daemon.client import Client
from daemon.core.errors import AgentcmdError, BadRequest, Conflict
from daemon.core.ids import new_id

Given = dict[str, Any]
Shown = Callable[[Any], Iterable[str]]
"""Turns the result of an operation into lines."""

LETTERS = {
    "added": "A",
    "modified": "M",
    "deleted": "D",
    "renamed": "R",
    "copied": "C",
    "type_changed": "T",
    "untracked": "?",
}
"""How `git status --short` abbreviates."""

BEGINNINGS = ("init", "clone", "ls_remote")
"""What needs no repository."""

WIDTH = 12
"""Characters of a commit's id that are shown."""


def add_commands(commands: Any) -> None:
    """Add `git` and its verbs."""
    top = commands.add_parser(
        "git",
        help="git operations in the project here, supervised and told on its channel",
        usage="agentcmd git status|diff|log|commit|fetch|pull|push|clone|list ...\n"
        "       agentcmd git OPERATION [NAME=VALUE]...",
        description="Any operation of the reference's git commands, by its name: VALUE is JSON, or "
        "else the text itself, as in: agentcmd git branch_create name=topic switch=true; a text "
        "that is a number stands in quotes, as in: name='\"1.0\"'",
    )
    top.add_argument("operation", metavar="OPERATION", help="as in switch, worktree_list, merge")
    top.add_argument("given", nargs="*", metavar="NAME=VALUE", help="what it is to know")
    _finish(top, any_)
    own = _verb(top, "status", status, "Where the repository stands, and what has changed.")
    own = _verb(top, "diff", diff, "What has changed: in the work tree, staged, or in a commit.")
    own.add_argument("paths", nargs="*", metavar="PATH", help="only these, from the project's root")
    own.add_argument("--staged", action="store_true", help="what is staged")
    own.add_argument("--commit", help="what this one did")
    own.add_argument("--stat", action="store_true", help="the names only")
    own = _verb(top, "log", log, "The commits, the newest first.")
    own.add_argument("revision", nargs="?", default="HEAD", help="from here (HEAD)")
    own.add_argument(
        "paths", nargs="*", metavar="PATH", help="only those that touched one of these"
    )
    own.add_argument("-n", type=int, default=20, metavar="N", help="how many (20)")
    own = _verb(top, "commit", commit, "Commit what is staged.")
    own.add_argument("-m", "--message", required=True, help="the message")
    own.add_argument("-a", "--all", action="store_true", help="and every change of what is tracked")
    for name, help_ in (
        ("fetch", "Get what is new in a remote."),
        ("pull", "Get what is new, and bring it into this branch."),
        ("push", "Bring this branch to its remote."),
    ):
        own = _verb(top, name, remote, help_, operation=name)
        own.add_argument("remote", nargs="?", help="which (the branch's own)")
        if name == "push":
            own.add_argument("-u", "--set-upstream", action="store_true", help="and follow it")
            own.add_argument(
                "--force-with-lease",
                action="store_true",
                help="also where it has other commits, if those are the ones that were fetched",
            )
        if name == "pull":
            own.add_argument("--rebase", action="store_true", help="put our commits on top")
    own = _verb(top, "clone", clone, "Clone a repository into a new folder, a project of its own.")
    own.add_argument("address", metavar="URL", help="https, ssh, git or file, or USER@HOST:PATH")
    own.add_argument("folder", nargs="?", help="where (named as the repository)")
    own.add_argument("--branch", help="which branch to check out")
    own.add_argument("--depth", type=int, metavar="N", help="only the newest commits")
    _verb(top, "list", list_, "The operations under way.")


def _verb(top: Any, name: str, run: Any, description: str, **more: Any) -> Any:
    own = top.verbs[name] = type(top)(prog=f"{top.prog} {name}", description=description)
    _finish(own, run, **more)
    return own


def _finish(own: argparse.ArgumentParser, run: Any, **more: Any) -> None:
    own.add_argument("--project", metavar="ID", help="the project (that of this folder)")
    own.add_argument("--json", action="store_true", help="print the result as JSON")
    add_connection(own)
    own.set_defaults(run=run, **more)


# The verbs


async def any_(args: argparse.Namespace) -> int:
    """Run any operation."""
    given: Given = {}
    for pair in args.given:
        name, equals, text = pair.partition("=")
        if not equals:
            raise BadRequest(f"{pair!r} is no NAME=VALUE; see 'agentcmd git --help'")
        given[name] = _value(text)
    return await perform(args, args.operation, given, plain)


async def status(args: argparse.Namespace) -> int:
    """Say where the repository stands."""
    return await perform(args, "status", {}, status_lines)


async def diff(args: argparse.Namespace) -> int:
    """Show what has changed."""
    given: Given = {"staged": args.staged, "statOnly": args.stat}
    if args.commit:
        given["commit"] = args.commit
    if args.paths:
        given["paths"] = args.paths
    return await perform(args, "diff", given, stat_lines if args.stat else patch_lines)


async def log(args: argparse.Namespace) -> int:
    """List commits."""
    given: Given = {"revision": args.revision, "limit": args.n}
    if args.paths:
        given["paths"] = args.paths
    return await perform(args, "log", given, log_lines)


async def commit(args: argparse.Namespace) -> int:
    """Commit what is staged."""
    return await perform(args, "commit", {"message": args.message, "all": args.all}, plain)


async def remote(args: argparse.Namespace) -> int:
    """Fetch, pull or push."""
    given: Given = {} if args.remote is None else {"remote": args.remote}
    for option in ("set_upstream", "force_with_lease", "rebase"):
        if getattr(args, option, False):
            first, *words = option.split("_")
            given[first + "".join(word.capitalize() for word in words)] = True
    return await perform(args, args.operation, given, plain)


async def clone(args: argparse.Namespace) -> int:
    """Clone into a new folder, which becomes a project."""
    name = args.address.rstrip("/").removesuffix(".git").replace(":", "/").rpartition("/")[2]
    if not args.folder and name in ("", ".", ".."):
        raise BadRequest(f"{args.address!r} gives the clone no name; say the folder as well")
    folder = Path(args.folder or name).absolute()
    made = not folder.exists()
    url = args.address
    if not any(mark in url for mark in ("::", "://")) and "@" not in url.partition(":")[0]:
        url = str(Path(url).absolute())
    given: Given = {"url": url}
    for option in ("branch", "depth"):
        if getattr(args, option) is not None:
            given[option] = getattr(args, option)
    async with client(args) as daemon:
        before = {each["id"] for each in (await daemon.call("project.list"))["projects"]}
        project = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            project = (await daemon.call("project.add", {"path": str(folder)}))["projectId"]
            result = await run(daemon, project, "clone", given)
        except BaseException:
            if project is not None and project not in before:
                with contextlib.suppress(AgentcmdError):
                    await daemon.call("project.remove", {"projectId": project})
            if made:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise
    show({"projectId": project, **result}, plain, as_json=args.json)
    return 0


async def list_(args: argparse.Namespace) -> int:
    """List the operations under way."""
    async with client(args) as daemon:
        about = {"projectId": args.project} if args.project else {}
        operations = (await daemon.call("git.list", about))["operations"]
    show(operations, lambda found: [f"{o['operationId']}  {o['operation']}" for o in found],
         as_json=args.json)  # fmt: skip
    return 0


# Running one


async def perform(args: argparse.Namespace, operation: str, given: Given, lines: Shown) -> int:
    """Run one operation in the project here, and show its result."""
    async with client(args) as daemon:
        project = args.project or await project_here(daemon, operation)
        result = await run(daemon, project, operation, given)
    show(result, lines, as_json=args.json)
    return 0


async def project_here(daemon: Client, operation: str) -> str:
    """Find the project of this folder; its git root becomes one where there is none."""
    root = project_root(Path.cwd())
    for each in (await daemon.call("project.list"))["projects"]:
        if each["path"] == str(root.resolve()):
            return str(each["id"])  # found without the right to add one
    if operation not in BEGINNINGS and not (root / ".git").exists():
        raise Conflict(
            f"{root} is in no git repository: go to one, name one by --project, or begin one with "
            "'agentcmd git init'"
        )
    added = await daemon.call("project.add", {"path": str(root)})
    return str(added["projectId"])


async def run(daemon: Client, project: str, operation: str, given: Given) -> Any:
    """Run one operation to its end; who interrupts this cancels it, and waits for that."""
    id_ = new_id()
    asked = {"projectId": project, "operation": operation, "args": given, "operationId": id_}
    async with _progress(daemon, project, id_):
        answer = asyncio.create_task(daemon.call("git.run", asked))
        try:
            return (await asyncio.shield(answer))["result"]
        except asyncio.CancelledError:
            with contextlib.suppress(AgentcmdError):
                await daemon.call("git.cancel", {"projectId": project, "operationId": id_})
            await asyncio.wait([answer])
            answer.exception()  # it was cancelled, which we know
            raise


@asynccontextmanager
async def _progress(daemon: Client, project: str, id_: str) -> AsyncIterator[None]:
    """Show how far an operation is while this is open, to whoever looks at a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    telling = asyncio.create_task(_tell(daemon, f"git:project:{project}", id_))
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.wait([telling])


async def _tell(daemon: Client, channel: str, id_: str) -> None:
    width = 0
    try:
        async for message in daemon.subscribe(channel):
            if message.type != "git.operation.progress" or message.data["operationId"] != id_:
                continue
            progress = message.data["progress"]
            share = f"{progress['percentage']:.0f} %" if progress["total"] else progress["current"]
            text = f"{message.data['stage']}: {share}"
            complain_over(text.ljust(width))
            width = len(text)
    finally:
        if width:
            complain_over(" " * width)
            complain_over("")


# Showing


def show(result: Any, lines: Shown, *, as_json: bool) -> None:
    """Print a result."""
    if as_json:
        say_json(json.dumps(result, ensure_ascii=False) + "\n")
        return
    for line in lines(result):
        say(line if line.endswith("\n") else f"{line}\n")


def status_lines(result: Any) -> Iterable[str]:
    """Show a status as `git status --short --branch` does."""
    summary = result["summary"]
    branch = summary.get("branch") or f"detached at {summary.get('head', '')[:WIDTH]}"
    upstream = f" ... {summary['upstream']}" if "upstream" in summary else ""
    counts = [f"{summary[name]} {name}" for name in ("ahead", "behind") if summary.get(name)] + (
        [f"{summary['underWay']} under way"] if "underWay" in summary else []
    )
    yield f"## {branch}{upstream}" + (f" [{', '.join(counts)}]" if counts else "")
    for each in result["files"]:
        if "conflict" in each:
            letters = "UU"
        elif each.get("workTree") == "untracked":
            letters = "??"
        else:
            letters = LETTERS.get(each.get("index", ""), " ")
            letters += LETTERS.get(each.get("workTree", ""), " ")
        moved = f"{_safe(each['oldPath'])} -> " if "oldPath" in each else ""
        yield f"{letters} {moved}{_safe(each['path'])}"
    if result.get("truncated"):
        yield "... and more"


def patch_lines(result: Any) -> Iterable[str]:
    """Show a patch."""
    for each in result["files"]:
        yield each.get("text") or f"{each['status']}: {_safe(each['path'])}"
    if result.get("truncated"):
        note("the patch is longer than shown; name the files to see more of them")


def stat_lines(result: Any) -> Iterable[str]:
    """Show which files a patch is about."""
    for each in result["files"]:
        counts = f"+{each['additions']} -{each['deletions']}" if "additions" in each else "binary"
        yield f"{LETTERS.get(each['status'], ' ')} {_safe(each['path'])}  {counts}"


def log_lines(result: Any) -> Iterable[str]:
    """Show one commit a line."""
    for each in result["commits"]:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(each["author"]["time"]))
        names = ", ".join(
            name.removeprefix("refs/heads/").removeprefix("refs/") for name in each.get("refs", ())
        )
        about = f" ({names})" if names else ""
        said = _safe(f"{each['author']['name']}{about}: {each['subject']}")
        yield f"{each['id'][:WIDTH]} {when} {said}"


def plain(result: Any) -> Iterable[str]:
    """Show any result: a line for each thing of a list, or for each of its values."""
    lists = [value for value in result.values() if isinstance(value, list)]
    if lists and len(lists[0]) == sum(len(each) for each in lists):
        for each in lists[0]:
            yield _in_a_line(each)
        result = {name: value for name, value in result.items() if not isinstance(value, list)}
    for name, value in result.items():
        yield f"{name}: {_in_a_line(value)}"


def _in_a_line(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{name}={_in_a_line(inner)}" for name, inner in value.items())
    return _safe(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _safe(text: str) -> str:
    """Show a name as it is, unless that would reach into the terminal."""
    return text if text.isprintable() else json.dumps(text)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
