"""Which tables a database has: scripts of each owner, and how many of them a file has seen."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from daemon.core.errors import Unavailable

Schema = Sequence[str]


class StoreError(Unavailable):
    """The store cannot be opened; the sentence says what to do."""


def refuse_newer(db: sqlite3.Connection, path: Path, schemas: Mapping[str, Schema]) -> None:
    """Raise StoreError for a file that has tables of a newer program; nothing is written."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema'").fetchall():
        return
    for owner, version in db.execute("SELECT owner, version FROM schema ORDER BY owner"):
        known = len(schemas.get(owner, ()))
        if version > known:
            raise StoreError(
                f"{path} was written by a newer agentcmd ({owner} schema {version}, "
                f"this one knows {known}): upgrade agentcmd, or use another --state-dir"
            )


def migrate(db: sqlite3.Connection, schemas: Mapping[str, Schema]) -> None:
    """Run the scripts that the file has not seen, each with its number in one transaction."""
    db.execute("CREATE TABLE IF NOT EXISTS schema (owner TEXT PRIMARY KEY, version INTEGER)")
    seen = dict(db.execute("SELECT owner, version FROM schema"))
    for owner, scripts in schemas.items():
        for number, script in enumerate(scripts[seen.get(owner, 0) :], seen.get(owner, 0) + 1):
            noted = f"INSERT OR REPLACE INTO schema VALUES ('{owner}', {number})"  # noqa: S608  # own names
            # executescript commits on its own, so the whole step is one script.
            db.executescript(f"BEGIN IMMEDIATE; {script}; {noted}; COMMIT;")
