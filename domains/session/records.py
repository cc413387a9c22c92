"""Sessions on disk: one row each, written in the same commit as the events that tell of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from daemon.core.damage import decoded, passing_over
from daemon.core.journal import Journal
from domains.session import archive
from domains.session.commands import CreateSession, ListSessions, Session

SCHEMA = (
    """
    CREATE TABLE session (
        id TEXT PRIMARY KEY, project TEXT NOT NULL, agent TEXT NOT NULL, state TEXT NOT NULL,
        body BLOB NOT NULL
    );
    CREATE INDEX session_unended ON session (state) WHERE state != 'ended'
    """,
    "ALTER TABLE session ADD COLUMN request BLOB",
    archive.SCHEMA,
)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Session).decode
_decode_request = msgspec.json.Decoder(CreateSession).decode


class SessionRecords:
    """Reads and writes the rows; ids sort by creation, so that a list needs no other order."""

    def __init__(self, journal: Journal) -> None:
        """Write through the journal, read from its store."""
        self._journal = journal

    def add(self, session: Session, request: CreateSession) -> None:
        """Write a new row; the request, with its variables, is what it is resumed with."""
        kept = msgspec.structs.replace(request, prompt=None, images=None)
        self._journal.execute(
            "INSERT INTO session VALUES (:id, :project, :agent, :state, :body, :request)",
            id=session.id,
            project=session.project_id,
            agent=session.agent,
            state=session.state,
            body=_encode(session),
            request=_encode(kept),
        )

    def save(self, session: Session) -> None:
        """Write a row that has changed."""
        self._journal.execute(
            "UPDATE session SET state = :state, body = :body WHERE id = :id",
            id=session.id,
            state=session.state,
            body=_encode(session),
        )

    def forget(self, channel: str) -> None:
        """Drop the row of a session that has ended, with its channel."""
        domain, _, id_ = channel.partition(":")
        if domain == "session":
            self._journal.execute("DELETE FROM session WHERE id = :id AND state = 'ended'", id=id_)

    async def get(self, id_: str) -> Session | None:
        """Read one row."""
        rows = await self._read("SELECT body FROM session WHERE id = ?", (id_,))
        return rows[0] if rows else None

    async def request(self, id_: str) -> CreateSession | None:
        """Read what a session was created with; None where that was not kept yet."""
        await self._journal.readable()

        def found(db: sqlite3.Connection) -> CreateSession | None:
            row = db.execute("SELECT request FROM session WHERE id = ?", (id_,)).fetchone()
            if row and row[0]:
                with passing_over("session.request"):
                    return _decode_request(row[0])
            return None

        return await self._journal.store.read(found)

    async def agent_sessions(self, agent: str) -> set[str]:
        """Read the names that an agent has given to the conversations known here."""
        await self._journal.readable()
        query = (
            "SELECT json_extract(CAST(body AS TEXT), '$.agentSessionId') FROM session "
            "WHERE agent = ?"
        )

        def found(db: sqlite3.Connection) -> set[str]:
            return {name for (name,) in db.execute(query, (agent,)) if name}

        return await self._journal.store.read(found)

    async def silent(self) -> set[str]:
        """Read which sessions have no channel: once it was deleted while they lived."""
        query = "SELECT id FROM session WHERE 'session:' || id NOT IN (SELECT name FROM channel)"
        return await self._journal.store.read(lambda db: {id_ for (id_,) in db.execute(query)})

    async def unended(self) -> list[Session]:
        """Read what was under way when the daemon last died."""
        return await self._read("SELECT body FROM session WHERE state != 'ended' ORDER BY id", ())

    async def page(self, wanted: ListSessions, before: str, limit: int) -> list[Session]:
        """Read up to `limit` rows older than an id, newest first."""
        where, values = ["id < ?"], [before]
        for column, value in (
            ("project", wanted.project_id),
            ("state", wanted.state),
            ("agent", wanted.agent),
            ("json_extract(CAST(body AS TEXT), '$.user')", wanted.user),
        ):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        query = f"SELECT body FROM session WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?"  # noqa: S608  # our own column names
        return await self._read(query, (*values, limit))

    async def _read(self, query: str, values: Sequence[object]) -> list[Session]:
        await self._journal.readable()  # a list shows what its reader has just done

        def rows(db: sqlite3.Connection) -> list[Session]:
            return decoded(db.execute(query, tuple(values)), _decode, "session")

        return await self._journal.store.read(rows)
