"""agentcmd doctor: checks what the daemon needs here, one line each, with the fix."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import sqlite3
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from daemon import __file__ as ours
from daemon import __version__, home
from daemon.app import domain_schemas
from daemon.cli.connect import add_home, settings_of
from daemon.cli.printing import say
from daemon.core.damage import damaged, explained, left_alone
from daemon.core.errors import AgentcmdError
from daemon.core.schema import refuse_newer
from daemon.core.store import JOURNAL_SCHEMA
from daemon.settings import Settings
from daemon.web.auth import SECRET_NAME, read_secret
from domains.session.agents import ADAPTERS

AGENTS = ("claude", "codex", "gemini", "opencode")
VERSION_TIMEOUT = 10.0
DATABASE_TIMEOUT = 20.0


class Check(NamedTuple):
    """One finding: `state` is ok, note or bad; `fix` says what to do."""

    state: str
    what: str
    fix: str = ""


def add_commands(commands: Any) -> None:
    """Add `doctor`."""
    own = commands.add_parser("doctor", help="check the machine and the configuration")
    add_home(own)
    own.set_defaults(run=doctor)


async def doctor(args: argparse.Namespace) -> int:
    """Print the findings; 1 when one is bad."""
    settings = settings_of(args)
    checks = [*_machine(), *_state(settings), *await _agents(settings)]
    for check in checks:
        fix = f": {check.fix}" if check.fix else ""
        say(f"{check.state:5} {check.what}{fix}\n")
    return 1 if any(check.state == "bad" for check in checks) else 0


def _machine() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("ok", f"agentcmd {__version__}, Python {version}, SQLite {sqlite3.sqlite_version}")
    if Path(ours).parent != Path(home.__file__).parent:
        yield Check("bad", f"the package daemon is another's ({ours})", "use an own environment")
    if sys.platform == "linux":
        yield Check("ok", "Linux: reapers own every descendant of a task")
    else:
        yield Check(
            "note",
            f"{sys.platform}: no subreaper",
            "a child that leaves its process group and its parent may outlive a killed daemon",
        )
    if git := shutil.which("git"):
        yield Check("ok", f"git at {git}")
    else:
        yield Check("note", "git is missing", "install it to have project roots found")
    if os.path.isdir("/run/systemd/system"):  # noqa: PTH112  # sd_booted(3)
        yield Check("ok", "systemd runs here", "'agentcmd service install' has it keep the daemon")
    else:
        yield Check("note", "systemd does not run here", "start 'agentcmd serve' yourself")


def _state(settings: Settings) -> Iterator[Check]:
    state_dir = settings.state_dir
    if not state_dir.exists():
        yield Check("ok", f"state dir {state_dir} is made at the first start")
        return
    if not state_dir.is_dir():
        yield Check("bad", f"state dir {state_dir} is not a folder", "choose another, --state-dir")
        return
    if not os.access(state_dir, os.W_OK | os.X_OK):
        yield Check("bad", f"state dir {state_dir} cannot be written", f"chown it to {os.getuid()}")
        return
    if state_dir.stat().st_mode & 0o077:
        yield Check("bad", f"state dir {state_dir} can be read by others", f"chmod 700 {state_dir}")
    else:
        yield Check("ok", f"state dir {state_dir}")
    yield from _disk(state_dir, settings.guard.free_bytes)
    misplaced = list(home.misplaced(state_dir))
    yield from (Check("bad", told) for told in misplaced)
    if misplaced:
        return  # the rest would fail for that
    yield from _lock(state_dir / home.LOCK)
    yield from _secret(state_dir / SECRET_NAME)
    yield from _database(state_dir / home.DATABASE)
    address = home.discover(state_dir)
    if address is None:
        yield Check("ok", "no daemon runs; 'agentcmd run' brings its own")
    else:
        yield Check("ok", f"a daemon runs, pid {address.pid}, {address.url or address.socket}")


def _disk(state_dir: Path, least: int) -> Iterator[Check]:
    about = os.statvfs(state_dir)
    free = about.f_bavail * about.f_frsize
    if free < max(least, 1 << 20):
        told = f"the disk of {state_dir} has {free >> 20} MiB left"
        yield Check("bad", told, "free some of it; below [guard] free_bytes nothing new is started")


def _lock(lock: Path) -> Iterator[Check]:
    if lock.exists() and not os.access(lock, os.R_OK | os.W_OK):
        yield Check("bad", f"permission denied: {lock}", f"let user {os.getuid()} write it")


def _secret(secret: Path) -> Iterator[Check]:
    if not secret.exists():
        return
    if stat.S_IMODE(secret.stat().st_mode) & 0o077:
        yield Check("bad", f"the secret {secret} can be read by others", f"chmod 600 {secret}")
        return
    try:
        read_secret(secret)
    except AgentcmdError as error:
        yield Check("bad", error.message)
    else:
        yield Check("ok", f"the secret {secret} is ours alone")


def _database(path: Path) -> Iterator[Check]:
    alone = left_alone(path)
    if alone is not None:
        yield Check("bad", alone)
        return
    if not path.exists():
        return
    if path.is_file() and not path.stat().st_size:
        told = f"the database {path} is empty, so its history is lost"
        yield Check("bad", told, "put a backup in its place, else it begins anew at the next start")
        return
    try:
        found = _looked_through(path)
    except sqlite3.Error as error:
        yield Check("bad", explained(path, error))
        return
    except AgentcmdError as error:
        yield Check("bad", error.message)
        return
    if found is None:
        yield Check("note", f"the database {path} is too large to be looked through here")
    elif found == "ok":
        yield Check("ok", f"the database {path} is sound")
    else:
        yield Check("bad", damaged(path, found))


def _looked_through(path: Path) -> str | None:
    """Look a database through without changing anything; None when that takes too long."""
    until = time.monotonic() + DATABASE_TIMEOUT
    # Without a log beside it nobody writes it: then no file is made to read it either.
    how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "mode=ro&immutable=1"
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)) as db:
        db.set_progress_handler(lambda: time.monotonic() > until, 100_000)
        try:
            (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if found == "ok":
                refuse_newer(db, path, {"journal": JOURNAL_SCHEMA, **domain_schemas()})
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                return None
            raise
    return str(found).strip().replace("\n", "; ")


async def _agents(settings: Settings) -> list[Check]:
    return list(await asyncio.gather(*(_agent(name, settings) for name in AGENTS)))


async def _agent(name: str, settings: Settings) -> Check:
    configured = settings.agents.get(name)
    path = (configured.path if configured else "") or shutil.which(name)
    if not path:
        return Check("note", f"{name} is not installed")
    try:
        process = await asyncio.create_subprocess_exec(
            path,
            "--version",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        return Check("bad", f"{name} at {path}: {error.strerror}", f"set [agents.{name}] path")
    try:
        async with asyncio.timeout(VERSION_TIMEOUT):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return Check("note", f"{name} at {path} does not answer --version")
    lines = out.decode(errors="replace").split("\n")
    return Check("ok", f"{name} {lines[0].strip()[:60]} at {path}{_abilities(name)}")


def _abilities(name: str) -> str:
    """Say what can be done with an agent here."""
    adapter = ADAPTERS.get(name)
    if adapter is None:
        return "; agentcmd does not drive it yet"
    can = msgspec.structs.asdict(adapter.abilities)
    return ": " + ", ".join(each.replace("_", " ") for each, able in can.items() if able)
