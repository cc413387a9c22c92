"""What a daemon has left running that died together with its reapers: found again, and ended.

A reaper ends its tree when its daemon goes. For the case that somebody kills the reapers as well,
each keeps a record of itself and of its program in the state dir. The next daemon reads them. A
record is believed only where the machine has not been started since, and a process is touched only
where pid *and* start time are those of the record, or where it is still in the session that the
program began: no pid that was given away anew ever is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

from daemon.core import cgroup
from daemon.core.spawner import boot_id, stat_fields

log = structlog.get_logger(__name__)

FOLDER = "running"
"""Where the records are, in the state dir."""

SWEEP_TIMEOUT = 2.0
"""Seconds to end what one record tells of; what forks faster than it is killed is given up."""

PARENT, SESSION, START_TIME = 1, 3, 19
"""Fields of /proc/<pid>/stat, counted from the state (proc(5): fields 4, 6 and 22)."""


class Record(msgspec.Struct, frozen=True, rename="camel"):
    """What a reaper notes of itself, and once it has started its program, of that."""

    boot: str
    reaper: int
    reaper_start: int
    leader: int = 0
    leader_start: int = 0
    cgroup: str = ""


def sweep(folder: Path) -> int:
    """End what the records tell of, and remove them; give how many processes were ended."""
    ended = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        record = _read(path)
        if record is not None and record.boot == boot_id():
            found = _end(record)
            if found:
                log.warning("orphans.ended", leader=record.leader, processes=found)
            ended += found
        with contextlib.suppress(OSError):
            path.unlink()
    return ended


def _read(path: Path) -> Record | None:
    """Read a record; one that is half-written, or no record at all, tells of nothing."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError) as error:
        log.warning("orphans.unreadable", name=path.name, error=str(error))
        return None


def _end(record: Record) -> int:
    ended: set[int] = set()
    deadline = time.monotonic() + SWEEP_TIMEOUT
    while found := _belonging(record):
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped, nothing forks behind our back
            for pid, start in found.items():
                _send(pid, start, number)
        ended |= found.keys()
        if time.monotonic() > deadline:
            log.error("orphans.left", leader=record.leader, processes=len(found))
            break
        time.sleep(0.01)
    if record.cgroup and cgroup.is_task(Path(record.cgroup)):
        cgroup.end(Path(record.cgroup))
    return len(ended)


def _belonging(record: Record) -> dict[int, int]:
    """Find what is still alive of a record: pids with their start times."""
    alive = {pid: fields for pid, fields in _processes() if fields[0] not in (b"Z", b"X")}
    starts = {pid: int(fields[START_TIME]) for pid, fields in alive.items()}
    found: dict[int, int] = {}
    if starts.get(record.reaper) == record.reaper_start:
        found[record.reaper] = record.reaper_start
    if record.leader and starts.get(record.leader, record.leader_start) == record.leader_start:
        # Nobody else has the leader's number, so whoever is in a session of that number is its.
        found |= {p: starts[p] for p, f in alive.items() if int(f[SESSION]) == record.leader}
    below = list(found)
    for parent in below:  # grows while it is read
        for pid, fields in alive.items():
            if int(fields[PARENT]) == parent and pid not in found:
                found[pid] = starts[pid]
                below.append(pid)
    return found


def _processes() -> Iterator[tuple[int, list[bytes]]]:
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():  # noqa: PTH112, PTH208
        if name.isdigit() and (fields := stat_fields(name)):
            yield int(name), fields


def _send(pid: int, start: int, number: int) -> None:
    """Signal a process through a descriptor that can mean no other one."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return  # it has ended
    try:
        fields = stat_fields(pid)
        if fields and int(fields[START_TIME]) == start:
            signal.pidfd_send_signal(handle, number)
    except (OSError, AttributeError):
        pass  # it ends, or is not ours to signal
    finally:
        os.close(handle)
