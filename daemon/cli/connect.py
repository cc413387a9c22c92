"""How a command finds its daemon, and who it is there."""

from __future__ import annotations

import argparse
import getpass
import ipaddress
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from daemon import home
from daemon.client import Client, NoDaemon, Status
from daemon.core.errors import BadRequest
from daemon.home import Address
from daemon.settings import Settings, load
from daemon.web.auth import EVERYTHING, SECRET_NAME, Tokens, load_secret

UNIX = "unix:"

TOKEN_TTL = 3600.0
"""Seconds; a fresh token is minted for every connection and before each expiry."""


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that talks to a daemon."""
    parser.add_argument("--url", help="where the daemon answers [AGENTCMD_URL]; not needed here")
    parser.add_argument("--token", help="the token to show [AGENTCMD_TOKEN]; likewise")
    add_home(parser)


def add_home(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the state dir is."""
    parser.add_argument("--state-dir", metavar="DIR", help="the daemon's state dir")
    parser.add_argument("--config", metavar="FILE", type=Path, help="a configuration file")


def settings_of(
    args: argparse.Namespace, flags: Mapping[str, Mapping[str, Any]] | None = None
) -> Settings:
    """Read the settings with the options of this call on top."""
    merged = {name: dict(values) for name, values in (flags or {}).items()}
    if args.state_dir:
        merged.setdefault("server", {})["state_dir"] = str(Path(args.state_dir).absolute())
    return load(environ=os.environ, config=args.config, flags=merged)


def tokens_of(settings: Settings) -> Tokens:
    """Open the means to mint tokens, with the daemon's own secret."""
    home.make(settings.state_dir)
    auth = settings.auth
    if not (auth.secret_file or os.environ.get("CREDENTIALS_DIRECTORY") or own_secret(settings)):
        found = home.discover(settings.state_dir)
        if found is not None:  # a secret made now would not be that of the daemon
            raise NoDaemon(
                f"{settings.state_dir / SECRET_NAME} is missing, and the daemon there (pid "
                f"{found.pid}) takes no token made with another: put it back, give --token, or "
                f"end the daemon with 'kill {found.pid}' and start it again"
            )
    secret = load_secret(settings.state_dir, auth.secret_file, os.environ)
    return Tokens(secret, algorithm=auth.algorithm, issuer=auth.issuer, audience=auth.audience)


def remote_url(args: argparse.Namespace) -> str:
    """Give the URL that was named, empty when the daemon is to be discovered."""
    url = str(args.url or os.environ.get("AGENTCMD_URL", ""))
    if not url or url.startswith(UNIX):
        return url
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise BadRequest(
            f"{url!r} is no URL of a daemon: use http://HOST:PORT or unix:PATH, as 'agentcmd "
            "status' prints it there"
        )
    return url


def user() -> str:
    """Give the name that a token of this user carries."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in containers
        return f"uid-{os.getuid()}"


def client(
    args: argparse.Namespace, *, on_status: Callable[[Status, str], None] | None = None
) -> Client:
    """Make a client for the daemon that the options, the environment or the state dir name."""
    settings = settings_of(args)
    url = remote_url(args)
    given = args.token or os.environ.get("AGENTCMD_TOKEN", "")

    def locate() -> Address | None:
        if url.startswith(UNIX):
            return Address(socket=url.removeprefix(UNIX))
        if url:
            return Address(url=url)
        return home.discover(settings.state_dir)

    def token() -> str:
        if given:
            return given
        if url and not is_local(url) and not is_own(url, settings.state_dir):
            raise BadRequest(
                f"{url} is another machine, and gets no token made here: give --token or set "
                "AGENTCMD_TOKEN, with what 'agentcmd token' prints there"
            )
        if url and not settings.auth.secret_file and not own_secret(settings):
            raise NoDaemon(f"{url} needs a token: give --token or set AGENTCMD_TOKEN")
        return tokens_of(settings).mint(user(), scope=EVERYTHING, ttl=TOKEN_TTL)

    return Client(locate, token=token, on_status=on_status)


def is_local(url: str) -> bool:
    """Return whether a URL cannot lead to another machine: a Unix socket, or a loopback address."""
    if url.startswith(UNIX):
        return True
    host = (urlsplit(url).hostname or "").lower()
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_own(url: str, state_dir: Path) -> bool:
    """Return whether a URL is that of the daemon which runs on this state dir."""
    found = home.discover(state_dir)
    return found is not None and bool(found.url) and found.url.rstrip("/") == url.rstrip("/")


def own_secret(settings: Settings) -> bool:
    """Tell whether this state dir has a secret already."""
    return (settings.state_dir / SECRET_NAME).exists()
