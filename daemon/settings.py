"""Every setting of the daemon: declared once, read from defaults, files, environment and flags."""

from __future__ import annotations

import contextlib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec

from daemon.core.errors import BadRequest
from daemon.core.guard import GuardSettings
from daemon.core.journal import JournalSettings
from daemon.core.section import Bytes, Seconds, Section, described
from daemon.core.task import TaskSettings
from daemon.core.uploads import UploadSettings
from daemon.web.auth import AuthSettings
from daemon.web.peer import WebSettings

PREFIX = "AGENTCMD_"
NOT_SETTINGS = frozenset(
    {"AGENTCMD_URL", "AGENTCMD_TOKEN", "AGENTCMD_TERMINAL", "AGENTCMD_DETACH_KEY"}
)
"""Environment variables of the client side that share the prefix."""


BOOLEANS = {"true": True, "1": True, "yes": True, "on": True} | {
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}
"""How an environment variable may say yes and no."""


class SettingsError(BadRequest):
    """A configuration that cannot be used; the sentence names the place and what is allowed."""


class ServerSection(Section):
    """Where the daemon listens, and whom it answers."""

    host: Annotated[str, described("Address to bind; anything but loopback is said explicitly")] = (
        "127.0.0.1"
    )
    port: Annotated[int, described("TCP port; 0 picks a free one", ge=0, le=65535)] = 4100
    uds: Annotated[str, described("Path of a Unix socket to bind instead of TCP")] = ""
    state_dir: Annotated[
        str, described("Where everything is kept; empty: $STATE_DIRECTORY or the XDG state dir")
    ] = ""
    hosts: Annotated[tuple[str, ...], described("Further names that a Host header may carry")] = ()
    origins: Annotated[
        tuple[str, ...], described("Web origins besides our own host, as in https://tools.example")
    ] = ()
    base_path: Annotated[
        str, described("Path under which a reverse proxy serves us, as in /agents; empty: none")
    ] = ""
    trusted_proxies: Annotated[
        tuple[str, ...],
        described("Addresses and networks whose X-Forwarded-Prefix counts; unix: the Unix socket"),
    ] = ("127.0.0.1", "::1", "unix")
    shutdown_timeout: Annotated[
        Seconds, described("Seconds that a drain waits for tasks before it kills them")
    ] = 10.0


class LogSection(Section):
    """The daemon's own log."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], described("Least level that is written")
    ] = "info"
    file_bytes: Annotated[Bytes, described("Size at which the log file is rotated")] = 10 << 20
    files: Annotated[int, described("Rotated log files that are kept", ge=0)] = 3


class SessionSection(Section):
    """Sessions with agents."""

    idle_timeout: Annotated[
        Seconds, described("Time that one with keepAlive waits for the next message; 0: no limit")
    ] = 1800.0
    line_bytes: Annotated[
        Bytes, described("Longest line of an agent's protocol; a longer one is passed over")
    ] = 16 << 20
    queued_messages: Annotated[
        int, described("Messages that wait for a busy agent, in one session", ge=1)
    ] = 100
    open_questions: Annotated[
        int, described("Permissions that wait for an answer, in one session; more are denied", ge=1)
    ] = 64


class ShellSection(Section):
    """Terminals."""

    program: Annotated[str, described("The shell; empty: the daemon's user's own")] = ""
    max_terminals: Annotated[int, described("Open terminals in all", ge=1)] = 512
    max_terminals_per_user: Annotated[int, described("Open terminals of one user", ge=1)] = 256
    ring_bytes: Annotated[
        int, described("Newest output of one terminal that is kept, in memory", ge=256 << 10)
    ] = 2 << 20
    idle_timeout: Annotated[
        Seconds, described("Seconds without viewer, input and output that end one; 0: no limit")
    ] = 0.0
    close_grace: Annotated[
        Seconds, described("Seconds that its programs have to end when it is closed")
    ] = 1.0
    keep_ended: Annotated[
        Seconds, described("Seconds that an ended one can still be looked at")
    ] = 300.0
    clipboard: Annotated[
        bool, described("Let programs write to the clipboards of viewers (OSC 52)")
    ] = False
    recording_bytes: Annotated[int, described("Largest recording", ge=1024)] = 64 << 20


class FileSection(Section):
    """Files of projects: read, written, searched and watched."""

    read_bytes: Annotated[
        int, described("Most bytes of a file that one answer carries", ge=1024, le=16 << 20)
    ] = 1 << 20
    write_bytes: Annotated[
        int, described("Largest file that is written; [web] has a limit for messages", ge=1024)
    ] = 16 << 20
    hash_bytes: Annotated[
        Bytes, described("Largest file whose hash is told without being asked for")
    ] = 16 << 20
    trash_days: Annotated[
        float, described("Days that what was deleted can be restored; 0: no limit", ge=0)
    ] = 30.0
    search_timeout: Annotated[Seconds, described("Seconds that a search may take")] = 20.0
    watch_projects: Annotated[int, described("Projects that are watched at once", ge=1)] = 16
    watch_entries: Annotated[
        int, described("Files and folders of one that is watched, without what is ignored", ge=1)
    ] = 500_000
    watch_hold: Annotated[
        Seconds, described("Seconds that a watch asked for over HTTP lasts without subscribers")
    ] = 60.0


class AgentSection(Section):
    """One agent: `[agents.NAME]`."""

    path: Annotated[str, described("Its program; empty: looked up on PATH")] = ""
    max_running: Annotated[
        int, described("Sessions of it that run at once; more are queued; 0: no limit", ge=0)
    ] = 0
    env: Annotated[dict[str, str], described("Variables that its processes get")] = msgspec.field(
        default_factory=dict
    )


class Settings(Section):
    """All of it."""

    server: ServerSection = ServerSection()
    auth: AuthSettings = AuthSettings()
    web: WebSettings = WebSettings()
    journal: JournalSettings = JournalSettings()
    task: TaskSettings = TaskSettings()
    guard: GuardSettings = GuardSettings()
    upload: UploadSettings = UploadSettings()
    session: SessionSection = SessionSection()
    shell: ShellSection = ShellSection()
    file: FileSection = FileSection()
    log: LogSection = LogSection()
    agents: dict[str, AgentSection] = msgspec.field(default_factory=dict)

    @property
    def state_dir(self) -> Path:
        """Give the state dir that the settings or the environment name."""
        named = Path(self.server.state_dir or default_state_dir(os.environ))
        try:
            return named.expanduser()
        except RuntimeError:
            raise SettingsError(
                f"{named} cannot be found, because this user has no home: set HOME, or name a "
                "folder with --state-dir"
            ) from None


def default_state_dir(environ: Mapping[str, str]) -> str:
    """Find the state dir of this user, or of this unit."""
    if unit := environ.get("STATE_DIRECTORY"):
        return unit.split(":")[0]
    base = environ.get("XDG_STATE_HOME") or "~/.local/state"
    return f"{base}/agentcmd"


def config_files(environ: Mapping[str, str]) -> list[Path]:
    """List where configuration is looked for, later ones override."""
    files = [Path("/etc/agentcmd/agentcmd.toml")]
    base = Path(environ.get("XDG_CONFIG_HOME") or "~/.config")
    with contextlib.suppress(RuntimeError):  # a user without a home has no files in it
        files.append(base.expanduser() / "agentcmd" / "agentcmd.toml")
    return files


def load(
    *,
    environ: Mapping[str, str],
    config: Path | None = None,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    """Read the settings: defaults < files < `--config` < environment < flags.

    SettingsError names the file or variable, the key, and what is allowed.
    """
    merged: dict[str, Any] = {}
    for path in config_files(environ):
        _merge(merged, _from_file(path, optional=True))
    if config is not None:
        _merge(merged, _from_file(config))
    _merge(merged, _from_environment(environ))
    for section, values in (flags or {}).items():
        set_ = {key: value for key, value in values.items() if value is not None}
        _merge(merged, {section: set_} if set_ else {})
    return _checked(merged, "the settings")


def _from_file(path: Path, *, optional: bool = False) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except OSError as error:
        if optional and isinstance(error, FileNotFoundError | NotADirectoryError):
            return {}
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
    _checked(found, str(path))
    return found


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or name in NOT_SETTINGS:
            continue
        words = name.removeprefix(PREFIX).split("__")
        path = [word.lower() for word in words]
        if len(path) < 2:
            raise SettingsError(
                f"{name} is no setting: use {PREFIX}SECTION__KEY, as in {PREFIX}LOG__LEVEL"
            )
        if path[0] == "agents" and path[2:3] == ["env"]:
            path[3:] = ["__".join(words[3:])] if words[3:] else []  # variables are as they are
        one: dict[str, Any] = {}
        inner = one
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = _parsed(text, path)
        _checked(one, name)
        _merge(found, one)
    return found


def _parsed(text: str, path: list[str]) -> Any:
    """Read a variable's text by the type of its setting."""
    kind: Any = Settings
    for key in path:
        hints = get_type_hints(kind) if isinstance(kind, type) else {}
        kind = hints.get(key) or (get_args(kind)[1] if get_args(kind)[:1] == (str,) else None)
        if kind is None:
            return text
    if kind is bool:
        return BOOLEANS.get(text.strip().lower(), text)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    if get_args(kind)[1:] == (Ellipsis,):
        return [item.strip() for item in text.split(",") if item.strip()]
    return text


def _checked(values: dict[str, Any], source: str) -> Settings:
    try:
        return msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(_explain(error, source)) from None


def _explain(error: msgspec.ValidationError, source: str) -> str:
    """Name the key, and what is allowed there."""
    text, _, place = str(error).partition(" - at `$")
    place = place.rstrip("`").lstrip(".").replace("[...]", ".NAME")
    allowed = ""
    if "unknown field" in text:
        kind: Any = Settings
        for key in filter(None, place.split(".")):
            kind = get_type_hints(kind).get(key) or kind
            if get_args(kind)[:1] == (str,):
                kind = get_args(kind)[1]
        allowed = f" (known there: {', '.join(kind.__struct_fields__)})"
    where = f" [{place}]" if place else ""
    return f"{source}{where}: {text}{allowed}"


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value
