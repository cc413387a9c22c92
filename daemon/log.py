"""The daemon's own log: for people, for systemd's journal or as JSON lines, and always in a file.

Records pass through a bounded queue to a thread, so that a slow disk holds up a log line and never
the loop. Output of tasks is not here: it is in the journal of their channels.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import os
import queue
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import msgspec
import structlog

from daemon.journald import JournalHandler, is_journal

BACKLOG = 10_000
"""Records that may wait for the disk; what comes then is dropped, and counted at the end."""

FILE_NAME = "agentcmd.jsonl"

SILENT = ("aiohttp.websocket", "aiohttp.access", "aiohttp.server", "asyncio")
"""Their lines may carry request targets and subprotocols, and so tokens."""


class Backlog(logging.handlers.QueueHandler):
    """Hands records to the writing thread, and drops them rather than wait."""

    def __init__(self, records: queue.Queue[Any]) -> None:
        """Hand over through this queue."""
        super().__init__(records)
        self.dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Leave the record as it is: it stays in this process."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a record if there is room."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class Writer(logging.handlers.QueueListener):
    """The writing thread; its end waits its turn behind what is queued."""

    def enqueue_sentinel(self) -> None:
        """Ask for the end, also where the queue is full."""
        self.queue.put(self._sentinel)  # type: ignore[attr-defined]


class LogFile(logging.handlers.RotatingFileHandler):
    """The log's file; a full disk costs lines, and is told by the journal.

    Where somebody has moved or removed it, as logrotate does, the next line begins another one.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record into the file that has the name."""
        stream = self.stream
        if stream is not None and self._is_elsewhere(stream):
            stream.close()
            self.stream = None  # opened anew by what follows
        super().emit(record)

    def _is_elsewhere(self, stream: TextIO) -> bool:
        try:
            named, own = os.stat(self.baseFilename), os.fstat(stream.fileno())  # noqa: PTH116
        except FileNotFoundError:
            return True
        except (OSError, ValueError):
            return False
        return (named.st_dev, named.st_ino) != (own.st_dev, own.st_ino)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Leave the record out."""


@contextmanager
def logging_to(
    state_dir: Path | None, *, level: str, file_bytes: int, files: int, quiet: bool = False
) -> Iterator[None]:
    """Log to stderr (unless `quiet`) and to `<state dir>/log` while this is open."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    json_lines = _formatter(shared, structlog.processors.JSONRenderer(serializer=_json))
    handlers: list[logging.Handler] = []
    if not quiet:
        journal = is_journal(sys.stderr)
        console = JournalHandler() if journal else logging.StreamHandler(sys.stderr)
        on_terminal = sys.stderr.isatty()
        console.setFormatter(_formatter(shared, _for_people()) if on_terminal else json_lines)
        handlers.append(console)
    if state_dir is not None:
        folder = state_dir / "log"
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        file = LogFile(folder / FILE_NAME, maxBytes=file_bytes, backupCount=files, encoding="utf-8")
        file.setFormatter(json_lines)
        handlers.append(file)
    backlog = Backlog(queue.Queue(BACKLOG))
    listener = Writer(backlog.queue, *handlers)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    root.handlers[:] = [backlog]
    root.setLevel(level.upper())
    for name in SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    listener.start()
    try:
        yield
    finally:
        root.handlers[:], root.level = before
        listener.stop()
        for handler in handlers:
            with contextlib.suppress(OSError):  # a disk that is still full
                handler.close()
        if backlog.dropped:
            sys.stderr.write(f"agentcmd: {backlog.dropped} log lines were dropped\n")
        structlog.reset_defaults()


def _for_people() -> structlog.dev.ConsoleRenderer:
    """Format for a terminal; never with local variables, which may be tokens."""
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def _formatter(
    shared: list[structlog.typing.Processor], renderer: structlog.typing.Processor
) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.processors.format_exc_info],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )


def _json(value: Any, **_: Any) -> str:
    try:
        return msgspec.json.encode(value, enc_hook=repr).decode()
    except UnicodeEncodeError:  # a path of bytes that are no UTF-8
        return json.dumps(value, default=repr)
