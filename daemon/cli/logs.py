"""agentcmd logs: reads the daemon's own structured log, and follows it."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

from daemon.cli.connect import add_home, settings_of
from daemon.cli.printing import harmless_cell, say, say_json
from daemon.cli.reader import ends_with_its_reader
from daemon.core.errors import BadRequest, NotFound
from daemon.log import FILE_NAME
from daemon.web.auth import parse_ttl

LEVELS = ("debug", "info", "warning", "error", "critical")
POLL = 0.2
"""Seconds between two looks at a followed file."""

Wanted = Callable[[dict[str, Any]], bool]


def add_commands(commands: Any) -> None:
    """Add `logs`."""
    own = commands.add_parser("logs", help="print the daemon's own log")
    own.add_argument("--level", choices=LEVELS, default="debug", help="least level shown")
    own.add_argument("--task", metavar="ID", help="only what is about this task")
    own.add_argument("--since", metavar="T", help="an ISO time, or an age as in 15m")
    own.add_argument("-n", type=int, default=200, metavar="N", help="last N lines (200)")
    own.add_argument("-f", "--follow", action="store_true", help="go on as the log grows")
    own.add_argument("--json", action="store_true", help="print the lines as they are")
    add_home(own)
    own.set_defaults(run=logs)


@ends_with_its_reader
async def logs(args: argparse.Namespace) -> int:
    """Print the log."""
    path = settings_of(args).state_dir / "log" / FILE_NAME
    wanted = _filter(args)
    lines: deque[tuple[str, dict[str, Any]]] = deque(maxlen=min(max(0, args.n), sys.maxsize))
    files = _kept(path)
    if not files:
        raise NotFound(f"there is no log at {path}; has a daemon run here?")
    for file in files:
        lines.extend(_records(file, wanted))
    for file in files[:-1]:
        file.close()
    for raw, record in lines:
        _print(raw, record, as_json=args.json)
    if args.follow:
        await _follow(files[-1], path, wanted, as_json=args.json)
    files[-1].close()
    return 0


async def _follow(file: TextIO, path: Path, wanted: Wanted, *, as_json: bool) -> None:
    """Print what is added to a file, and to those that come after it at `path`."""
    while True:
        await asyncio.sleep(POLL)
        *before, last = file, *_kept(path, after=file)
        for each in (*before, last):
            for raw, record in _records(each, wanted):
                _print(raw, record, as_json=as_json)
        for each in before:
            each.close()
        file = last


def _kept(path: Path, after: TextIO | None = None) -> list[TextIO]:
    """Open the log files that are kept, oldest first; only those that came `after` one, if known.

    Newest first, because a rotation meanwhile moves a file to a name that is still to come: then it
    is seen twice, and never missed.
    """
    rotated = [each for each in path.parent.glob(f"{FILE_NAME}.*") if each.suffix[1:].isdigit()]
    found: dict[tuple[int, int], TextIO] = {}
    for name in (path, *sorted(rotated, key=lambda each: int(each.suffix[1:]))):
        try:
            file = name.open(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            continue
        if after is not None and _identity(file) == _identity(after):
            file.close()
            break
        found.setdefault(_identity(file), file)
    return list(reversed(found.values()))


def _identity(file: TextIO) -> tuple[int, int]:
    stat = os.fstat(file.fileno())
    return stat.st_dev, stat.st_ino


def _records(file: TextIO, wanted: Wanted) -> Iterator[tuple[str, dict[str, Any]]]:
    while True:
        place = file.tell()
        line = file.readline()
        if not line.endswith("\n"):
            file.seek(place)  # half a line: the rest is still to come
            return
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and wanted(record):
            yield line, record


def _filter(args: argparse.Namespace) -> Wanted:
    least = LEVELS.index(args.level)
    after = _time(args.since) if args.since else ""

    def wanted(record: dict[str, Any]) -> bool:
        level = str(record.get("level", "info"))
        about = (record.get("task"), record.get("session"))
        return (
            (level not in LEVELS or LEVELS.index(level) >= least)
            and (args.task is None or args.task in about)
            and str(record.get("timestamp", "")) >= after
        )

    return wanted


def _time(text: str) -> str:
    """Read a time as the log writes it: UTC, ISO 8601."""
    try:
        when = datetime.now(UTC) - timedelta(seconds=parse_ttl(text))
    except BadRequest:
        try:
            when = datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):  # OverflowError: the year 1, in another zone
            raise BadRequest(f"{text!r} is no time: use an ISO time, or an age as in 15m") from None
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _print(raw: str, record: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        say_json(raw)
    else:
        known = ("timestamp", "level", "event", "logger", "exception")
        rest = " ".join(f"{key}={value}" for key, value in record.items() if key not in known)
        line = f"{record.get('timestamp')} {record.get('level'):8} {record.get('event')} {rest}"
        say(harmless_cell(line.rstrip()) + "\n")
        if "exception" in record:
            say(f"{record['exception']}\n")
