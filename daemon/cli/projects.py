"""agentcmd project add, list, remove: the root folders."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from daemon.cli.connect import add_connection, client
from daemon.cli.tasks import table


def add_commands(commands: Any) -> None:
    """Add `project` and what is below it."""
    top = commands.add_parser("project", help="add, list and remove project folders")
    below = top.add_subparsers(metavar="ACTION", required=True)
    own = below.add_parser("add", help="make a folder a project")
    own.add_argument("path", help="the folder")
    own.add_argument("--name", help="its name (the folder's)")
    add_connection(own)
    own.set_defaults(run=add)
    own = below.add_parser("list", help="list the projects")
    own.add_argument("--json", action="store_true", help="print JSON")
    add_connection(own)
    own.set_defaults(run=list_)
    own = below.add_parser("remove", help="forget a project; no file is touched")
    own.add_argument("id", help="the project, as list shows it")
    add_connection(own)
    own.set_defaults(run=remove)


async def add(args: argparse.Namespace) -> int:
    """Add a project and print its id."""
    data = {"path": str(Path(args.path).absolute())}
    if args.name:
        data["name"] = args.name
    async with client(args) as daemon:
        sys.stdout.write((await daemon.call("project.add", data))["projectId"] + "\n")
    return 0


async def list_(args: argparse.Namespace) -> int:
    """List the projects."""
    async with client(args) as daemon:
        projects = (await daemon.call("project.list"))["projects"]
    if args.json:
        sys.stdout.write(json.dumps(projects) + "\n")
        return 0
    rows = [("ID", "NAME", "PATH"), *((p["id"], p["name"], p["path"]) for p in projects)]
    sys.stdout.write(table(rows))
    return 0


async def remove(args: argparse.Namespace) -> int:
    """Remove a project."""
    async with client(args) as daemon:
        await daemon.call("project.remove", {"projectId": args.id})
    return 0
