"""A database that cannot be used: sentences that say why, and rows that are passed over."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

log = structlog.get_logger(__name__)

Result = TypeVar("Result")
Row = TypeVar("Row", bound=tuple[Any, ...])

_LOG_MAGIC = (0x377F0682, 0x377F0683)
_LOG_HEAD, _FRAME_HEAD = 32, 24
"""A WAL file: the header, and that of a frame, which counts where it has the same salt (SQLite's
"WAL File Format")."""


def explained(path: Path, error: sqlite3.Error) -> str:
    """Say what is wrong with the file, and what helps without losing anything."""
    match (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return f"cannot use {path}: its disk is full; free some of it"
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return _not_opened(path, error)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return damaged(path, str(error))
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return f"cannot use {path}: another program uses it ({error}); end that, and try again"
    return f"cannot use {path}: {error}; 'agentcmd doctor' looks closer"


def _not_opened(path: Path, error: sqlite3.Error) -> str:
    if path.is_dir():
        return f"cannot open {path}: it is a folder, and should be a file; move it elsewhere"
    if not path.parent.is_dir():
        return f"cannot open {path}: there is no folder {path.parent}"
    return (
        f"cannot open {path}: permission denied ({error}); let this user write the file and its "
        "folder, or choose another --state-dir"
    )


def damaged(path: Path, why: str) -> str:
    """Say that the file is damaged, and what helps without losing anything."""
    return (
        f"cannot open {path}: it is damaged ({why}). Nothing of it is deleted: move the file away "
        f"together with {path.name}-wal and {path.name}-shm, keep them, and put a backup in its "
        f"place, or what 'sqlite3 {path.name} .recover' still finds"
    )


def left_alone(path: Path) -> str | None:
    """Say that there is a log of commits without its file, which SQLite would delete unread."""
    with contextlib.suppress(OSError):
        if path.stat().st_size:
            return None
    beside = path.with_name(f"{path.name}-wal")
    try:
        with beside.open("rb") as file:
            head = file.read(_LOG_HEAD + _FRAME_HEAD)
    except OSError:
        return None
    salt, first = head[16:24], head[_LOG_HEAD + 8 : _LOG_HEAD + 16]
    if int.from_bytes(head[:4], "big") not in _LOG_MAGIC or salt != first:
        return None  # empty, or begun without a commit
    what = "empty" if path.exists() else "gone"
    return (
        f"cannot open {path}: it is {what}, but {beside.name} beside it still holds what was "
        f"written to it last. Nothing is deleted: where the file was moved, put it back; else move "
        f"{beside.name} away and keep it, then put a backup in its place, or begin anew without one"
    )


def decoded(
    rows: Iterable[tuple[bytes]], decode: Callable[[bytes], Result], where: str
) -> list[Result]:
    """Decode rows; one that is damaged is passed over, and logged."""
    found = []
    for (body,) in rows:
        with passing_over(where):
            found.append(decode(body))
    return found


@contextlib.contextmanager
def passing_over(where: str) -> Iterator[None]:
    """Pass a damaged row over, and log it: the others are good."""
    try:
        yield
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        log.error("store.row_damaged", where=where, error=str(error))


def sound(rows: Iterable[Row], kinds: tuple[type, ...], where: str) -> list[Row]:
    """Return the rows whose values are of these types; others are passed over, and logged."""
    found = []
    for row in rows:
        if all(isinstance(value, kind) for value, kind in zip(row, kinds, strict=True)):
            found.append(row)
        else:
            log.error("store.row_damaged", where=where, error=repr(row)[:200])
    return found
