"""A database that was removed while its log of commits stayed: nothing of the log is lost."""

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

LOG = "agentcmd.db-wal"


def agentcmd(process, *command):
    """Run a command line of the daemon's state dir to its end, which comes soon."""
    return subprocess.run(
        [sys.executable, "-m", "daemon", *command],
        check=False,
        env=process.environ,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
async def killed(daemon_process, tmp_path):
    """A daemon that was killed after it had written, so that its log has commits."""
    daemon_process.start()
    async with daemon_process.client() as client:
        await client.call("project.add", {"path": str(tmp_path)})
    daemon_process.kill()
    assert (daemon_process.state_dir / LOG).stat().st_size > 0
    return daemon_process


@pytest.mark.parametrize("left", ["nothing", "an empty file"])
async def test_a_start_is_refused_until_the_database_is_back(left, killed, tmp_path):
    path = killed.state_dir / "agentcmd.db"
    log = (killed.state_dir / LOG).read_bytes()
    path.rename(tmp_path / "away")
    if left != "nothing":
        path.touch(mode=0o600)
    for command in (["serve"], ["run", "--", "echo", "hello"]):
        refused = agentcmd(killed, *command)
        assert (refused.returncode, refused.stdout) == (1, "")
        (sentence,) = refused.stderr.splitlines()
        assert f"{path}: it is {'gone' if left == 'nothing' else 'empty'}, but {LOG}" in sentence
        assert f"move {LOG} away and keep it" in sentence
        assert (killed.state_dir / LOG).read_bytes() == log
    assert f"move {LOG} away and keep it" in agentcmd(killed, "doctor").stdout
    assert (killed.state_dir / LOG).read_bytes() == log
    (tmp_path / "away").rename(path)
    killed.start()
    async with killed.client() as client:
        projects = (await client.call("project.list"))["projects"]
    assert str(tmp_path) in {each["path"] for each in projects}


async def test_it_begins_anew_without_the_log_that_was_moved_away(killed, tmp_path):
    (killed.state_dir / "agentcmd.db").unlink()
    (killed.state_dir / LOG).rename(tmp_path / "kept")
    killed.start()
    async with killed.client() as client:
        projects = (await client.call("project.list"))["projects"]
    assert [each["id"] for each in projects] == ["scratch"]


def begun_again(log):
    """Return a log as SQLite begins it anew: its frames are of before, and in the file already."""
    return log[:16] + bytes(255 - each for each in log[16:24]) + log[24:]


@pytest.mark.parametrize(
    "kept",
    [lambda _: b"", lambda log: bytes(len(log)), lambda log: log[:32], lambda log: log[:40],
     begun_again, None],
    ids=["empty", "zeros", "header", "half a frame", "begun again", "only shm"],
)  # fmt: skip
async def test_what_holds_no_commit_keeps_nothing_from_starting(kept, killed):
    log = killed.state_dir / LOG
    (killed.state_dir / "agentcmd.db").unlink()
    if kept is None:
        log.unlink()
        assert (killed.state_dir / "agentcmd.db-shm").exists()
    else:
        log.write_bytes(kept(log.read_bytes()))
    killed.start()
    async with killed.client() as client:
        assert await client.call("project.list")
    assert killed.stop() == 0
    with closing(sqlite3.connect(killed.state_dir / "agentcmd.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
