"""The daemon's log as systemd's journal keeps it: native fields to filter by (systemd-journald(8)).

journalctl -u agentcmd TASK_ID=...
journalctl -u agentcmd CHANNEL=session:...
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

SOCKET = "/run/systemd/journal/socket"

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""Levels in the numbers of syslog(3)."""

NAMES = {
    "task": "TASK_ID",
    "channel": "CHANNEL",
    "session": "SESSION_ID",
    "connection": "CONNECTION_ID",
    "request": "REQUEST_ID",
    "logger": "LOGGER",
}
"""Keys that have a field of their own; the others get the prefix."""

PREFIX = "AGENTCMD_"
CUT = 4096
"""Bytes of a message that the journal's socket would not take whole."""


def is_journal(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether a stream leads to the journal, as systemd says in JOURNAL_STREAM."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class JournalHandler(logging.Handler):
    """Sends records, formatted as JSON, field by field; what the journal refuses is in the file."""

    def __init__(self, path: str | None = None) -> None:
        """Send to the journal's socket."""
        super().__init__()
        self._path = path or SOCKET
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        fields = json.loads(self.format(record))
        with contextlib.suppress(OSError):
            try:
                self._socket.sendto(encoded(fields), self._path)
            except OSError:  # too large for one datagram, if the journal is there at all
                short = {"level": fields.get("level"), "event": str(fields.get("event"))[:CUT]}
                self._socket.sendto(encoded(short), self._path)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()
        super().close()


def encoded(fields: Mapping[str, Any]) -> bytes:
    """Write one entry in the journal's own form."""
    return b"".join(_field(name, value) for name, value in _named(fields))


def _named(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    fields = dict(entry)
    level = fields.pop("level", "info")
    event = str(fields.pop("event", ""))
    fields.pop("timestamp", None)  # the journal has its own
    told = " ".join(f"{key}={_text(value)}" for key, value in fields.items() if key != "logger")
    yield "MESSAGE", f"{event} {told}".rstrip()
    yield "PRIORITY", str(PRIORITIES.get(level, 6))
    yield "SYSLOG_IDENTIFIER", "agentcmd"
    yield "AGENTCMD_EVENT", event
    for key, value in fields.items():
        name = NAMES.get(key) or PREFIX + "".join(c if c.isalnum() else "_" for c in key).upper()
        if name.isascii():
            yield name, _text(value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _field(name: str, value: str) -> bytes:
    data = value.encode(errors="replace")
    if b"\n" not in data:
        return b"%b=%b\n" % (name.encode(), data)
    return b"%b\n%b%b\n" % (name.encode(), struct.pack("<Q", len(data)), data)
