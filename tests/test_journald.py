"""The log in systemd's journal."""

from __future__ import annotations

import io
import logging
import os
import socket
import struct
import sys

import pytest
import structlog

from daemon import journald
from daemon.journald import JournalHandler, encoded, is_journal
from daemon.log import logging_to


@pytest.fixture
def journal(tmp_path):
    """Stand in for the journal's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "journal"))
        server.settimeout(30)
        yield server


def fields_of(entry: bytes) -> dict[str, str]:
    """Read an entry as journald does."""
    found = {}
    while entry:
        line, _, rest = entry.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + size], rest[8 + size + 1 :]
        found[name.decode()], entry = value.decode(), rest
    return found


def test_an_entry_has_fields_to_filter_by():
    entry = {"event": "task.started", "level": "warning", "task": "7", "pid": 12, "logger": "a.b"}
    assert fields_of(encoded(entry)) == {
        "MESSAGE": "task.started task=7 pid=12",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "agentcmd",
        "AGENTCMD_EVENT": "task.started",
        "TASK_ID": "7",
        "AGENTCMD_PID": "12",
        "LOGGER": "a.b",
    }


def test_a_value_of_many_lines_arrives_whole():
    text = "Traceback\n  File = x\n\nTASK_ID=forged"
    found = fields_of(encoded({"event": "internal", "exception": text}))
    assert found["AGENTCMD_EXCEPTION"] == text
    assert "TASK_ID" not in found


def test_what_no_datagram_holds_is_cut_and_not_lost(journal, tmp_path):
    handler = JournalHandler(str(tmp_path / "journal"))
    handler.setFormatter(
        logging.Formatter('{"event": "large", "level": "error", "x": "%(message)s"}')
    )
    handler.emit(logging.LogRecord("a", logging.ERROR, "", 0, "x" * (1 << 20), None, None))
    handler.close()
    assert fields_of(journal.recv(1 << 22))["MESSAGE"].startswith("large")


def test_a_journal_that_is_not_there_harms_nobody(tmp_path):
    handler = JournalHandler(str(tmp_path / "none"))
    handler.setFormatter(logging.Formatter('{"event": "%(message)s"}'))
    handler.emit(logging.LogRecord("a", logging.ERROR, "", 0, "lost", None, None))
    handler.close()


def test_a_stream_is_the_journal_only_where_systemd_says_so(tmp_path):
    with (tmp_path / "stream").open("w") as stream:
        found = os.fstat(stream.fileno())
        named = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert is_journal(stream, named)
        assert not is_journal(stream, {"JOURNAL_STREAM": "1:2"})
        assert not is_journal(stream, {})
    assert not is_journal(io.StringIO(), named)


def test_the_log_goes_there_instead_of_to_the_console(journal, tmp_path, monkeypatch):
    with (tmp_path / "stderr").open("w+") as stderr:
        found = os.fstat(stderr.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setattr(journald, "SOCKET", str(tmp_path / "journal"))
        with (
            logging_to(tmp_path, level="info", file_bytes=1 << 20, files=1),
            structlog.contextvars.bound_contextvars(task="t-1"),
        ):
            structlog.get_logger("domains.session").info("session.lost", channel="session:1")
        told = fields_of(journal.recv(1 << 16))
        stderr.seek(0)
        assert stderr.read() == ""
    assert (told["AGENTCMD_EVENT"], told["PRIORITY"]) == ("session.lost", "6")
    assert (told["TASK_ID"], told["CHANNEL"]) == ("t-1", "session:1")
    assert "session.lost" in (tmp_path / "log" / "agentcmd.jsonl").read_text()
