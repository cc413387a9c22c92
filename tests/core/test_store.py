"""The file itself: schemas, epochs over crashes, refusals that say what to do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from support import open_descriptors

from daemon.core import store as module
from daemon.core.store import Batch, Prune, Store, StoreError


async def heads(path, **schemas):
    async with Store(path, schemas) as store:
        return await store.heads()


async def write_channel(path):
    async with Store(path, {}) as store:
        done = asyncio.get_running_loop().create_future()
        batch = Batch(channels=[(1, "session:1", "e1")], events=[(1 << 40 | 1, 0.0, b"{}")])
        store.submit(batch, done.set_result)
        await done


async def test_tables_of_owners_are_made_and_migrated_once(tmp_path):
    path = tmp_path / "a.db"
    one = "CREATE TABLE own (n INTEGER)"
    two = "ALTER TABLE own ADD COLUMN m INTEGER"
    await heads(path, own=[one])
    await heads(path, own=[one, two])
    await heads(path, own=[one, two])
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        assert [row[1] for row in db.execute("PRAGMA table_info(own)")] == ["n", "m"]
        assert dict(db.execute("SELECT * FROM schema")) == {"journal": 1, "own": 2}


async def test_a_file_of_a_newer_program_is_refused_with_a_sentence(tmp_path):
    path = tmp_path / "a.db"
    await heads(path, own=["CREATE TABLE own (n INTEGER)", "SELECT 1"])
    with pytest.raises(StoreError, match=r"newer agentcmd \(own schema 2, this one knows 1\)"):
        await heads(path, own=["CREATE TABLE own (n INTEGER)"])


async def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a.db"
    with pytest.raises(StoreError):
        await heads(path, own=["CREATE TABLE own (n INTEGER); CREATE TABLE own (n INTEGER)"])
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        assert not db.execute("SELECT name FROM sqlite_master WHERE name = 'own'").fetchall()


async def test_a_file_that_is_no_database_is_refused_with_a_sentence(tmp_path):
    path = tmp_path / "a.db"
    path.write_bytes(b"this is no database at all" * 1000)
    with pytest.raises(StoreError, match="move the file away"):
        await heads(path)


async def test_a_clean_end_leaves_one_file(tmp_path):
    await write_channel(tmp_path / "a.db")
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]


async def test_the_file_is_ours_alone(tmp_path):
    await heads(tmp_path / "a.db")
    assert (tmp_path / "a.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("clean", "same_boot", "kept"),
    [(True, False, True), (False, True, True), (False, False, False)],
)
async def test_epochs_change_only_after_a_crash_of_the_machine(
    tmp_path, monkeypatch, clean, same_boot, kept
):
    path = tmp_path / "a.db"
    await write_channel(path)
    if not clean:
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE meta SET value = '0' WHERE key = 'clean'")
    if not same_boot:
        monkeypatch.setattr(module, "boot_id", lambda: "another boot")
    (head,) = await heads(path)
    assert (head.epoch == "e1") is kept
    assert (head.head, head.oldest) == (1, 1)


def event(offset, body=b"{}", *, channel=1):
    return (channel << 40 | offset, time.time(), body)


async def commit(store, **parts):
    """Submit one batch and wait for its commit."""
    done = asyncio.get_running_loop().create_future()
    store.submit(Batch(**parts), done.set_result)
    async with asyncio.timeout(30):
        await done


@contextlib.asynccontextmanager
async def opened(path, **schemas):
    """A store with one channel."""
    async with Store(path, schemas) as store:
        await commit(store, channels=[(1, "session:1", "e1")])
        yield store


async def test_migrations_run_in_their_order_and_only_the_missing_ones(tmp_path):
    path = tmp_path / "a.db"
    steps = ["CREATE TABLE own (n INTEGER)"]
    steps += [f"INSERT INTO own VALUES ({n})" for n in range(5)]
    await heads(path, own=steps[:3])
    await heads(path, own=steps)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        assert [n for (n,) in db.execute("SELECT n FROM own ORDER BY rowid")] == [0, 1, 2, 3, 4]


async def test_a_newer_journal_is_refused_and_left_as_it_was(tmp_path):
    path = tmp_path / "a.db"
    await write_channel(path)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE schema SET version = 99 WHERE owner = 'journal'")
    with pytest.raises(StoreError, match=r"journal schema 99.*upgrade agentcmd"):
        await heads(path)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        assert dict(db.execute("SELECT * FROM schema")) == {"journal": 99}


async def test_a_damaged_file_is_refused_with_a_sentence(tmp_path):
    path = tmp_path / "a.db"
    async with opened(path) as store:
        await commit(store, events=[event(n, b"x" * 3000) for n in range(1, 200)])
    damaged = bytearray(path.read_bytes())
    damaged[8192:] = os.urandom(len(damaged) - 8192)
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match="move the file away"):
        await heads(path)


async def test_a_folder_that_is_not_there_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(StoreError, match=r"cannot open .*no-such"):
        await heads(tmp_path / "no-such" / "a.db")


async def test_a_folder_in_the_place_of_the_file_is_refused_with_a_sentence(tmp_path):
    (tmp_path / "a.db").mkdir()
    with pytest.raises(StoreError, match="cannot open"):
        await heads(tmp_path / "a.db")


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("INSERT INTO own VALUES (:n)", {"n": 1}),
        ("INSERT INTO own VALUES (:n)", {"n": 1 << 70}),
        ("INSERT INTO own VALUES (:n)", {"n": "\ud800"}),
        ("INSERT INTO own VALUES (:n)", {"n": object()}),
        ("INSERT INTO own VALUES (:n)", {}),
        ("INSERT INTO gone VALUES (1)", {}),
        ("this is no SQL", {}),
        ("SELECT abs(-9223372036854775808)", {}),
    ],
    ids=[
        *("not unique", "too large", "half a character", "an object", "no value"),
        *("no table", "no SQL", "overflow"),
    ],
)
async def test_a_statement_that_can_never_work_is_left_out_alone(tmp_path, sql, values):
    async with opened(tmp_path / "a.db", own=["CREATE TABLE own (n UNIQUE)"]) as store:
        told = []
        store.on_stall(told.append)
        good = "INSERT INTO own VALUES (:n)"
        await commit(
            store,
            events=[event(1)],
            statements=[(good, {"n": 1}), (sql, values), (good, {"n": 2})],
        )
        assert told == []
        rows = await store.read(lambda db: db.execute("SELECT n FROM own ORDER BY n").fetchall())
        assert rows == [(1,), (2,)]
        assert len(await store.page(1, 0, 9, 1 << 20)) == 1


async def test_rows_and_events_of_a_batch_are_seen_together_or_not_at_all(tmp_path):
    """Another connection looks all the while, as a reader after a crash would."""
    path = tmp_path / "a.db"
    async with opened(path, own=["CREATE TABLE own (n INTEGER)"]) as store:
        other = sqlite3.connect(path, isolation_level=None)
        waiting = []
        for n in range(1, 101):
            done = asyncio.get_running_loop().create_future()
            statement = ("INSERT INTO own VALUES (:n)", {"n": n})
            parts = {"events": [event(2 * n - 1), event(2 * n)], "statements": [statement]}
            store.submit(Batch(**parts), done.set_result)
            waiting.append(done)
        seen = set()
        while not waiting[-1].done():
            both = "SELECT (SELECT count(*) FROM own), (SELECT count(*) FROM event)"
            rows, events = other.execute(both).fetchone()
            assert events == 2 * rows
            seen.add(rows)
            await asyncio.sleep(0)
        other.close()
        assert all(done.done() for done in waiting), "commits came out of order"


async def test_batches_are_committed_in_the_order_in_which_they_came(tmp_path):
    async with opened(tmp_path / "a.db") as store:
        done = []
        for n in range(1, 201):
            store.submit(Batch(events=[event(n)]), lambda batch: done.append(batch.events[0][0]))
        await commit(store, events=[event(201)])
        assert done == [1 << 40 | n for n in range(1, 201)]


async def test_a_page_ends_at_its_limit_and_before_a_gap(tmp_path):
    async with opened(tmp_path / "a.db") as store:
        await commit(store, events=[event(n, b"%04d" % n) for n in range(1, 21) if n != 15])
        await commit(store, channels=[(2, "session:2", "e2")])
        await commit(store, events=[event(1, b"other", channel=2)])
        assert await store.page(1, 3, 99, 12) == [b"0004", b"0005", b"0006"]
        assert await store.page(1, 10, 99, 1 << 20) == [b"0011", b"0012", b"0013", b"0014"]
        assert await store.page(1, 14, 99, 1 << 20) == []
        assert await store.page(1, 17, 19, 1 << 20) == [b"0018", b"0019"]
        assert await store.page(1, 20, 99, 1 << 20) == []


async def test_a_prune_never_reaches_the_next_channel(tmp_path):
    async with opened(tmp_path / "a.db") as store:
        await commit(store, events=[event(1), event(2)])
        await commit(store, channels=[(2, "session:2", "e2")], events=[event(1, channel=2)])
        done = asyncio.get_running_loop().create_future()
        store.prune(Prune(1, 1, 2), lambda what, oldest: done.set_result((what.channel, oldest)))
        assert await asyncio.wait_for(done, 30) == (1, 3)
        one, two = await store.heads()
        assert (one.head, one.oldest, two.head, two.oldest) == (2, 3, 1, 1)
        assert await store.page(2, 0, 9, 100) == [b"{}"]


async def test_a_file_that_may_not_grow_stalls_and_goes_on_by_itself(tmp_path):
    async with opened(tmp_path / "a.db") as store:
        told = []
        store.on_stall(told.append)
        (used,) = await store.read(lambda db: db.execute("PRAGMA page_count").fetchone())
        store._writing.execute(f"PRAGMA max_page_count = {used + 10}")
        orders = []
        for n in range(1, 6):
            parts = {"events": [event(n, b"x" * 100_000)]}
            store.submit(Batch(**parts), lambda batch: orders.append(batch.events[0][0] & 0xFF))
        async with asyncio.timeout(30):
            while not told:
                await asyncio.sleep(0.01)
        assert told == ["database or disk is full"]
        before = list(orders)
        assert before == sorted(before)
        assert len(before) < 5
        store._writing.execute("PRAGMA max_page_count = 1000000")
        await commit(store, events=[event(6)])
        assert orders == [1, 2, 3, 4, 5]
        assert told == ["database or disk is full", None]
        assert len(await store.page(1, 0, 99, 1 << 30)) == 6


async def test_closing_a_store_that_stalls_is_bounded_and_leaves_whole_batches(tmp_path):
    path = tmp_path / "a.db"
    begun = time.monotonic()
    async with opened(path) as store:
        stalled = asyncio.get_running_loop().create_future()
        store.on_stall(lambda reason: stalled.done() or stalled.set_result(reason))
        (used,) = await store.read(lambda db: db.execute("PRAGMA page_count").fetchone())
        store._writing.execute(f"PRAGMA max_page_count = {used}")
        store.submit(Batch(events=[event(n, b"x" * 50_000) for n in range(1, 5)]), print)
        await asyncio.wait_for(stalled, 30)
    assert time.monotonic() - begun < 20
    (head,) = await heads(path)
    assert head.head == 0


async def test_only_a_clean_end_is_noted_as_one(tmp_path):
    path = tmp_path / "a.db"

    def clean():
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            return db.execute("SELECT value FROM meta WHERE key = 'clean'").fetchone()[0]

    async with opened(path):
        assert clean() == "0"
    assert clean() == "1"


WRITER = """
    import asyncio, sys, time
    from pathlib import Path
    from daemon.core.store import Batch, Store

    async def main():
        async with Store(Path(sys.argv[1]), {"own": ["CREATE TABLE own (n INTEGER)"]}) as store:
            loop = asyncio.get_running_loop()
            store.submit(Batch(channels=[(1, "session:1", "e1")]), lambda _: None)
            for n in range(1, 100_000):
                done = loop.create_future()
                statement = ("INSERT INTO own VALUES (:n)", {"n": n})
                events = [(1 << 40 | n, time.time(), b"%d" % n)]
                store.submit(Batch(events=events, statements=[statement]), done.set_result)
                await done
                print(n, flush=True)

    asyncio.run(main())
"""


async def test_what_was_told_as_committed_is_there_after_kill_9_with_its_row_and_epoch(tmp_path):
    path = tmp_path / "a.db"
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in writer.stdout:
        if int(line) >= 100:
            break
    writer.send_signal(signal.SIGKILL)
    told = max([int(line), *(int(more) for more in writer.stdout if more.endswith("\n"))])
    writer.stdout.close()
    writer.wait()
    async with Store(path, {"own": ["CREATE TABLE own (n INTEGER)"]}) as store:
        (head,) = await store.heads()
        assert (head.epoch, head.oldest) == ("e1", 1)
        assert head.head >= told
        bodies = await store.page(1, 0, head.head, 1 << 30)
        assert bodies == [b"%d" % n for n in range(1, head.head + 1)]
        rows = await store.read(lambda db: db.execute("SELECT n FROM own ORDER BY n").fetchall())
        assert rows == [(n,) for n in range(1, head.head + 1)]


@pytest.mark.parametrize("text", [b"this is no database at all" * 1000, b"SQLite format 3\0" * 9])
async def test_a_file_that_is_refused_is_let_go(tmp_path, text):
    path = tmp_path / "a.db"
    path.write_bytes(text)
    before = open_descriptors()
    with pytest.raises(StoreError) as caught:
        await heads(path)
    assert open_descriptors() <= before
    assert "a.db" in caught.value.message


@pytest.mark.parametrize("row", ["('journal', 'one')", "('journal', x'00ff')"])
async def test_a_file_whose_own_notes_are_rubbish_is_refused_with_a_sentence(tmp_path, row):
    path = tmp_path / "a.db"
    await heads(path)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(f"INSERT OR REPLACE INTO schema VALUES {row}")
    with pytest.raises(StoreError, match="it is damaged"):
        await heads(path)


async def test_a_channel_whose_row_is_rubbish_is_passed_over(tmp_path):
    path = tmp_path / "a.db"
    await write_channel(path)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO channel VALUES (99, x'ff', 'e', 'many', 1)")
    assert [each.id for each in await heads(path)] == [1]


async def test_a_read_that_fails_is_a_sentence(tmp_path):
    async with opened(tmp_path / "a.db") as store:
        with pytest.raises(StoreError, match="cannot use"):
            await store.read(lambda db: db.execute("SELECT * FROM gone"))


async def test_a_read_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "READ_TIMEOUT", 0.01)
    freed = threading.Event()
    async with opened(tmp_path / "a.db") as store:
        with pytest.raises(StoreError, match=r"could not be read within"):
            await store.read(lambda _: freed.wait(30))
        freed.set()
        monkeypatch.setattr(module, "READ_TIMEOUT", 30)


async def test_the_log_shrinks_again_when_a_reader_from_outside_lets_go_of_it(tmp_path):
    """A backup or a shell that holds a snapshot keeps the log from being folded back."""
    path, log = tmp_path / "a.db", tmp_path / "a.db-wal"
    async with opened(path) as store:
        await commit(store, events=[event(1, b"x")])
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as outside:
            outside.execute("BEGIN")
            outside.execute("SELECT count(*) FROM event").fetchone()
            for n in range(2, 42):
                await commit(store, events=[event(n, b"x" * (1 << 20))])
            assert log.stat().st_size > 40 << 20
            outside.execute("COMMIT")
        for n in range(42, 52):
            await commit(store, events=[event(n, b"x" * (1 << 20))])
        assert log.stat().st_size <= module.WAL_LIMIT + (2 << 20)
