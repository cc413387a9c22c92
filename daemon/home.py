"""The state dir: one daemon owns it, and says in `daemon.json` where it answers."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import stat
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from daemon.core.errors import Conflict, Unavailable
from daemon.core.spawner import start_time

LOCK = "lock"
DATABASE = "agentcmd.db"
ADDRESS = "daemon.json"
SOCKET = "agentcmd.sock"

FILES = (
    *(LOCK, ADDRESS, "jwt.secret", "log/agentcmd.jsonl"),
    *(f"{DATABASE}{ending}" for ending in ("", "-wal", "-shm")),
)
FOLDERS = ("log", "running", "scratch", "uploads")
"""What the state dir may have by these names."""

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a file",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}

MAX_PID = 1 << 31

SOCKET_PATH_BYTES = 100
"""A Unix socket's path has 104 to 108 bytes at most (unix(7)); some are left for comfort."""


class Address(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Where a daemon answers: `url` over TCP, `socket` over a Unix socket."""

    pid: int = 0
    start_time: int | None = None
    version: str = ""
    url: str = ""
    socket: str = ""


def make(state_dir: Path) -> None:
    """Make the state dir where there is none; Unavailable says why that is impossible."""
    if not is_text(state_dir):  # it is told in events and answers, which are JSON
        raise Unavailable(
            f"cannot use the state dir {state_dir}: its name is no UTF-8; choose another with "
            "--state-dir"
        )
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(state_dir, error) from None
    for told in misplaced(state_dir):
        raise Unavailable(told)


def misplaced(state_dir: Path) -> Iterator[str]:
    """Say which names of ours have something in their place that cannot be used as that."""
    for name in (*FOLDERS, *FILES):
        path, folder = state_dir / name, name in FOLDERS
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            continue
        except OSError as error:
            yield f"{path} cannot be used: {error.strerror}"
            continue
        if not (stat.S_ISDIR(mode) if folder else stat.S_ISREG(mode)):
            found = KINDS.get(stat.S_IFMT(mode), "a device")
            wanted = "a folder" if folder else "a file"
            yield f"{path} is {found}, and should be {wanted}: move it elsewhere"


def is_text(path: Path) -> bool:
    """Return whether a path can be said in JSON; on disk a name is any bytes."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def own_files(state_dir: Path, database: str) -> tuple[Path, ...]:
    """Name what the daemon must never lose while it runs."""
    logs = (f"{database}{ending}" for ending in ("", "-wal", "-shm"))
    return (state_dir, state_dir / LOCK, *(state_dir / name for name in logs))


@contextmanager
def owned(state_dir: Path) -> Iterator[None]:
    """Hold the state dir while this is open; Conflict names the daemon that has it."""
    make(state_dir)
    try:
        lock = os.open(state_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(state_dir, error) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
            raise Conflict(
                f"a daemon runs in {state_dir} already (pid {holder}); "
                "stop it with 'agentcmd stop', or choose another --state-dir"
            ) from None
        except OSError as error:
            raise Unavailable(
                f"cannot lock {state_dir / LOCK}: {error.strerror}; choose one with --state-dir"
            ) from None
        with _claimed(state_dir):
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
            yield
    finally:
        os.close(lock)


@contextmanager
def _claimed(state_dir: Path) -> Iterator[None]:
    """Hold the path of the state dir as well: its lock may have been removed under a daemon.

    It is a socket in the kernel's own names (unix(7), abstract), which nobody can remove. Another
    user's is passed over, and so is a system without such names.
    """
    if sys.platform != "linux":
        yield
        return
    path = os.fsencode(state_dir.resolve())
    device = state_dir.stat().st_dev
    name = f"\0agentcmd-{os.getuid()}-{device:x}-{hashlib.sha256(path).hexdigest()[:32]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as claim:
        try:
            claim.bind(name)
            claim.listen()
        except OSError:
            if (holder := _holder(name)) is not None:
                raise Conflict(
                    f"a daemon runs in {state_dir} (pid {holder}), though its lock there was "
                    f"removed; save what you need from it, stop it with 'kill {holder}', and try "
                    "again"
                ) from None
        yield


def _holder(name: str) -> int | None:
    """Find the process of ours that listens on an abstract name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(name)
            size = struct.calcsize("3i")
            told = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        except OSError:
            return None
    pid, uid, _ = struct.unpack("3i", told)
    return pid if uid == os.getuid() else None


def publish(state_dir: Path, address: Address) -> None:
    """Write `daemon.json`, whole or not at all."""
    made = state_dir / f".{ADDRESS}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(os.open(made, flags, 0o600), "wb") as file:
        file.write(msgspec.json.encode(address))
    made.replace(state_dir / ADDRESS)


def withdraw(state_dir: Path) -> None:
    """Remove `daemon.json`; the daemon no longer answers."""
    with contextlib.suppress(FileNotFoundError):
        (state_dir / ADDRESS).unlink()


def discover(state_dir: Path) -> Address | None:
    """Find the daemon of a state dir; None when none runs, whatever a dead one left behind."""
    try:
        address = msgspec.json.decode((state_dir / ADDRESS).read_bytes(), type=Address)
    except (OSError, msgspec.DecodeError):
        return None
    return address if alive(address) else None


def alive(address: Address) -> bool:
    """Tell whether the very process that published an address still runs."""
    if not 0 < address.pid < MAX_PID:
        return False
    if address.start_time is not None and start_time(address.pid) != address.start_time:
        return False
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{address.pid}/stat").read_bytes()
        return status.rpartition(b")")[2].split()[0] != b"Z"  # ended, and not yet waited for
    try:
        os.kill(address.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's, and alive
    return True


def socket_path(state_dir: Path) -> Path:
    """Choose the path of the daemon's own socket, short enough for the kernel."""
    path = state_dir.absolute() / SOCKET
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    folder = base / f"agentcmd-{os.getuid()}-{name}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"cannot make {folder}: {error.strerror}; choose a shorter --state-dir"
        ) from None
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        raise Unavailable(f"{folder} is not ours alone; choose a shorter --state-dir")
    return folder / SOCKET


def _unusable(state_dir: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"cannot use the state dir {state_dir}: {error.strerror}; choose another with --state-dir"
    )
