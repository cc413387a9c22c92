import sqlite3
from pathlib import Path

import pytest

from daemon.core.schema import StoreError, migrate, refuse_newer

HERE = Path("agentcmd.db")


@pytest.fixture
def db():
    db = sqlite3.connect(":memory:", isolation_level=None)
    yield db
    db.close()


def test_each_script_runs_once_and_later_ones_when_they_come(db):
    migrate(db, {"a": ["CREATE TABLE one (x)"]})
    migrate(db, {"a": ["CREATE TABLE one (x)", "CREATE TABLE two (x)"]})
    assert db.execute("SELECT * FROM schema").fetchall() == [("a", 2)]
    assert db.execute("SELECT count(*) FROM two").fetchone() == (0,)


def test_a_script_that_fails_leaves_what_was_before_it(db):
    with pytest.raises(sqlite3.OperationalError):
        migrate(db, {"a": ["CREATE TABLE one (x)", "CREATE TABLE two (x); CREATE TABLE one (y)"]})
    db.rollback()
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {"schema", "one"}
    assert db.execute("SELECT * FROM schema").fetchall() == [("a", 1)]


def test_a_newer_file_is_refused_before_an_older_part_of_it_is_migrated(db):
    migrate(db, {"a": ["CREATE TABLE one (x)"], "b": ["", ""]})
    changes = db.total_changes
    for newer in ({"a": ["", ""], "b": [""]}, {"a": ["", ""]}):
        with pytest.raises(StoreError, match=r"newer agentcmd \(b schema 2"):
            refuse_newer(db, HERE, newer)
    assert db.total_changes == changes


def test_a_new_file_and_one_that_is_as_it_should_be_are_let_pass(db):
    refuse_newer(db, HERE, {})
    migrate(db, {"a": [""]})
    refuse_newer(db, HERE, {"a": [""]})
