"""The state dir's SQLite file: one writer thread that commits in groups, one reader thread.

Everything that must survive goes through `Batch`es in order: events, heads of channels and the
domains' own rows. What was queued together is committed together, so a state and the event that
tells it cannot come apart. Domains bring their tables as scripts; the file records how many of
each owner's it has seen, and a file from a newer program is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import structlog

from daemon.core.damage import damaged, explained, left_alone, sound
from daemon.core.schema import Schema, StoreError, migrate, refuse_newer

log = structlog.get_logger(__name__)

OFFSET_BITS = 40
"""An event's row id is `channel << OFFSET_BITS | offset`: one B-tree, each channel in one run."""

READ_TIMEOUT = 60.0
"""Seconds that a read waits for the file; it takes milliseconds where the disk answers."""

RETRY_DELAYS = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds between two tries of a commit that failed; the last one repeats."""

PAGE_BYTES = 8192
"""Measured: a quarter more MB/s of 32 KiB events than with 4096; larger ones cost small commits."""

WAL_BYTES = 4 << 20
"""The log is folded back into the file at this size; a larger one gave commits of 60 ms."""

WAL_LIMIT = 16 << 20
"""What stays of a log that grew because somebody else, such as a backup, held a snapshot."""

PRUNE_ROWS = 2000
"""Rows that one prune deletes at the most, so that commits never wait long for it."""

JOURNAL_SCHEMA = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE channel (
        id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, epoch TEXT NOT NULL,
        head INTEGER NOT NULL, oldest INTEGER NOT NULL
    );
    CREATE TABLE event (id INTEGER PRIMARY KEY, ts REAL NOT NULL, body BLOB NOT NULL);
    CREATE TABLE whole (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
    """,
)

Result = TypeVar("Result")


@dataclass(slots=True)
class Batch:
    """What is committed together."""

    channels: list[tuple[int, str, str]] = field(default_factory=list)
    events: list[tuple[int, float, bytes]] = field(default_factory=list)
    wholes: list[tuple[int, bytes]] = field(default_factory=list)
    statements: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Tell whether there is anything to commit."""
        return bool(self.events or self.statements or self.channels)


@dataclass(frozen=True, slots=True)
class Head:
    """Where one durable channel's log stands on disk."""

    id: int
    name: str
    epoch: str
    head: int
    oldest: int


@dataclass(frozen=True, slots=True)
class Prune:
    """What retention may take from one channel: events up to and including `upto`."""

    channel: int
    oldest: int
    upto: int
    older_than: float | None = None


Done = Callable[[Batch], None]
Pruned = Callable[[Prune, int], None]
Stalled = Callable[[str | None], None]


class Store:
    """The open file: `submit` writes in order, `read` reads, both off the loop."""

    def __init__(self, path: Path, schemas: Mapping[str, Schema]) -> None:
        """Name the file and the tables of every owner; nothing is opened yet."""
        self.path = path
        self._schemas = {"journal": JOURNAL_SCHEMA, **schemas}
        self._queue: queue.SimpleQueue[tuple[Batch, Done] | tuple[Prune, Pruned] | None] = (
            queue.SimpleQueue()
        )
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="store-read")
        self._stalled: Stalled = lambda _: None
        self._giving_up = threading.Event()
        self._refused = False
        self.written_at: float | None = None  # Unix seconds, before it was opened; None: made now

    async def __aenter__(self) -> Self:
        """Open, migrate and start the writer; StoreError where the file cannot serve."""
        self._loop = asyncio.get_running_loop()
        try:
            self._writing = await asyncio.to_thread(self._open)
            try:
                self._reading = await asyncio.to_thread(self._connect, read_only=True)
            except BaseException:
                self._writing.close()
                raise
        except sqlite3.Error as error:
            self._readers.shutdown()
            raise StoreError(explained(self.path, error)) from None
        except (TypeError, ValueError, OverflowError) as error:  # what it says of itself is rubbish
            self._readers.shutdown()
            log.error("store.unreadable", error=repr(error))
            raise StoreError(damaged(self.path, str(error))) from None
        except BaseException:
            self._readers.shutdown()
            raise
        self._writer = threading.Thread(target=self._write, name="store-write", daemon=True)
        self._writer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the writer after what was submitted; a stalled one is given up after a while."""
        # The reader goes first: whoever closes last folds the log into the file, and it may not.
        await self.read(lambda reading: reading.close())
        self._readers.shutdown()
        self._queue.put(None)
        await asyncio.to_thread(self._writer.join, 0.5 if self._refused else 5.0)
        self._giving_up.set()
        await asyncio.to_thread(self._writer.join, 5.0)

    def on_stall(self, told: Stalled) -> None:
        """Have the loop told why commits fail, and None when they work again."""
        self._stalled = told

    def submit(self, batch: Batch, done: Done) -> None:
        """Queue a batch; `done` runs on the loop after its commit. Never lost, never reordered."""
        self._queue.put((batch, done))

    def prune(self, what: Prune, done: Pruned) -> None:
        """Queue a deletion of old events; `done` gets the new oldest offset."""
        self._queue.put((what, done))

    async def read(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a query in the reader thread, on its own connection.

        StoreError where the file cannot be read, or not in time.
        """
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                return await self._loop.run_in_executor(self._readers, lambda: query(self._reading))
        except TimeoutError:
            raise StoreError(
                f"{self.path} could not be read within {READ_TIMEOUT:.0f} s; try again later"
            ) from None
        except sqlite3.Error as error:
            log.error("store.read_failed", error=str(error))
            raise StoreError(explained(self.path, error)) from None

    async def heads(self) -> list[Head]:
        """Read where every channel stands."""
        # A commit writes no head: the last event tells it, or the row once retention took them all.
        every = f"""
            SELECT id, name, epoch, max(head, coalesce((
                SELECT max(event.id) - (channel.id << {OFFSET_BITS}) FROM event
                WHERE event.id > channel.id << {OFFSET_BITS}
                AND event.id < (channel.id + 1) << {OFFSET_BITS}), 0)), oldest FROM channel
        """  # noqa: S608  # a number of our own
        rows = await self.read(lambda db: db.execute(every).fetchall())
        return [Head(*row) for row in sound(rows, (int, str, str, int, int), "channel")]

    async def page(self, channel: int, after: int, upto: int, limit: int) -> list[bytes]:
        """Read bodies of one channel after an offset, up to about `limit` bytes."""

        def query(db: sqlite3.Connection) -> list[bytes]:
            found: list[bytes] = []
            size, base, expected = 0, channel << OFFSET_BITS, after + 1
            for id_, body in db.execute(
                "SELECT id, body FROM event WHERE id > ? AND id <= ? ORDER BY id",
                (base + after, base + upto),
            ):
                if id_ != base + expected:
                    break  # retention overtook the reader between two pages
                found.append(body)
                expected += 1
                size += len(body)
                if size >= limit:
                    break
            return found

        return await self.read(query)

    # What follows runs in the opening or the writing thread.

    def _connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        mode = "ro" if read_only else "rwc"
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        db = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            db.execute("PRAGMA busy_timeout = 5000")
            if not read_only:
                refuse_newer(db, self.path, self._schemas)  # before anything is written
                db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                db.execute("PRAGMA auto_vacuum = INCREMENTAL")
                db.execute("PRAGMA journal_mode = WAL")
                db.execute(f"PRAGMA wal_autocheckpoint = {WAL_BYTES // PAGE_BYTES}")
                db.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
                db.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            db.close()
            raise
        return db

    def _open(self) -> sqlite3.Connection:
        if (told := left_alone(self.path)) is not None:
            raise StoreError(told)
        created = not self.path.exists()
        if not created:
            self.written_at = self.path.stat().st_mtime
        db = self._connect()
        try:
            if created:
                self.path.chmod(0o600)
            migrate(db, self._schemas)
            self._begin(db)
        except BaseException:
            db.close()
            raise
        return db

    def _begin(self, db: sqlite3.Connection) -> None:
        """After a crash of the machine the last commits may be missing: new epochs tell it."""
        meta = dict(db.execute("SELECT key, value FROM meta"))
        boot = boot_id()
        db.execute("BEGIN IMMEDIATE")
        if meta.get("clean") == "0" and meta.get("boot") != boot:
            db.execute("UPDATE channel SET epoch = lower(hex(randomblob(8)))")
        db.executemany(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [("boot", boot), ("clean", "0")],
        )
        db.execute("COMMIT")

    def _write(self) -> None:
        db = self._writing
        while (item := self._queue.get()) is not None:
            if isinstance(item[0], Batch):
                batch, done = item
                if self._persist(db, batch):
                    self._tell(done, batch)
            else:
                what, pruned = item
                self._tell(pruned, what, self._prune(db, what))
        with contextlib.suppress(sqlite3.Error):
            if not self._giving_up.is_set():
                db.execute("UPDATE meta SET value = '1' WHERE key = 'clean'")
        db.close()

    def _persist(self, db: sqlite3.Connection, batch: Batch) -> bool:
        """Commit, and try the same batch again until it works or the store is given up."""
        attempt = 0
        while True:
            try:
                self._commit(db, batch)
            except sqlite3.Error as error:
                if attempt == 0:
                    self._refused = True
                    self._tell(self._stalled, str(error))
                delay = RETRY_DELAYS[min(attempt, len(RETRY_DELAYS) - 1)]
                attempt += 1
                if self._giving_up.wait(delay):
                    log.error("store.given_up", events=len(batch.events), error=str(error))
                    return False
            else:
                if attempt:
                    self._refused = False
                    self._tell(self._stalled, None)
                return True

    def _commit(self, db: sqlite3.Connection, batch: Batch) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            if batch.channels:
                # One forgotten that speaks again may be in the same batch: the new one stays.
                db.executemany(
                    "INSERT OR REPLACE INTO channel (id, name, epoch, head, oldest) "
                    "VALUES (?, ?, ?, 0, 1)",
                    batch.channels,
                )
            db.executemany("INSERT INTO event VALUES (?, ?, ?)", batch.events)
            if batch.wholes:
                db.executemany("INSERT INTO whole VALUES (?, ?)", batch.wholes)
            for sql, values in batch.statements:
                self._execute(db, sql, values)
            db.execute("COMMIT")
        except sqlite3.Error:
            with contextlib.suppress(sqlite3.Error):  # a full disk may have rolled back already
                db.execute("ROLLBACK")
            raise

    @staticmethod
    def _execute(db: sqlite3.Connection, sql: str, values: Mapping[str, Any]) -> None:
        """Run a domain's statement; one that can never work must not hold up the log."""
        try:
            db.execute(sql, values)
        except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
            if not _hopeless(error):
                raise
            log.error("store.statement_refused", sql=sql, error=str(error))

    def _prune(self, db: sqlite3.Connection, what: Prune) -> int:
        """Delete at most PRUNE_ROWS events; give back the channel's new oldest offset."""
        base = what.channel << OFFSET_BITS
        last = base + min(what.upto, what.oldest + PRUNE_ROWS - 1)
        try:
            db.execute("BEGIN IMMEDIATE")
            if what.older_than is not None:
                row = db.execute(
                    "SELECT min(id) FROM event WHERE id BETWEEN ? AND ? AND ts >= ?",
                    (base + what.oldest, last, what.older_than),
                ).fetchone()
                last = last if row[0] is None else row[0] - 1
            for table in ("event", "whole"):
                db.execute(
                    f"DELETE FROM {table} WHERE id BETWEEN ? AND ?",  # noqa: S608  # own names
                    (base + what.oldest, last),
                )
            oldest = max(what.oldest, last - base + 1)
            db.execute(
                "UPDATE channel SET oldest = ?, head = max(head, ?) WHERE id = ?",
                (oldest, oldest - 1, what.channel),
            )
            db.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            log.warning("store.prune_failed", error=str(error))
            return what.oldest
        with contextlib.suppress(sqlite3.Error):  # the rows are gone; the file shrinks next time
            db.execute("PRAGMA incremental_vacuum(256)").fetchall()
        return oldest

    def _tell(self, function: Callable[..., None], *values: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(function, *values)


def _hopeless(error: Exception) -> bool:
    """Tell a statement that can never work from a disk that does not take it now."""
    if isinstance(error, sqlite3.OperationalError):
        return error.sqlite_errorcode == sqlite3.SQLITE_ERROR  # no such table, bad SQL
    never = (
        sqlite3.IntegrityError,
        sqlite3.ProgrammingError,
        sqlite3.InterfaceError,
        sqlite3.DataError,
        OverflowError,
        UnicodeEncodeError,
    )
    return isinstance(error, never)


def boot_id() -> str:
    """Name this boot of the machine, so that a power loss can be told from a killed daemon.

    Where the kernel has no boot id the boot's time in minutes stands for it.
    """
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{os.uname().nodename}:{(time.time() - time.monotonic()) // 60:.0f}"
