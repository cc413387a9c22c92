"""The daemon's own log: one JSON line a record, whatever is in it, and never in the way."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time

import pytest
import structlog

from daemon import log as module
from daemon.log import FILE_NAME, logging_to


@contextlib.contextmanager
def logging_here(folder, **options):
    defaults = {"level": "info", "file_bytes": 1 << 20, "files": 1, "quiet": True}
    with logging_to(folder, **{**defaults, **options}):
        yield structlog.get_logger("own")


def lines(folder):
    text = (folder / "log" / FILE_NAME).read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_record_is_one_line_with_its_keys(tmp_path):
    with logging_here(tmp_path) as log:
        log.info("thing.done", thing="a\nb", count=3)
    (line,) = lines(tmp_path)
    assert (line["event"], line["thing"], line["count"]) == ("thing.done", "a\nb", 3)
    assert (line["level"], line["logger"]) == ("info", "own")
    assert line["timestamp"].endswith("Z")


def test_what_is_bound_once_is_in_every_record(tmp_path):
    with logging_here(tmp_path) as log, structlog.contextvars.bound_contextvars(task="t1"):
        log.info("one")
    assert [line["task"] for line in lines(tmp_path)] == ["t1"]


def test_a_level_leaves_out_what_is_below_it(tmp_path):
    with logging_here(tmp_path, level="warning") as log:
        log.info("no")
        log.warning("yes")
        logging.getLogger("foreign").info("no")
        logging.getLogger("foreign").error("yes %s", "too")
    assert [line["event"] for line in lines(tmp_path)] == ["yes", "yes too"]


def test_a_failure_has_its_traceback_whoever_logs_it_and_no_local_variables(tmp_path):
    with logging_here(tmp_path) as log:
        secret = "very " + "secret"
        try:
            int(secret[:0])
        except ValueError:
            log.exception("own.failed")
            logging.getLogger("foreign").exception("foreign failed")
    for line in lines(tmp_path):
        assert "ValueError: invalid literal" in line["exception"]
        assert "very secret" not in json.dumps(line)


@pytest.mark.parametrize("value", [object(), b"\xff", "\ud800", {1: {2}}, float("nan"), 1 << 80])
def test_whatever_is_logged_is_a_line(tmp_path, value, capsys):
    with logging_here(tmp_path) as log:
        log.info("odd", value=value)
    assert [line["event"] for line in lines(tmp_path)] == ["odd"]
    assert capsys.readouterr().err == ""


def test_nothing_of_a_request_is_logged_by_the_libraries(tmp_path):
    with logging_here(tmp_path, level="debug"):
        for name in ("aiohttp.access", "aiohttp.server", "aiohttp.websocket", "asyncio"):
            logging.getLogger(name).error("GET /ws?token=secret")
    assert lines(tmp_path) == []


def test_without_a_terminal_the_console_has_json_lines_too(tmp_path, capsys):
    with logging_here(tmp_path, quiet=False) as log:
        log.info("both")
    assert json.loads(capsys.readouterr().err)["event"] == "both"
    assert lines(tmp_path)[0]["event"] == "both"


def test_without_a_state_dir_there_is_no_file(tmp_path, capsys):
    with logging_here(None, quiet=False) as log:
        log.info("console")
    assert json.loads(capsys.readouterr().err)["event"] == "console"
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_rotated_and_its_folder_is_ours_alone(tmp_path):
    with logging_here(tmp_path / "state", file_bytes=5_000, files=2) as log:
        for n in range(200):
            log.info("line", n=n)
    folder = tmp_path / "state" / "log"
    found = sorted(path.name for path in folder.iterdir())
    assert found == [FILE_NAME, f"{FILE_NAME}.1", f"{FILE_NAME}.2"]
    assert all(path.stat().st_size <= 5_000 for path in folder.iterdir())
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("how", ["moved", "removed", "replaced"])
def test_a_file_that_is_no_longer_there_is_begun_anew_by_the_next_line(tmp_path, how):
    path, old = tmp_path / "log" / FILE_NAME, tmp_path / "log" / "old"
    with logging_here(tmp_path) as log:
        log.info("before")
        until_written(path, "before")
        if how == "removed":
            path.unlink()
        else:
            path.rename(old)
        if how == "replaced":
            path.touch()
        log.info("after")
        until_written(path, "after")
        log.info("last")
    assert [line["event"] for line in lines(tmp_path)] == ["after", "last"]
    if how != "removed":
        assert [json.loads(line)["event"] for line in old.read_text().splitlines()] == ["before"]


def until_written(path, event):
    """Wait until the writing thread has come to it."""
    for _ in range(3000):
        if path.exists() and event in path.read_text():
            return
        time.sleep(0.01)
    raise AssertionError(event)


def test_everything_logged_is_written_in_order_before_it_closes(tmp_path):
    with logging_here(tmp_path) as log:
        for n in range(3_000):
            log.info("line", n=n)
    assert [line["n"] for line in lines(tmp_path)] == list(range(3_000))


def test_leaving_puts_everything_back(tmp_path):
    root = logging.getLogger()
    before = root.handlers[:], root.level, threading.active_count()
    with logging_here(tmp_path):
        assert root.handlers != before[0]
    assert (root.handlers, root.level) == before[:2]
    assert threading.active_count() <= before[2]  # of others, some may have ended
    assert not structlog.is_configured()


class Stuck(logging.Handler):
    """A disk that takes nothing until it is let go."""

    def __init__(self):
        super().__init__()
        self.going = threading.Event()
        self.begun = threading.Event()

    def emit(self, _):
        self.begun.set()
        assert self.going.wait(30)


def test_a_disk_that_stalls_holds_up_nobody_and_costs_a_bounded_number_of_lines(
    tmp_path, monkeypatch, capsys
):
    stuck = Stuck()
    monkeypatch.setattr(module, "BACKLOG", 10)
    monkeypatch.setattr(module, "LogFile", lambda *_, **__: stuck)
    with logging_here(tmp_path) as log:
        log.info("first")
        assert stuck.begun.wait(30)
        for n in range(100):
            log.info("line", n=n)
        threading.Timer(0.05, stuck.going.set).start()  # the queue is full while it closes
    assert "90 log lines were dropped" in capsys.readouterr().err


def test_a_full_disk_costs_lines_and_says_nothing_on_the_console(tmp_path, capsys):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / FILE_NAME).symlink_to("/dev/full")
    with logging_here(tmp_path) as log:
        for n in range(10):
            log.info("line", n=n)
    assert capsys.readouterr().err == ""
