"""A database that cannot be used is told in a sentence that costs nobody anything."""

from __future__ import annotations

import sqlite3

import msgspec
import pytest

from daemon.core.damage import decoded, explained, sound


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (sqlite3.SQLITE_CANTOPEN, "permission denied"),
        (sqlite3.SQLITE_READONLY, "permission denied"),
        (sqlite3.SQLITE_FULL, "disk is full; free some"),
        (sqlite3.SQLITE_CORRUPT, "it is damaged"),
        (sqlite3.SQLITE_NOTADB, "it is damaged"),
        (sqlite3.SQLITE_BUSY, "another program uses it"),
        (sqlite3.SQLITE_IOERR_WRITE, "agentcmd doctor"),
    ],
)
def test_each_failure_names_the_file_and_what_helps(tmp_path, code, said):
    error = sqlite3.OperationalError("why")
    error.sqlite_errorcode = code
    told = explained(tmp_path / "a.db", error)
    assert str(tmp_path / "a.db") in told
    assert said in told
    assert "begins anew" not in told


def test_a_damaged_row_is_passed_over():
    rows = [(b'"a"',), (b'"\xff"',), (b"{",), (None,), (b'"b"',)]
    assert decoded(rows, msgspec.json.Decoder(str).decode, "t") == ["a", "b"]


def test_a_row_with_a_value_of_another_type_is_passed_over():
    rows = [(1, "a"), ("1", "a"), (1, b"a"), (1, None), (2, "b")]
    assert sound(rows, (int, str), "t") == [(1, "a"), (2, "b")]
