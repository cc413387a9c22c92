"""The files of the service: found as templates, filled in for this installation, told apart."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from daemon import __file__ as ours
from daemon.core.errors import BadRequest, NotFound
from daemon.settings import ServerSection

MARK = "# agentcmd service install wrote this, checksum "
"""Begins a written file: with the checksum of the rest, it says whether somebody changed that."""

SERVICE, SOCKET, ACCOUNT = "agentcmd.service", "agentcmd.socket", "agentcmd.sysusers.conf"
SYSTEM_USER = "agentcmd"
SYSTEM_STATE = Path("/var/lib/agentcmd")

Standing = Literal["absent", "current", "outdated", "changed"]


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose service it is: a user's own, or the machine's; `root` is / but for trials."""

    user: bool
    folder: Path
    root: Path = Path("/")

    @classmethod
    def of_user(cls, environ: Mapping[str, str]) -> Scope:
        """Give that of the user who asks."""
        base = Path(environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
        return cls(user=True, folder=base / "systemd" / "user")

    @classmethod
    def of_system(cls, root: Path = Path("/")) -> Scope:
        """Give that of the machine."""
        return cls(user=False, folder=root / "etc/systemd/system", root=root)

    @property
    def systemctl(self) -> list[str]:
        """Give the beginning of a systemctl command."""
        return ["systemctl", "--user"] if self.user else ["systemctl"]

    @property
    def places(self) -> dict[str, Path]:
        """Name every file that an installation may have."""
        named = {SERVICE: self.folder / SERVICE, SOCKET: self.folder / SOCKET}
        if not self.user:
            named[ACCOUNT] = self.root / "etc/sysusers.d/agentcmd.conf"
        return named

    def template(self, name: str) -> str:
        """Read what a file is made from."""
        if name == SERVICE and self.user:
            name = "agentcmd.user.service"
        return (templates() / name).read_text()


@dataclass(frozen=True, slots=True)
class File:
    """A file of the service, as it should be."""

    path: Path
    text: str

    def standing(self) -> Standing:
        """Compare with what is there."""
        there = read(self.path)
        if there is None:
            return "absent"
        if there == seal(self.text):
            return "current"
        return "outdated" if is_ours(there) else "changed"

    def differences(self) -> str:
        """Say what differs there, as diff -u does."""
        if self.path.is_symlink():
            return f"{self.path} is a link to {self.path.readlink()}\n"
        lines = difflib.unified_diff(
            (read(self.path) or "").splitlines(keepends=True),
            seal(self.text).splitlines(keepends=True),
            str(self.path),
            "what would be written",
        )
        return "".join(line if line.endswith("\n") else line + "\n" for line in lines)

    def write(self) -> None:
        """Write it, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        made = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        made.write_text(seal(self.text))
        made.chmod(0o644)
        made.replace(self.path)


def read(path: Path) -> str | None:
    """Read an installed file; a link, as of a masked unit, is somebody's own and reads empty."""
    if path.is_symlink():
        return ""
    with contextlib.suppress(FileNotFoundError):
        return path.read_text(errors="replace")
    return None


def seal(text: str) -> str:
    """Put the mark before a text."""
    return f"{MARK}{hashlib.sha256(text.encode()).hexdigest()[:16]}\n{text}"


def is_ours(sealed: str) -> bool:
    """Tell whether a file is as it was written here."""
    return sealed == seal(sealed.partition("\n")[2])


def templates() -> Path:
    """Find the folder of the templates: in a checkout, or where a wheel puts it."""
    share = Path("share", "agentcmd", "systemd")
    candidates = [
        Path(ours).parents[1] / "systemd",
        Path(sysconfig.get_path("data")) / share,
        Path(sys.prefix) / share,
        Path(ours).parents[1] / share,  # pip install --target
    ]
    for candidate in candidates:
        if (candidate / SERVICE).is_file():
            return candidate
    raise NotFound("the templates of the units are missing: install agentcmd anew")


def program() -> list[str]:
    """Give the command line of this installation."""
    script = Path(sysconfig.get_path("scripts")) / "agentcmd"
    return [str(script)] if script.is_file() else [sys.executable, "-m", "daemon"]


def service_text(template: str, command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Fill in a service: what is started, and with which variables.

    BadRequest for a program at a path that systemd takes for no program's.
    """
    first, *rest = command
    if set(first) & set("\"'\\"):
        raise BadRequest(
            f"systemd starts no program with a quote or a backslash in its path, as in {first}: "
            "install agentcmd elsewhere"
        )
    # Variables are replaced in arguments, not in the program's own path.
    start = " ".join([quoted(first), *(quoted(word).replace("$", "$$") for word in rest)])
    variables = "".join(
        f"Environment={quoted(f'{name}={value}')}\n" for name, value in environment.items()
    )
    return "".join(_filled(template, f"ExecStart={start}\n", variables))


def _filled(template: str, start: str, variables: str) -> Iterator[str]:
    for line in template.splitlines(keepends=True):
        if line.startswith("ExecStart="):
            yield start
        elif line.startswith("Environment="):
            yield variables
        else:
            yield line


def socket_text(template: str, address: str) -> str:
    """Fill in a socket: where it listens."""
    return "".join(
        f"ListenStream={address.replace('%', '%%')}\n" if line.startswith("ListenStream=") else line
        for line in template.splitlines(keepends=True)
    )


def socket_address(server: ServerSection) -> str:
    """Say in systemd's words where the daemon listens; empty where only the daemon can tell."""
    if server.uds:
        return server.uds if server.uds.startswith("/") else ""
    if not server.port:
        return ""
    host = "127.0.0.1" if server.host.startswith("localhost") else server.host
    return f"[{host}]:{server.port}" if ":" in host else f"{host}:{server.port}"


def quoted(word: str) -> str:
    """Write a word so that systemd.syntax(7) reads it as it is."""
    plain = word.replace("%", "%%")
    if plain and not set(plain) & set(" \t\"'\\;"):
        return plain
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def locked_in(path: str) -> Path | None:
    """Find the folder on the way to a program that only its owner may enter."""
    resolved = Path(path).resolve()
    for place in [*reversed(resolved.parents), resolved]:
        with contextlib.suppress(OSError):
            if not place.stat().st_mode & 0o001:
                return place
    return None
