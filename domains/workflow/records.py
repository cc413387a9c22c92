"""Runs and their steps on disk: one row each, written in one commit with the events that tell."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from daemon.core.damage import decoded, passing_over
from daemon.core.journal import Journal
from domains.workflow.commands import ListRuns, Run, StepRecord

SCHEMA = (
    """
    CREATE TABLE workflow_run (
        id TEXT PRIMARY KEY, project TEXT NOT NULL, workflow TEXT NOT NULL, state TEXT NOT NULL,
        idempotency TEXT, body BLOB NOT NULL, source BLOB NOT NULL, verdict BLOB
    );
    CREATE INDEX workflow_run_unended ON workflow_run (state) WHERE state != 'ended';
    CREATE UNIQUE INDEX workflow_run_once ON workflow_run (project, workflow, idempotency)
        WHERE idempotency IS NOT NULL;
    CREATE TABLE workflow_step (
        run TEXT NOT NULL, id TEXT NOT NULL, number INTEGER NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (run, id)
    ) WITHOUT ROWID;
    CREATE TABLE workflow_event (
        run TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL,
        PRIMARY KEY (run, number)
    ) WITHOUT ROWID
    """,
    "CREATE TABLE workflow_worktree (run TEXT PRIMARY KEY, project TEXT NOT NULL) WITHOUT ROWID",
)

_encode = msgspec.json.Encoder().encode
_decode_run = msgspec.json.Decoder(Run).decode
_decode_step = msgspec.json.Decoder(StepRecord).decode


PAGE_BYTES = 4 << 20
"""After so much a page of steps ends; one step alone may be more."""


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a run is to end that somebody has cancelled, or that has failed for a reason of its own.

    It is on disk as soon as it is known, so that the daemon's death does not make it undone.
    """

    type: Literal["cancelled", "failed"]
    user: str | None = None
    code: str = ""
    message: str = ""


_decode_verdict = msgspec.json.Decoder(Verdict).decode


class Stored(NamedTuple):
    """A run as it stands on disk: with the file that it began with, and its steps in order.

    `numbers` are the places of the steps, which may have gaps, and `written` is the bytes of all.
    """

    run: Run
    source: bytes
    steps: list[StepRecord]
    events: list[tuple[int, str, bytes]]
    verdict: Verdict | None = None
    numbers: Sequence[int] = ()
    written: int = 0


class RunRecords:
    """Reads and writes the rows; ids sort by creation."""

    def __init__(self, journal: Journal) -> None:
        """Write through the journal, read from its store."""
        self._journal = journal

    # Writing

    def add(self, run: Run, source: bytes, idempotency: str | None) -> None:
        """Write a new run."""
        self._journal.execute(
            "INSERT INTO workflow_run VALUES "
            "(:id, :project, :workflow, :state, :idempotency, :body, :source, NULL)",
            id=run.id,
            project=run.project_id,
            workflow=run.workflow,
            state=run.state,
            idempotency=idempotency,
            body=_encode(run),
            source=source,
        )

    def save(self, run: Run) -> None:
        """Write a run that has changed."""
        self._journal.execute(
            "UPDATE workflow_run SET state = :state, body = :body WHERE id = :id",
            id=run.id,
            state=run.state,
            body=_encode(run),
        )

    def save_verdict(self, run_id: str, verdict: Verdict | None) -> None:
        """Write how a run is to end."""
        self._journal.execute(
            "UPDATE workflow_run SET verdict = :verdict WHERE id = :id",
            id=run_id,
            verdict=None if verdict is None else _encode(verdict),
        )

    def save_source(self, run_id: str, source: bytes) -> None:
        """Write the file that a run goes on with."""
        self._journal.execute(
            "UPDATE workflow_run SET source = :source WHERE id = :id", id=run_id, source=source
        )

    def save_step(self, run_id: str, number: int, step: StepRecord) -> int:
        """Write a step, and give its bytes; `number` is its place in the order of beginnings."""
        body = _encode(step)
        self._journal.execute(
            "INSERT OR REPLACE INTO workflow_step VALUES (:run, :id, :number, :body)",
            run=run_id,
            id=step.id,
            number=number,
            body=body,
        )
        return len(body)

    def drop_step(self, run_id: str, step_id: str) -> None:
        """Forget a step that is run anew."""
        self._journal.execute(
            "DELETE FROM workflow_step WHERE run = :run AND id = :id", run=run_id, id=step_id
        )

    def add_event(self, run_id: str, number: int, name: str, data: bytes) -> None:
        """Keep an event until a step has waited for it."""
        self._journal.execute(
            "INSERT INTO workflow_event VALUES (:run, :number, :name, :body)",
            run=run_id,
            number=number,
            name=name,
            body=data,
        )

    def take_event(self, run_id: str, number: int) -> None:
        """Drop an event, in one commit with the step that has taken it."""
        self._journal.execute(
            "DELETE FROM workflow_event WHERE run = :run AND number = :number",
            run=run_id,
            number=number,
        )

    def add_worktree(self, run_id: str, project_id: str) -> None:
        """Write down that a run's work tree outlives it."""
        self._journal.execute(
            "INSERT OR REPLACE INTO workflow_worktree VALUES (:run, :project)",
            run=run_id,
            project=project_id,
        )

    def drop_worktree(self, run_id: str) -> None:
        """Forget a work tree that was removed."""
        self._journal.execute("DELETE FROM workflow_worktree WHERE run = :run", run=run_id)

    def forget(self, channel: str) -> None:
        """Drop the rows of a run that has ended, with its channel."""
        prefix, _, id_ = channel.rpartition(":")
        if prefix != "workflow:run":
            return
        for table, column in (("workflow_step", "run"), ("workflow_event", "run")):
            self._journal.execute(
                f"DELETE FROM {table} WHERE {column} IN "  # noqa: S608  # our own names
                "(SELECT id FROM workflow_run WHERE id = :id AND state = 'ended')",
                id=id_,
            )
        self._journal.execute("DELETE FROM workflow_run WHERE id = :id AND state = 'ended'", id=id_)

    # Reading

    async def get(self, run_id: str) -> Stored | None:
        """Read one run whole."""
        found = await self._stored("id = ?", (run_id,))
        return found[0] if found else None

    async def run(self, run_id: str) -> Run | None:
        """Read one run without its steps."""
        found = await self._runs("WHERE id = ?", (run_id,))
        return found[0] if found else None

    async def steps(
        self, run_id: str, after: int, limit: int
    ) -> tuple[list[StepRecord], int | None]:
        """Read steps of a run from a number on, and give the number from which there are more."""
        await self._journal.readable()
        query = (
            "SELECT number, body FROM workflow_step WHERE run = ? AND number >= ? "
            "ORDER BY number LIMIT ?"
        )

        def rows(db: sqlite3.Connection) -> tuple[list[StepRecord], int | None]:
            found: list[StepRecord] = []
            size = 0
            for number, body in db.execute(query, (run_id, after, limit + 1)):
                if len(found) == limit or size > PAGE_BYTES:
                    return found, number
                with passing_over("workflow_step"):
                    found.append(_decode_step(body))
                size += len(body)
            return found, None

        return await self._journal.store.read(rows)

    async def silent(self) -> set[str]:
        """Read which runs have no channel: once it was deleted while they lived."""
        query = (
            "SELECT id FROM workflow_run "
            "WHERE 'workflow:run:' || id NOT IN (SELECT name FROM channel)"
        )
        return await self._journal.store.read(lambda db: {id_ for (id_,) in db.execute(query)})

    async def unended(self) -> list[Stored]:
        """Read what was under way when the daemon last ended, the oldest first."""
        return await self._stored("state != 'ended'", ())

    async def worktrees(self) -> dict[str, str]:
        """Read which runs have left a work tree, with their projects."""
        query = "SELECT run, project FROM workflow_worktree"
        return await self._journal.store.read(lambda db: dict(db.execute(query).fetchall()))

    async def once(self, project: str, workflow: str, idempotency: str) -> Run | None:
        """Read the run that was started with an idempotency key."""
        found = await self._runs(
            "WHERE project = ? AND workflow = ? AND idempotency = ?",
            (project, workflow, idempotency),
        )
        return found[0] if found else None

    async def latest(self, project: str, workflow: str, prefix: str) -> tuple[str, str] | None:
        """Read the id and the key of the newest run whose key is `prefix` and one more word."""
        query = (
            "SELECT id, idempotency FROM workflow_run WHERE project = ? AND workflow = ? "
            "AND idempotency >= ? AND idempotency < ? "
            "AND instr(substr(idempotency, ?), '/') = 0 ORDER BY id DESC LIMIT 1"
        )
        span = (prefix, f"{prefix[:-1]}{chr(ord(prefix[-1]) + 1)}", len(prefix) + 1)
        await self._journal.readable()
        return await self._journal.store.read(
            lambda db: db.execute(query, (project, workflow, *span)).fetchone()
        )

    async def page(self, wanted: ListRuns, before: str, limit: int) -> list[Run]:
        """Read up to `limit` runs older than an id, newest first."""
        where, values = ["id < ?"], [before]
        for column, value in (
            ("project", wanted.project_id),
            ("workflow", wanted.workflow),
            ("state", wanted.state),
        ):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        return await self._runs(
            f"WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?", (*values, limit)
        )

    async def _runs(self, clause: str, values: Sequence[object]) -> list[Run]:
        await self._journal.readable()  # a list shows what its reader has just done
        query = f"SELECT body FROM workflow_run {clause}"  # noqa: S608  # our own words

        def rows(db: sqlite3.Connection) -> list[Run]:
            return decoded(db.execute(query, tuple(values)), _decode_run, "workflow_run")

        return await self._journal.store.read(rows)

    async def _stored(self, where: str, values: Sequence[object]) -> list[Stored]:
        await self._journal.readable()
        runs = f"SELECT id, body, source, verdict FROM workflow_run WHERE {where} ORDER BY id"  # noqa: S608
        inner = f"(SELECT id FROM workflow_run WHERE {where})"  # noqa: S608
        steps = (
            "SELECT run, number, body FROM workflow_step "  # noqa: S608
            f"WHERE run IN {inner} ORDER BY run, number"
        )
        events = (
            "SELECT run, number, name, data FROM workflow_event "  # noqa: S608
            f"WHERE run IN {inner} ORDER BY run, number"
        )

        def rows(db: sqlite3.Connection) -> list[Stored]:
            found: dict[str, Stored] = {}
            for id_, body, source, verdict in db.execute(runs, tuple(values)):
                with passing_over("workflow_run"):
                    told = _decode_verdict(verdict) if verdict else None
                    found[id_] = Stored(_decode_run(body), source, [], [], told)
            numbers: dict[str, list[int]] = {id_: [] for id_ in found}
            written: Counter[str] = Counter()
            for run, number, body in db.execute(steps, tuple(values)):
                with passing_over("workflow_step"):
                    if run in found:
                        step = _decode_step(body)
                        numbers[run].append(int(number))
                        found[run].steps.append(step)
                        written[run] += len(body)
            for run, number, name, data in db.execute(events, tuple(values)):
                with passing_over("workflow_event"):
                    if run in found:
                        msgspec.json.decode(data)
                        found[run].events.append((int(number), str(name), data))
            return [
                each._replace(numbers=numbers[id_], written=written[id_])
                for id_, each in found.items()
            ]

        return await self._journal.store.read(rows)
