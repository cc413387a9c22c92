"""Channels as logs: offsets, commit before delivery, rings, forgetting."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from daemon.core import frames
from daemon.core.errors import Unavailable
from daemon.core.retention import Retention


def put(core, channel="session:1", count=1, size=0):
    for _ in range(count):
        where = core.journal.append(channel, "t.e", frames.encode({"x": "x" * size}))
    return where


def on_disk(tmp_path, query="SELECT count(*) FROM event"):
    with sqlite3.connect(tmp_path / "agentcmd.db") as db:
        return db.execute(query).fetchone()[0]


async def test_nothing_is_visible_before_it_is_on_disk(open_core, tmp_path):
    core = await open_core()
    core.journal.on_visible(lambda: seen.append((where.committed, on_disk(tmp_path))))
    seen = []
    where = put(core, count=5)
    assert (where.head, where.committed) == (5, 0)
    await core.journal.flushed()
    assert seen == [(5, 5)]


async def test_an_ephemeral_channel_never_touches_the_disk(open_core, tmp_path):
    core = await open_core()
    where = put(core, "shell:terminal:1", count=3)
    await asyncio.sleep(0)
    assert where.flushed == 3
    await core.journal.flushed()
    assert on_disk(tmp_path) == 0


async def test_what_one_step_writes_is_one_commit(open_core, tmp_path):
    core = await open_core()
    core.journal.execute("CREATE TABLE own (n INTEGER)")
    await core.journal.flushed()
    commits = core.journal.commits
    for n in range(50):
        put(core, f"session:{n % 7}")
        core.journal.execute("INSERT INTO own VALUES (:n)", n=n)
    await core.journal.flushed()
    assert core.journal.commits == commits + 1
    assert on_disk(tmp_path, "SELECT count(*) FROM own") == 50


async def test_a_statement_that_can_never_work_does_not_hold_up_the_log(open_core, tmp_path):
    core = await open_core()
    core.journal.execute("CREATE TABLE own (n INTEGER UNIQUE)")
    for n in (1, 1, 2):
        put(core)
        core.journal.execute("INSERT INTO own VALUES (:n)", n=n)
    async with asyncio.timeout(5):
        await core.journal.flushed()
    assert on_disk(tmp_path) == 3
    assert on_disk(tmp_path, "SELECT count(*) FROM own") == 2


async def test_a_disk_that_refuses_is_a_state_and_nothing_is_lost(open_core, tmp_path):
    core = await open_core(pending_bytes=10_000, reserve_bytes=50_000)
    put(core)
    await core.journal.flushed()
    # Another writer that does not let go looks to us like a disk that does not answer.
    core.store._writing.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(tmp_path / "agentcmd.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    where = put(core, count=20, size=1000)
    async with asyncio.timeout(5):
        while core.journal.stalled is None:
            await asyncio.sleep(0.01)
    assert core.journal.gate.closed
    assert where.committed == 1
    with pytest.raises(Unavailable, match="locked"):
        core.journal.require_room()
    resumed = []
    core.journal.gate.wait(lambda: resumed.append(True))
    other.execute("ROLLBACK")
    other.close()
    async with asyncio.timeout(10):
        await core.journal.flushed()
    assert (core.journal.stalled, where.committed, resumed) == (None, 21, [True])
    assert [f[:2] for f in await core.journal.page(where, 0)]
    assert on_disk(tmp_path) == 21


async def test_offsets_go_on_after_a_restart_though_retention_took_everything(open_core):
    core = await open_core(keep_events=1)
    where = put(core, count=10)
    await core.journal.flushed()
    epoch = where.epoch
    await Retention(core.journal, core.journal.settings).prune()
    assert (where.oldest, where.head) == (10, 10)
    again = (await open_core()).journal.get("session:1")
    assert (again.head, again.oldest, again.epoch) == (10, 10, epoch)


async def test_retention_by_age_forgets_a_channel_of_which_nothing_is_kept(open_core):
    core = await open_core(keep_days=1e-9)
    where = put(core, count=5000, size=10)
    await core.journal.flushed()
    epoch = where.epoch
    told = []
    core.journal.on_forget(told.append)
    await asyncio.sleep(0.01)
    await Retention(core.journal, core.journal.settings).prune()
    assert told == ["session:1"]
    assert core.journal.get("session:1") is None
    assert put(core).epoch != epoch
    await core.journal.flushed()


async def test_retention_by_size_takes_the_oldest_first(open_core):
    core = await open_core(keep_bytes=4_000_000)
    old = put(core, "session:old", count=300, size=10_000)
    await core.journal.flushed()
    new = put(core, "session:new", count=300, size=10_000)
    await core.journal.flushed()
    await Retention(core.journal, core.journal.settings).prune()
    assert old.oldest > 1
    assert new.oldest == 1


async def test_a_page_never_skips_what_retention_took(open_core):
    core = await open_core(ring_bytes=1000, keep_events=10)
    where = put(core, count=1000, size=100)
    await core.journal.flushed()
    await Retention(core.journal, core.journal.settings).prune()
    assert await core.journal.page(where, 5) == []
    assert len(await core.journal.page(where, where.oldest - 1)) == 10


async def test_all_rings_together_stay_within_their_budget(open_core):
    core = await open_core(ring_bytes=50_000, ring_bytes_total=100_000)
    for n in range(20):
        put(core, f"session:{n}", count=30, size=1000)
        await core.journal.flushed()
    assert sum(where.ring_bytes for where in core.journal) <= 100_000
    assert core.journal._ring_total == sum(where.ring_bytes for where in core.journal)
