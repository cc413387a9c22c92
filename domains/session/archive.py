"""What conversations leave on disk beside their events: every message, and every raw line."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

import msgspec

from daemon.core.damage import passing_over
from daemon.core.journal import Journal
from daemon.core.listing import number_of
from domains.session.images import told
from domains.session.messages import Message

SCHEMA = """
    CREATE TABLE session_message (
        n INTEGER PRIMARY KEY, session TEXT NOT NULL, body BLOB NOT NULL
    );
    CREATE INDEX session_message_of ON session_message (session, n);
    CREATE TABLE session_transcript (
        n INTEGER PRIMARY KEY, session TEXT NOT NULL, body BLOB NOT NULL
    );
    CREATE INDEX session_transcript_of ON session_transcript (session, n)
"""

PAGE_BYTES = 4 << 20
"""Bytes after which a page ends, whatever its limit; a single row may be longer."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Message).decode

Item = TypeVar("Item")


class Archive:
    """Writes in the same commit as the events, reads in pages."""

    def __init__(self, journal: Journal) -> None:
        """Write through the journal, read from its store."""
        self._journal = journal

    def message(self, session_id: str, message: Message) -> Message:
        """Keep a message whole, and return it as events tell it."""
        self._journal.execute(
            "INSERT INTO session_message (session, body) VALUES (:session, :body)",
            session=session_id,
            body=_encode(message),
        )
        path = f"{self._journal.base_path}/api/sessions/{session_id}/image"
        query = f"messageId={quote(message.id, safe='')}"
        return told(message, lambda number: f"{path}?{query}&index={number}")

    async def find(self, session_id: str, message_id: str) -> Message | None:
        """Read one message; None where there is none."""
        await self._journal.readable()
        query = (
            "SELECT body FROM session_message WHERE session = ? AND instr(body, ?) ORDER BY n DESC"
        )
        needle = b'"id":' + msgspec.json.encode(message_id)

        def row(db: sqlite3.Connection) -> Message | None:
            for (body,) in db.execute(query, (session_id, needle)):
                message = _decode(body)
                if message.id == message_id:
                    return message
            return None

        return await self._journal.store.read(row)

    def lines(self, session_id: str, whole: bytes) -> None:
        """Keep lines as the agent wrote them."""
        self._journal.execute(
            "INSERT INTO session_transcript (session, body) VALUES (:session, :body)",
            session=session_id,
            body=whole,
        )

    def forget(self, channel: str) -> None:
        """Drop what belongs to a channel that is forgotten."""
        domain, _, id_ = channel.partition(":")
        if domain == "session":
            self._journal.execute("DELETE FROM session_message WHERE session = :id", id=id_)
            self._journal.execute("DELETE FROM session_transcript WHERE session = :id", id=id_)

    async def messages(
        self, session_id: str, cursor: str | None, limit: int
    ) -> tuple[list[Message], str | None]:
        """Read messages, the oldest first; gives the cursor of the next page as well."""
        return await self._page("session_message", session_id, cursor, limit, _decode)

    async def transcript(
        self, session_id: str, cursor: str | None, limit: int
    ) -> tuple[str, str | None]:
        """Read raw lines; what is no UTF-8 becomes U+FFFD."""
        pieces, further = await self._page(
            "session_transcript",
            session_id,
            cursor,
            limit,
            lambda body: body.decode(errors="replace"),
        )
        return "".join(pieces), further

    async def _page(
        self,
        table: str,
        session_id: str,
        cursor: str | None,
        limit: int,
        read: Callable[[bytes], Item],
    ) -> tuple[list[Item], str | None]:
        after = number_of(cursor)
        await self._journal.readable()  # a page shows what its reader has just seen
        query = f"SELECT n, body FROM {table} WHERE session = ? AND n > ? ORDER BY n LIMIT ?"  # noqa: S608  # our own table names

        def rows(db: sqlite3.Connection) -> tuple[list[Item], str | None]:
            found: list[Item] = []
            size, last = 0, after
            for n, body in db.execute(query, (session_id, after, limit + 1)):
                if len(found) == limit or size > PAGE_BYTES:
                    return found, str(last)
                with passing_over(table):
                    found.append(read(body))
                size += len(body)
                last = n
            return found, None

        return await self._journal.store.read(rows)
