"""Retention: what may go by count, age and size goes, the oldest first, and never leaves a gap."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3

import pytest

from daemon.core import frames
from daemon.core.retention import DAY, Retention


def put(core, channel="session:1", count=1, size=0):
    for _ in range(count):
        where = core.journal.append(channel, "t.e", frames.encode({"x": "x" * size}))
    return where


def retention(core):
    return Retention(core.journal, core.journal.settings)


def make_old(tmp_path, channel, days):
    """Let a channel's events have been written a while ago."""
    with contextlib.closing(sqlite3.connect(tmp_path / "agentcmd.db")) as db, db:
        (id_,) = db.execute("SELECT id FROM channel WHERE name = ?", (channel,)).fetchone()
        db.execute("UPDATE event SET ts = ts - ? WHERE id >> 40 = ?", (days * DAY, id_))


async def test_offsets_go_on_after_a_restart_though_retention_took_everything(open_core):
    core = await open_core(keep_events=1)
    where = put(core, count=10)
    await core.journal.flushed()
    epoch = where.epoch
    await retention(core).prune()
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
    await retention(core).prune()
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
    await retention(core).prune()
    assert old.oldest > 1
    assert new.oldest == 1


async def test_a_page_never_skips_what_retention_took(open_core):
    core = await open_core(ring_bytes=1000, keep_events=10)
    where = put(core, count=1000, size=100)
    await core.journal.flushed()
    await retention(core).prune()
    assert await core.journal.page(where, 5) == []
    assert len(await core.journal.page(where, where.oldest - 1)) == 10


async def test_the_newest_of_each_channel_stay_by_count(open_core):
    core = await open_core(keep_events=10, keep_days=0, keep_bytes=0)
    many, few = put(core, "session:many", 25), put(core, "session:few", 5)
    await core.journal.flushed()
    await retention(core).prune()
    assert (many.oldest, many.head, few.oldest) == (16, 25, 1)


async def test_more_than_one_step_is_deleted_in_steps(open_core):
    core = await open_core(keep_events=1, keep_days=0, keep_bytes=0)
    where = put(core, count=5001)
    await core.journal.flushed()
    await retention(core).prune()
    assert where.oldest == 5001


async def test_what_is_older_goes_and_what_is_newer_stays(open_core, tmp_path):
    core = await open_core(keep_days=2, keep_events=0, keep_bytes=0)
    put(core, "session:old", 10)
    await core.journal.flushed()
    make_old(tmp_path, "session:old", 3)
    old, new = put(core, "session:old", 5), put(core, "session:new", 5)
    await core.journal.flushed()
    await retention(core).prune()
    assert (old.oldest, old.head, new.oldest) == (11, 15, 1)


async def test_without_limits_everything_stays(open_core, tmp_path):
    core = await open_core(keep_days=0, keep_events=0, keep_bytes=0)
    where = put(core, count=100)
    await core.journal.flushed()
    make_old(tmp_path, "session:1", 10_000)
    await retention(core).prune()
    assert where.oldest == 1


@pytest.mark.parametrize("limit", ["age", "size"])
async def test_an_emptied_channel_that_is_followed_does_not_hold_up_the_others(
    open_core, tmp_path, limit
):
    """The emptied one is not forgotten, and has the lowest id: it must not pass for the oldest."""
    keep = {"keep_events": 0, "keep_days": 1 if limit == "age" else 0}
    core = await open_core(**keep, keep_bytes=0 if limit == "age" else 2_000_000)
    emptied = put(core, "session:emptied", 5)
    other = put(core, "session:other", 300, 10_000)
    await core.journal.flushed()
    emptied.followers.add(object())
    retaining = retention(core)
    await retaining._delete(emptied, emptied.committed)
    assert emptied.oldest == 6
    make_old(tmp_path, "session:other", 2)
    await retaining.prune()
    assert other.oldest > 1
    assert core.journal.get("session:emptied") is emptied
    emptied.followers.clear()


async def test_whole_bodies_go_with_their_events(open_core):
    core = await open_core(event_bytes=10_000, keep_events=1, keep_days=0, keep_bytes=0)
    where = put(core, count=3, size=50_000)
    await core.journal.flushed()
    await retention(core).prune()
    assert await core.journal.whole(where, 2) is None
    assert await core.journal.whole(where, 3) is not None


async def test_a_deletion_that_fails_is_tried_again_another_time(open_core, tmp_path):
    core = await open_core(keep_events=1, keep_days=0, keep_bytes=0)
    where = put(core, count=10)
    await core.journal.flushed()
    core.store._writing.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(tmp_path / "agentcmd.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    await retention(core).prune()
    assert where.oldest == 1
    other.execute("ROLLBACK")
    other.close()
    await retention(core).prune()
    assert where.oldest == 10


async def test_it_runs_by_itself_until_cancelled(open_core):
    core = await open_core(keep_events=1, keep_days=0, keep_bytes=0, prune_interval=0.05)
    where = put(core, count=10)
    await core.journal.flushed()
    core.supervisor.start(retention(core).run(), name="retention")
    async with asyncio.timeout(30):
        while where.oldest != 10:
            await asyncio.sleep(0.01)


async def test_a_forgotten_channel_is_forgotten_on_disk_and_in_memory(open_core, tmp_path):
    core = await open_core(keep_days=1e-9, keep_events=0, keep_bytes=0)
    put(core, "session:1", 10, 1000)
    await core.journal.flushed()
    await asyncio.sleep(0.01)
    await retention(core).prune()
    await core.journal.flushed()
    assert core.journal._ring_total == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "agentcmd.db")) as db, db:
        assert db.execute("SELECT count(*) FROM channel").fetchone() == (0,)


async def test_what_lives_does_not_age_and_is_never_forgotten(open_core):
    core = await open_core(keep_days=1e-9, keep_events=0, keep_bytes=0)
    living = {"live"}
    core.journal.vouch("session", living.__contains__, keeps=True)
    live, ended = put(core, "session:live", 5), put(core, "session:ended", 5)
    await core.journal.flushed()
    await asyncio.sleep(0.01)
    retention = Retention(core.journal, core.journal.settings)
    await retention.prune()
    assert core.journal.get("session:live") is live
    assert live.oldest == 1
    assert core.journal.get("session:ended") is None
    assert ended.oldest == 6
    living.clear()
    await retention.prune()
    assert core.journal.get("session:live") is None


async def test_what_lives_goes_by_size_after_all_else(open_core):
    core = await open_core(keep_days=0, keep_events=0, keep_bytes=1_500_000)
    core.journal.vouch("session", {"live"}.__contains__, keeps=True)
    live = put(core, "session:live", 100, 10_000)
    ended = put(core, "session:ended", 100, 10_000)
    await core.journal.flushed()
    await Retention(core.journal, core.journal.settings).prune()
    assert (live.oldest, ended.oldest) == (1, 101)


async def test_what_lives_is_bounded_by_count_and_size_all_the_same(open_core):
    core = await open_core(keep_days=0, keep_events=60, keep_bytes=0)
    core.journal.vouch("session", {"live"}.__contains__, keeps=True)
    live = put(core, "session:live", 100, 10_000)
    await core.journal.flushed()
    await Retention(core.journal, core.journal.settings).prune()
    assert live.oldest == 41
    core = await open_core(keep_days=0, keep_events=0, keep_bytes=100_000)
    core.journal.vouch("session", {"live"}.__contains__, keeps=True)
    await Retention(core.journal, core.journal.settings).prune()
    live = core.journal.get("session:live")
    assert live.oldest > 41


async def test_a_channel_that_is_vouched_for_only_ages_as_any_other(open_core):
    core = await open_core(keep_days=1e-9, keep_events=0, keep_bytes=0)
    core.journal.vouch("git:project", {"shop"}.__contains__)
    where = put(core, "git:project:shop", 5)
    await core.journal.flushed()
    await asyncio.sleep(0.01)
    await Retention(core.journal, core.journal.settings).prune()
    found = core.journal.get("git:project:shop")
    assert found is not None
    assert found is not where


async def test_what_has_ended_ages_as_a_whole_from_its_last_event_on(open_core, tmp_path):
    core = await open_core(keep_days=30, keep_events=0, keep_bytes=0)
    living = {"long"}
    core.journal.vouch("session", living.__contains__, keeps=True)
    long, quiet = put(core, "session:long", 5), put(core, "git:project:shop", 5)
    await core.journal.flushed()
    for channel in ("session:long", "git:project:shop"):
        make_old(tmp_path, channel, 40)
    put(core, "session:long")
    put(core, "git:project:shop")
    await core.journal.flushed()
    living.clear()
    await retention(core).prune()
    assert (long.oldest, quiet.oldest) == (1, 6)
    make_old(tmp_path, "session:long", 31)
    await retention(core).prune()
    assert core.journal.get("session:long") is None
