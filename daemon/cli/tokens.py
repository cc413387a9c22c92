"""agentcmd token: makes a JWT and prints nothing else."""

from __future__ import annotations

import argparse
from typing import Any

from daemon.cli.connect import add_home, settings_of, tokens_of, user
from daemon.cli.printing import say
from daemon.web.auth import EVERYTHING, parse_ttl


def add_commands(commands: Any) -> None:
    """Add `token`."""
    own = commands.add_parser("token", help="print a token for a client")
    own.add_argument("--user", help="whose it is (your user name)")
    own.add_argument(
        "--scope",
        action="append",
        metavar="ACTION:PATTERN",
        help="what it grants, as in read:session:* (everything); may be repeated",
    )
    own.add_argument("--ttl", default="12h", help="how long it is good: a number with s, m, h or d")
    add_home(own)
    own.set_defaults(run=token)


async def token(args: argparse.Namespace) -> int:
    """Print a token."""
    scope = " ".join(args.scope) if args.scope else EVERYTHING
    tokens = tokens_of(settings_of(args))
    minted = tokens.mint(args.user or user(), scope=scope, ttl=parse_ttl(args.ttl))
    say(f"{minted}\n")
    return 0
