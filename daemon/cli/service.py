"""agentcmd service: puts the daemon under systemd, tells how it is there, and takes it away."""

from __future__ import annotations

import argparse
import os
import pwd
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from daemon import home
from daemon.app import LOOPBACK
from daemon.cli import units
from daemon.cli.connect import add_home, user
from daemon.cli.doctor import AGENTS
from daemon.cli.printing import complain, say
from daemon.cli.units import ACCOUNT, SERVICE, SOCKET, File, Scope
from daemon.core.errors import BadRequest, Conflict, Forbidden, NotFound, Unavailable
from daemon.settings import PREFIX, Settings, load

NO_DAEMON = 3
ANSWER_TIMEOUT = 5.0
"""Seconds for a running daemon to answer /health, and for a manager to say that it is there."""


def add_commands(commands: Any) -> None:
    """Add `service` and what it does."""
    own = commands.add_parser("service", help="run the daemon under systemd")
    verbs = own.add_subparsers(metavar="VERB", required=True)
    for name, run, help_ in (
        ("install", install, "write the units, enable and start them"),
        ("uninstall", uninstall, "stop the service and remove its units"),
        ("status", status, "tell what is installed, enabled, active, and where it answers"),
    ):
        verb = verbs.add_parser(name, help=help_)
        whose = verb.add_mutually_exclusive_group()
        whose.add_argument(
            "--user", dest="system", action="store_false", help="your own (unless you are root)"
        )
        whose.add_argument("--system", action="store_true", help="the machine's, as user agentcmd")
        if run is not status:
            verb.add_argument("--force", action="store_true", help="also units that were changed")
            verb.add_argument("--dry-run", action="store_true", help="only say what would be done")
        add_home(verb)
        verb.set_defaults(run=run, system=None)


async def install(args: argparse.Namespace) -> int:
    """Write the units; enable and start them where a manager answers."""
    scope = _scope(args)
    if not args.dry_run:
        _require_root(scope, "install")
    settings = _settings(args, scope)
    files = _files(args, scope, settings)
    names = [file.path.name for file in files if file.path.parent == scope.folder]
    commands = [
        [*scope.systemctl, "daemon-reload"],
        [*scope.systemctl, "enable", "--now", *names],
    ]
    if args.dry_run:
        for file in files:
            _say(f"# {file.path} ({file.standing()})\n{units.seal(file.text)}")
        _say(*(shlex.join(command) for command in commands))
        return 0
    _refuse_changed(files, args, scope)
    written = False
    for file in files:
        before = file.standing()
        if before != "current":
            file.write()
            written = True
        _say(f"{'unchanged' if before == 'current' else 'written'} {file.path}")
    _make_account(scope)
    if not _manager_answers(scope):
        _say(f"no {'user' if scope.user else 'system'} manager answers here; where one does, run:")
        _say(*(f"  {shlex.join(command)}" for command in commands))
    else:
        _start(scope, commands, settings, written=written)
    _tell_of_lingering(scope)
    return 0


async def uninstall(args: argparse.Namespace) -> int:
    """Stop and disable the service, and remove its units; what it has kept stays."""
    scope = _scope(args)
    if not args.dry_run:
        _require_root(scope, "uninstall")
    there = [path for path in scope.places.values() if units.read(path) is not None]
    if not there:
        raise NotFound(f"no unit of agentcmd is installed in {scope.folder}")
    names = [path.name for path in there if path.parent == scope.folder]
    disable = [*scope.systemctl, "disable", "--now", *reversed(names)]
    reload_ = [*scope.systemctl, "daemon-reload"]
    if args.dry_run:
        _say(shlex.join(disable), *(f"rm {path}" for path in there), shlex.join(reload_))
        return 0
    for path in there:
        if not args.force and not units.is_ours(units.read(path) or ""):
            raise Conflict(f"{path} was changed or not written by this command; --force removes it")
    answers = _manager_answers(scope)
    if answers:
        _must(disable)
    for path in (*there, *_wanted_by(scope, names)):
        path.unlink(missing_ok=True)
        _say(f"removed {path}")
    if answers:
        _must(reload_)
    kept = [path for name in names for path in scope.folder.glob(f"{name}.d")]
    kept.append(_settings(args, scope).state_dir)
    _say(f"kept {', '.join(map(str, kept))}" + ("" if scope.user else ", user agentcmd"))
    return 0


async def status(args: argparse.Namespace) -> int:
    """Tell how the service is; 3 where no daemon answers."""
    scope = _scope(args)
    for name, path in scope.places.items():
        there = units.read(path)
        if there is None:
            _say(f"{'not there' if name != SOCKET else 'no socket':9} {path}")
        else:
            by = "as installed" if units.is_ours(there) else "changed or written by somebody"
            _say(f"{'installed':9} {path}, {by}")
    if _manager_answers(scope):
        for name in (SERVICE, SOCKET):
            if scope.places[name].exists():
                _say(_told_by_manager(scope, name))
    else:
        _say(f"{'manager':9} no {'user' if scope.user else 'system'} manager answers here")
    if scope.places[SERVICE].exists():
        _tell_of_lingering(scope)
    return await _daemon_answers(_settings(args, scope).state_dir)


# Whose it is, and what it is made of


def _scope(args: argparse.Namespace) -> Scope:
    """Give what the options say: one's own, or for root the machine's."""
    system = os.geteuid() == 0 if args.system is None else args.system
    return Scope.of_system() if system else Scope.of_user(os.environ)


def _require_root(scope: Scope, verb: str) -> None:
    if not scope.user and os.geteuid() != 0:
        raise Forbidden(f"--system needs root: sudo agentcmd service {verb} --system")


def _settings(args: argparse.Namespace, scope: Scope) -> Settings:
    """Read the settings as the service will: without the variables of this shell."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environ.pop("STATE_DIRECTORY", None)
    if not scope.user:
        environ["XDG_CONFIG_HOME"] = str(units.SYSTEM_STATE / ".config")
    flags: dict[str, dict[str, str]] = {}
    if args.state_dir:
        flags = {"server": {"state_dir": str(Path(args.state_dir).absolute())}}
    elif not scope.user:
        environ["STATE_DIRECTORY"] = str(scope.root / units.SYSTEM_STATE.relative_to("/"))
    return load(environ=environ, config=args.config, flags=flags)


def _files(args: argparse.Namespace, scope: Scope, settings: Settings) -> list[File]:
    """Make every file of the service, in the order in which they are used."""
    server = settings.server
    if not server.uds and not server.host.startswith(LOOPBACK):
        raise BadRequest(
            f"[server] host is {server.host}, which others can reach: leave it out, and say "
            f"ListenStream={server.host}:{server.port} in '{' '.join(scope.systemctl)} edit "
            "agentcmd.socket' to mean it"
        )
    command = units.program()
    if not scope.user and (locked := units.locked_in(command[0])) and not args.force:
        raise Conflict(
            f"user agentcmd cannot run {command[0]}, because {locked} is closed to others: install "
            "agentcmd where everybody may enter, as in /opt/agentcmd"
        )
    command += ["serve"]
    if args.state_dir:
        command += ["--state-dir", str(Path(args.state_dir).absolute())]
    if args.config:
        command += ["--config", str(args.config.absolute())]
    texts = {}
    if not scope.user:
        texts[ACCOUNT] = scope.template(ACCOUNT)
    if address := units.socket_address(server):
        texts[SOCKET] = units.socket_text(scope.template(SOCKET), address)
    environment = dict(_environment(scope, settings, os.environ))
    texts[SERVICE] = units.service_text(scope.template(SERVICE), command, environment)
    return [File(scope.places[name], text) for name, text in texts.items()]


def _environment(
    scope: Scope, settings: Settings, environ: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Record what a login shell knows and a service manager does not."""
    folders = [each for each in environ.get("PATH", "").split(":") if each.startswith("/")]
    yield "PATH", ":".join(dict.fromkeys(folders)) or os.defpath
    if scope.user:
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
            if environ.get(name):
                yield name, environ[name]  # or the commands would look elsewhere than the daemon
    for name in AGENTS:
        configured = settings.agents.get(name)
        if configured is not None and configured.path:
            continue  # a file says it, and may say something else tomorrow
        variable = f"{PREFIX}AGENTS__{name.upper()}__PATH"
        found = shutil.which(environ.get(variable) or name, path=environ.get("PATH"))
        if not found:
            continue
        # Not what a link there leads to: that is one version, and goes with the next update.
        path = str(Path(found).absolute())
        if not scope.user and (locked := units.locked_in(path)):
            _note(f"{name} at {path} is left out: {locked} is closed to user agentcmd")
            continue
        yield variable, path


def _refuse_changed(files: Sequence[File], args: argparse.Namespace, scope: Scope) -> None:
    """Stop before a file that somebody has changed, and show what differs."""
    changed = [file for file in files if file.standing() == "changed"]
    if not changed or args.force:
        return
    say("".join(file.differences() for file in changed))
    raise Conflict(
        f"{', '.join(str(file.path) for file in changed)}: changed or not written by this command, "
        f"as shown; put changes into '{' '.join(scope.systemctl)} edit agentcmd', then use --force"
    )


# What the machine says and does


def _make_account(scope: Scope) -> None:
    """Make the user of the system unit where there is none."""
    if scope.user:
        return
    try:
        pwd.getpwnam(units.SYSTEM_USER)
    except KeyError:
        if shutil.which("systemd-sysusers") is None:
            raise Unavailable(
                "systemd-sysusers is missing; make the user with: useradd --system --home-dir "
                f"{units.SYSTEM_STATE} {units.SYSTEM_USER}, then install again"
            ) from None
        _must(["systemd-sysusers", str(scope.places[ACCOUNT])])


def _start(
    scope: Scope, commands: Sequence[list[str]], settings: Settings, *, written: bool
) -> None:
    """Have the manager read, enable and start it, unless that would end what runs."""
    reload_, enable = commands
    names = enable[enable.index("--now") + 1 :]
    _must(reload_)
    active = _asked([*scope.systemctl, "is-active", SERVICE])[1] == "active"
    beside = None if active else home.discover(settings.state_dir)
    if not active and beside is None:
        _must(enable)
        _say(f"started {' '.join(names)}")
        return
    _must([word for word in enable if word != "--now"])
    systemctl = " ".join(scope.systemctl)
    start = f"{systemctl} start {' '.join(names)}"
    if beside is not None:
        _say(f"enabled; a daemon runs already (pid {beside.pid}): agentcmd stop && {start}")
    elif written:
        _say(f"enabled; it runs, with its old unit until: {systemctl} stop {SERVICE} && {start}")
    else:
        _say("enabled; it runs already")


def _manager_answers(scope: Scope) -> bool:
    """Tell whether there is a manager to talk to."""
    done, version = _asked([*scope.systemctl, "show", "--property=Version", "--value"])
    return done and bool(version)


def _told_by_manager(scope: Scope, name: str) -> str:
    """Ask the manager about a unit."""
    keys = ("UnitFileState", "ActiveState", "SubState", "MainPID", "StatusText")
    _, text = _asked([*scope.systemctl, "show", name, f"--property={','.join(keys)}"])
    told = dict(line.partition("=")[::2] for line in text.splitlines())
    line = f"{told.get('UnitFileState') or 'disabled':9} {name}, {told.get('ActiveState', '?')}"
    line += f" ({told.get('SubState', '?')})"
    if told.get("MainPID", "0") in ("", "0"):
        return line  # and what the last one has said is no longer so
    line += f", pid {told['MainPID']}"
    return f"{line}, {told['StatusText']}" if told.get("StatusText") else line


def _tell_of_lingering(scope: Scope) -> None:
    """Say what keeps a user's service after the last logout, where it is not so already."""
    if not scope.user:
        return
    if _asked(["loginctl", "show-user", user(), "--property=Linger", "--value"])[1] != "yes":
        _say(f"{'linger':9} off: it ends with your last session; 'loginctl enable-linger' keeps it")


def _wanted_by(scope: Scope, names: Sequence[str]) -> list[Path]:
    """Find the links by which units were enabled, also where no manager removes them."""
    links = [link for name in names for link in scope.folder.glob(f"*.wants/{name}")]
    return [link for link in links if link.is_symlink()]


async def _daemon_answers(state_dir: Path) -> int:
    """Tell where a daemon answers; gives the exit code."""
    try:
        (state_dir / home.ADDRESS).stat()
    except PermissionError:
        _say(f"{'daemon':9} {state_dir} is closed to you: ask as its user")
        return NO_DAEMON
    except OSError:
        pass
    address = home.discover(state_dir)
    if address is None:
        _say(f"{'daemon':9} none runs with {state_dir}")
        return NO_DAEMON
    where = address.url or f"unix:{address.socket}"
    connector = aiohttp.UnixConnector(address.socket) if address.socket else None
    base = "http://localhost" if address.socket else address.url
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(ANSWER_TIMEOUT)
            ) as http,
            http.get(f"{base}/health") as answer,
        ):
            told = (await answer.json())["status"]
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError):
        _say(f"{'daemon':9} pid {address.pid} does not answer at {where}")
        return NO_DAEMON
    _say(f"{'daemon':9} {told} at {where}, pid {address.pid}")
    return 0


def _asked(command: Sequence[str]) -> tuple[bool, str]:
    """Run a command that only looks; gives whether it succeeded, and what it said."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=ANSWER_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired):
        return False, ""
    return done.returncode == 0, done.stdout.strip()


def _must(command: Sequence[str]) -> None:
    """Run a command that does something; Unavailable says what it had against it."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Unavailable(f"cannot run {command[0]}: {error.strerror}") from None
    if done.returncode:
        lines = (done.stderr.strip() or f"it ended with {done.returncode}").splitlines()
        raise Unavailable(f"{shlex.join(command)} failed: {lines[0]}")


def _say(*lines: str) -> None:
    say("".join(f"{line}\n" for line in lines))


def _note(text: str) -> None:
    complain(f"agentcmd: {text}\n")
