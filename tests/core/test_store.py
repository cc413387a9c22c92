"""The file itself: schemas, epochs over crashes, refusals that say what to do."""

from __future__ import annotations

import sqlite3

import pytest

from daemon.core import store as module
from daemon.core.store import Batch, Store, StoreError


async def heads(path, **schemas):
    async with Store(path, schemas) as store:
        return await store.heads()


async def write_channel(path):
    import asyncio

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
    with sqlite3.connect(path) as db:
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
    with sqlite3.connect(path) as db:
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
        with sqlite3.connect(path) as db:
            db.execute("UPDATE meta SET value = '0' WHERE key = 'clean'")
    if not same_boot:
        monkeypatch.setattr(module, "boot_id", lambda: "another boot")
    (head,) = await heads(path)
    assert (head.epoch == "e1") is kept
    assert (head.head, head.oldest) == (1, 1)
