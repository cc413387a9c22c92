"""What can be started: arguments, folder, environment, and their form for the reaper."""

from __future__ import annotations

import json
import os
import resource
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from daemon.core.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a terminal, in characters and, where that is known, in pixels."""

    cols: int
    rows: int
    xpixel: int = 0
    ypixel: int = 0

    def window(self) -> bytes:
        """Return it as TIOCSWINSZ takes it: a `struct winsize`."""
        return struct.pack("HHHH", self.rows, self.cols, self.xpixel, self.ypixel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to start: `argv[0]` is looked up on `path`, without it on the PATH of `env`.

    `cwd` is absolute. Without `stdin` the program reads /dev/null; with a `terminal` all three
    streams are a pseudoterminal of that size, which controls its session. Without `umask` it has
    that of whoever started the daemon. `memory_bytes` and `processes` are limits of the whole tree
    where tasks have cgroups, else of each process and of the user's processes; 0 is no limit. The
    names of `limits` are those of resource(7) in lower case without RLIMIT_, for instance
    `{"nofile": 1024}`.
    """

    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    path: str = ""
    stdin: bool = False
    terminal: Size | None = None
    umask: int | None = None
    limits: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    memory_bytes: int = 0
    processes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """Where a task leaves traces: its record and its cgroup, empty where there is none.

    `home` is the daemon's own cgroup, to which the reaper goes back.
    """

    record: str = ""
    cgroup: str = ""
    home: str = ""


def specification(program: Program, traces: Traces = Traces(), terminal: str = "") -> bytes:
    """Encode a program for its reaper; raise BadRequest for what no program can be given.

    `terminal` is the path of the pseudoterminal that it is to open.
    """
    if isinstance(program.argv, str) or not program.argv or not program.argv[0]:
        raise BadRequest("A program needs a list of arguments that begins with its name.")
    for what, value in (
        *(("An argument", value) for value in program.argv),
        ("The working directory", program.cwd),
        ("A search path", program.path),
        *(("A name in the environment", value) for value in program.env),
        *(("A value in the environment", value) for value in program.env.values()),
    ):
        _check_text(what, value)
    if not program.cwd.startswith("/"):
        raise BadRequest("The working directory must be an absolute path.")
    if any(not name or "=" in name for name in program.env):
        raise BadRequest("A name in the environment must not be empty or contain '='.")
    if program.umask is not None and not 0 <= program.umask <= 0o777:
        raise BadRequest("The umask must be between 0 and 0o777.")
    for name, limit in program.limits.items():
        if not hasattr(resource, f"RLIMIT_{name.upper()}") or limit < -1:
            raise BadRequest(f"There is no limit {name}={limit}; see resource(7) for the names.")
    fields = {
        "argv": list(program.argv),
        "cwd": program.cwd,
        "env": dict(program.env),
        "path": program.path,
        "umask": program.umask,
        "limits": dict(program.limits),
        "record": traces.record,
        "cgroup": traces.cgroup,
        "home": traces.home,
        "terminal": terminal,
    }
    body = json.dumps(fields).encode()  # not msgspec: bytes that are no UTF-8 come as surrogates
    return len(body).to_bytes(4, "big") + body


def _check_text(what: str, value: object) -> None:
    if not isinstance(value, str):
        raise BadRequest(f"{what} must be a string.")
    if "\0" in value:
        raise BadRequest(f"{what} must not contain a NUL byte.")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise BadRequest(f"{what} must be text that can be encoded.") from None
