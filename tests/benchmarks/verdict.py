"""The journal beside all that was seen: what is missing, twice, different, or without an end."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from wanderers import Notebook, digest

from daemon.core.store import OFFSET_BITS

ENDS = ("session.completed", "session.error", "session.cancelled")


def check(book: Notebook, state_dir: Path, created: Iterable[str]) -> Counter[str]:
    """Compare the journal with all that was seen; gives how the sessions ended."""
    ends: Counter[str] = Counter()
    with contextlib.closing(sqlite3.connect(state_dir / "agentcmd.db")) as db:
        channels = db.execute("SELECT id, name, epoch FROM channel").fetchall()
        for id_, name, epoch in channels:
            book.epoch(name, epoch)
            rows = db.execute(
                "SELECT id, body FROM event WHERE id > ? AND id < ? ORDER BY id",
                (id_ << OFFSET_BITS, (id_ + 1) << OFFSET_BITS),
            ).fetchall()
            compare(book, name, id_, rows)
            if name.startswith("session:"):
                ends[end_of(book, name, [json.loads(body) for _, body in rows])] += 1
    known = {name for _, name, _ in channels}
    for name in book.seen.keys() - known:
        book.violated(f"{name} was seen and is gone")
    for session in created:
        if f"session:{session}" not in known:
            book.violated(f"session {session} was promised and is gone")
    log = state_dir / "log" / "agentcmd.jsonl"
    for record in map(json.loads, log.read_text().splitlines()):
        if "exception" in record:
            where, told = record.get("where", ""), record["exception"].splitlines()[-1]
            book.violated(f"the log has {record['event']} {where}: {told}")
    return ends


def compare(book: Notebook, name: str, id_: int, rows: list[tuple[int, bytes]]) -> None:
    """See that offsets have no gap, and that what was seen is there."""
    kept = {row - (id_ << OFFSET_BITS): digest(body) for row, body in rows}
    if sorted(kept) != list(range(1, len(kept) + 1)):
        book.violated(f"{name} has a gap")
    for offset, seen in book.seen.get(name, {}).items():
        if kept.get(offset) != seen:
            book.violated(f"{name}: offset {offset} was seen and is not kept so")


def end_of(book: Notebook, name: str, events: list[dict[str, object]]) -> str:
    """See that a session has one end, the last of its events."""
    ends = [event for event in events if event["type"] in ENDS]
    if len(ends) != 1 or events[-1] is not ends[0]:
        book.violated(f"{name} has {len(ends)} ends")
        return "none"
    data = ends[0]["data"]
    code = data.get("code") if isinstance(data, dict) else None
    return f"{ends[0]['type']} {code or ''}".strip()
