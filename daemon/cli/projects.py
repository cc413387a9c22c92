"""agentcmd project: the root folders, what they are called, and which are trusted."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from daemon.cli.connect import add_connection, client
from daemon.cli.printing import say, say_json
from daemon.cli.tasks import table


def add_commands(commands: Any) -> None:
    """Add `project` and what is below it."""
    top = commands.add_parser("project", help="add, list, rename, trust and remove project folders")
    below = top.add_subparsers(metavar="ACTION", required=True)
    own = _verb(below, "add", add, "make a folder a project")
    own.add_argument("path", help="the folder")
    own.add_argument("--name", help="its name (the folder's)")
    own = _verb(below, "list", list_, "list the projects")
    own.add_argument("--json", action="store_true", help="print JSON")
    own = _verb(below, "show", show, "one project, and what can be done in it")
    own.add_argument("id", help="the project, as list shows it")
    own.add_argument("--json", action="store_true", help="print JSON")
    own = _verb(below, "rename", rename, "give it another name; its folder keeps its own")
    own.add_argument("id", help="the project, as list shows it")
    own.add_argument("name", help="the name")
    own = _verb(below, "trust", trust, "let git run the hooks and programs that it configures")
    own.add_argument("id", help="the project, as list shows it")
    own.add_argument("--no", action="store_true", help="no longer")
    own = _verb(below, "remove", remove, "forget a project; no file is touched")
    own.add_argument("id", help="the project, as list shows it")


def _verb(below: Any, name: str, run: Any, help_: str) -> Any:
    own = below.add_parser(name, help=help_)
    add_connection(own)
    own.set_defaults(run=run)
    return own


async def add(args: argparse.Namespace) -> int:
    """Add a project and print its id."""
    data = {"path": str(Path(args.path).absolute())}
    if args.name:
        data["name"] = args.name
    async with client(args) as daemon:
        say((await daemon.call("project.add", data))["projectId"] + "\n")
    return 0


async def list_(args: argparse.Namespace) -> int:
    """List the projects."""
    async with client(args) as daemon:
        projects = (await daemon.call("project.list"))["projects"]
    if args.json:
        say_json(json.dumps(projects) + "\n")
        return 0
    rows = [("ID", "NAME", "TRUSTED", "PATH")]
    rows += [(p["id"], p["name"], "yes" if p.get("trusted") else "-", p["path"]) for p in projects]
    say(table(rows))
    return 0


async def show(args: argparse.Namespace) -> int:
    """Tell about one project."""
    async with client(args) as daemon:
        project = (await daemon.call("project.get", {"projectId": args.id}))["project"]
        able = await daemon.call("project.capabilities", {"projectId": args.id})
    del able["projectId"]
    if args.json:
        say_json(json.dumps({**project, **able}) + "\n")
        return 0
    rows = [
        ("name", project["name"]),
        ("path", project["path"]),
        ("trusted", "yes" if project.get("trusted") else "no"),
        ("git", "yes" if able["git"] else "no"),
        ("workflows", ", ".join(able["workflows"]) or "none"),
        ("agents", ", ".join(able["agents"])),
    ]
    say(table(rows))
    return 0


async def rename(args: argparse.Namespace) -> int:
    """Give a project another name."""
    async with client(args) as daemon:
        await daemon.call("project.rename", {"projectId": args.id, "name": args.name})
    return 0


async def trust(args: argparse.Namespace) -> int:
    """Trust a project, or no longer."""
    async with client(args) as daemon:
        await daemon.call("project.trust", {"projectId": args.id, "trusted": not args.no})
    return 0


async def remove(args: argparse.Namespace) -> int:
    """Remove a project."""
    async with client(args) as daemon:
        await daemon.call("project.remove", {"projectId": args.id})
    return 0
