"""Fixtures of the command-line tests: a command to its end, one under way, one on a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from contextlib import suppress
from pathlib import Path
from unittest import mock

import pytest
from model import Model
from support import DaemonProcess

from daemon.cli.main import main

ROOT = Path(__file__).parents[2]
AGENTCMD = [sys.executable, "-m", "daemon"]

PROGRAMS = ("run", "serve")
"""Commands that take over their process: its standard streams, its signals, its log."""


@pytest.fixture
def environ(tmp_path):
    return {
        **os.environ,
        "AGENTCMD_SERVER__STATE_DIR": str(tmp_path / "state"),
        "PYTHONPATH": str(ROOT),  # commands run in a folder of their own
    }


@pytest.fixture(scope="module")
def shared_environ(tmp_path_factory):
    """The environment of commands for `shared_daemon`, without settings of whoever runs tests."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AGENTCMD_")},
        "AGENTCMD_SERVER__STATE_DIR": str(tmp_path_factory.mktemp("shared") / "state"),
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture(scope="module")
def shared_daemon(shared_environ):
    """One daemon for all tests of a module."""
    daemon = DaemonProcess(Path(shared_environ["AGENTCMD_SERVER__STATE_DIR"]))
    daemon.start()
    yield daemon
    daemon.process.kill()
    daemon.close()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "folder"
    made.mkdir()
    return made


@pytest.fixture
def agentcmd(environ, folder, capfdbinary):
    """Run a command line to its end, in a folder of its own.

    One that is a program of its own where it matters is one here; the others are run in this
    process, by what `__main__` calls, and have ended before a program would have begun.
    """

    def run(*args, stdin=b"", env=None):
        env = {**environ, **(env or {})}
        if args[0] in PROGRAMS:
            done = subprocess.run(
                [*AGENTCMD, *args],
                input=stdin,
                capture_output=True,
                env=env,
                cwd=folder,
                timeout=60,
                check=False,
            )
        else:
            capfdbinary.readouterr()
            with mock.patch.dict(os.environ, env, clear=True), contextlib.chdir(folder), in_time():
                code = main(args)
            done = subprocess.CompletedProcess(args, code, *capfdbinary.readouterr())
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        assert b"a fault of agentcmd's own" not in done.stderr, done.stderr.decode()
        return done

    return run


@contextlib.contextmanager
def in_time(seconds=60):
    """Fail what takes longer."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it did not end in time"))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def begin(environ, folder):
    """Begin a command line; what is left of it is killed with the test."""
    with contextlib.ExitStack() as stack:

        def popen(*args, env=None, **options):
            options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **options}
            process = subprocess.Popen(
                [*AGENTCMD, *args], env={**environ, **(env or {})}, cwd=folder, **options
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield popen


@pytest.fixture
def model_elsewhere():
    """A model server in a thread: these tests wait for processes, not for a loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    model = Model()

    def wait(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    wait(model.__aenter__())
    yield model
    wait(model.__aexit__())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def serving(tmp_path):
    daemon = DaemonProcess(tmp_path / "state")
    daemon.start()
    yield daemon
    daemon.process.kill()
    daemon.close()


class Terminal:
    """A command on a pseudo-terminal, as its user sees it."""

    def __init__(self, *args, env, cwd):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execve(sys.executable, [*AGENTCMD, *args], env)
        self.seen = b""
        self.code = None

    def until(self, text, timeout=30):
        end = time.monotonic() + timeout
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 4096)
                except OSError:
                    break
        assert text in self.seen, self.seen
        return self.seen

    def type(self, text):
        os.write(self.fd, text)

    def end(self):
        with suppress(OSError):
            while data := os.read(self.fd, 4096):
                self.seen += data
        self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert b"Traceback" not in self.seen, self.seen.decode(errors="replace")
        return self.code

    def hang_up(self):
        """Close the terminal, as a window that is closed does."""
        os.close(self.fd)
        self.fd = None

    def close(self):
        if self.code is None:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        if self.fd is not None:
            os.close(self.fd)


@pytest.fixture
def terminal(environ, folder):
    with contextlib.ExitStack() as stack:

        def opened(*args):
            on = Terminal(*args, env=environ, cwd=folder)
            stack.callback(on.close)
            fcntl.ioctl(on.fd, termios.TIOCSWINSZ, b"\x18\x00\x50\x00" + bytes(4))
            return on

        yield opened
