"""agentcmd shell and attach: a terminal of the daemon at a real one, which is left as it was."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support import DaemonProcess, argv_of, descendants, free_port, standing_in_for

from daemon.cli.main import main
from daemon.cli.tty import RESTORE

ROOT = Path(__file__).parents[2]

AROUND = """
before=$(stty -g); "$@"; code=$?
if [ "$(stty -g)" = "$before" ]; then echo "[as before, code $code]"
else echo "[otherwise, code $code]"; fi
read end
"""
"""A shell as somebody has it who calls us: it says whether its terminal is as before."""

PROMPT = ("env", "PS1=now> ", "bash", "--norc", "--noprofile", "-i")


@pytest.fixture(scope="module")
def environ(tmp_path_factory):
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AGENTCMD_")},
        "AGENTCMD_SERVER__STATE_DIR": str(tmp_path_factory.mktemp("shell") / "state"),
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture(scope="module")
def serving(environ):
    """One daemon for all tests that leave it alive."""
    daemon = DaemonProcess(Path(environ["AGENTCMD_SERVER__STATE_DIR"]))
    daemon.url = daemon.start()
    yield daemon
    daemon.process.kill()
    daemon.close()


@pytest.fixture
def cli(serving, monkeypatch, capfdbinary, tmp_path):
    """Run a command line in this process, as in a pipe; gives its exit code, output and errors."""
    monkeypatch.setenv("AGENTCMD_SERVER__STATE_DIR", str(serving.state_dir))

    def run(*args, stdin=b""):
        given = tmp_path / "given"
        given.write_bytes(stdin)
        with given.open("rb") as file, standing_in_for(0, file.fileno()):
            try:
                code = main(args)
            except SystemExit as end:
                code = end.code
        return code, *(each.decode() for each in capfdbinary.readouterr())

    return run


@pytest.fixture
def terminals(cli):
    """Give the terminals, by their ids."""
    return lambda: {each["id"]: each for each in json.loads(cli("shell", "list", "--json")[1])}


@pytest.fixture
def create(cli):
    """Open a terminal that nobody looks at; gives its id."""

    def opened(*command, **data):
        code, out, err = cli(
            "call", "shell.create", json.dumps({"command": list(command) or ["cat"], **data})
        )
        assert code == 0, err
        return json.loads(out)["terminalId"]

    return opened


class Seat:
    """A shell at a terminal, in which a command of ours runs, as its user sees it."""

    def __init__(self, *args, env, cwd, script=AROUND):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execvpe("sh", ["sh", "-c", script, "sh", sys.executable, *args], env)
        self.resize(90, 20)
        self.seen = b""

    def resize(self, cols, rows):
        size = rows.to_bytes(2, "little") + cols.to_bytes(2, "little") + bytes(4)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, size)

    def until(self, pattern, timeout=30):
        """Read until a pattern has come; gives what it has found, and forgets all up to it."""
        end = time.monotonic() + timeout
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < end, self.seen[-2000:]
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 65536)
        self.seen = self.seen[found.end() :]
        return found

    def ends(self, code):
        """Read to the end of our command: the terminal is as before, whatever the code."""
        before = self.until(rb"(?s)(.*)\[(as before|otherwise), code (\d+)\]")
        assert b"Traceback" not in before[1], before[1].decode(errors="replace")
        assert (before[2], int(before[3])) == (b"as before", code), before[1]
        assert RESTORE in before[1]
        return before[1]

    def type(self, text):
        while text:
            text = text[os.write(self.fd, text) :]

    @property
    def command(self):
        """The process id of our command."""
        (child,) = descendants(self.pid)
        return child

    def close(self):
        if self.fd is not None:
            os.close(self.fd)
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "folder"
    made.mkdir()
    return made


@pytest.fixture
def sit(environ, folder, serving):  # noqa: ARG001
    """Run a command line of ours at a terminal."""
    seats = []

    def opened(*args, env=None, **options):
        seat = Seat("-m", "daemon", *args, env={**environ, **(env or {})}, cwd=folder, **options)
        seats.append(seat)
        return seat

    yield opened
    for seat in seats:
        seat.close()


# At a terminal


REPORTS = "trap 'stty size' WINCH; trap 'echo interrupted; exit 5' INT; stty size; echo ready; "
REPORTS += "while :; do read -t 0.05 x && echo got $x; done"


def test_keys_sizes_and_ctrl_c_reach_the_program_and_its_exit_code_is_ours(sit):
    seat = sit("shell", "--", "bash", "-c", REPORTS)
    seat.until(rb"terminal \w+; Ctrl-\] detaches\r\n")
    seat.until(rb"20 90\r\nready")
    seat.type(b"\x1a")
    seat.until(rb"\^Z")  # it has no shell of its own that it could be stopped for
    seat.type("é\r".encode())
    seat.until("got é".encode())
    os.kill(seat.command, signal.SIGSTOP)
    ordinary = termios.tcgetattr(seat.fd)
    ordinary[3] |= termios.ECHO | termios.ICANON | termios.ISIG
    termios.tcsetattr(seat.fd, termios.TCSANOW, ordinary)  # as a shell does with its jobs
    seat.resize(101, 31)
    os.kill(seat.command, signal.SIGCONT)
    seat.until(rb"31 101")
    seat.type(b"\x03")
    assert b"interrupted" in seat.ends(5)


def test_one_detaches_and_comes_back_to_the_same_screen(sit, terminals):
    seat = sit("shell", "--", *PROMPT)
    seat.until(rb"now> ")
    seat.type(b"printf '\\033[?1000h\\033[?2004h'; echo mar''ker\r")
    seat.until(rb"marker\r\n")
    seat.type(b"echo last\r\x1d")
    told = seat.ends(0)
    id_ = re.search(rb"\r\nagentcmd: detached; 'agentcmd attach (\w+)' comes back\r\n", told)[1]
    assert terminals()[id_.decode()]["state"] == "running"
    again = sit("attach", id_.decode())
    screen = again.until(rb"(?s)detaches\r\n(.*marker.*last\r\n)")[1]
    assert b"\x1bc" not in screen  # it would erase what else is here
    assert b"\x1b[?1000h" in screen
    again.until(rb"now> ")
    again.type(b"exit 3\r")
    again.ends(3)


def test_who_may_only_look_on_sees_it_and_types_nothing(sit, create, cli, terminals):
    id_ = create("sh", "-c", "echo begun; read x; echo got $x; read y")
    token = cli("token", "--scope", "read:shell:*")[1].strip()
    seat = sit("attach", id_, env={"AGENTCMD_TOKEN": token})
    seat.until(rb"you may look on only; Ctrl-\] detaches\r\n")
    seat.until(rb"begun\r\n")
    seat.type(b"stray\r")
    cli("call", "shell.input", json.dumps({"terminalId": id_, "data": "word\r"}))
    seat.until(rb"got word\r\n")
    seat.type(b"\x1d")
    assert b"stray" not in seat.ends(0)
    assert (terminals()[id_]["cols"], terminals()[id_].get("viewers")) == (80, None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_in_order_and_the_terminal_goes_on(sit, create, terminals, number):
    id_ = create()
    seat = sit("attach", id_)
    seat.type(b"seen\r")
    seat.until(rb"seen\r\nseen")
    os.kill(seat.command, number)
    assert b"comes back" in seat.ends(128 + number)
    assert terminals()[id_]["state"] == "running"


def test_the_window_may_be_closed(sit, create, terminals):
    id_ = create()
    seat = sit("attach", id_)
    seat.type(b"seen\r")
    seat.until(rb"seen\r\nseen")
    ours = seat.command
    os.close(seat.fd)
    seat.fd = None
    end = time.monotonic() + 30
    while argv_of(ours):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert terminals()[id_]["state"] == "running"


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_daemon_that_ends_is_one_clear_line(sit, tmp_path, how):
    daemon = DaemonProcess(tmp_path / "state")
    daemon.start()
    try:
        env = {"AGENTCMD_SERVER__STATE_DIR": str(daemon.state_dir)}
        seat = sit("shell", "--", "sh", "-c", "printf '\\033[?1049hready'; sleep 60", env=env)
        seat.until(rb"ready")
        getattr(daemon, how)()
        told = seat.ends(1)
    finally:
        daemon.process.kill()
        daemon.close()
    assert told.count(b"agentcmd: ") == 1
    assert b"agentcmd: the daemon stopped, and the terminal with it\r\n" in told


class Proxy:
    """A way to the daemon that can be cut."""

    def __init__(self, url):
        self.to = int(url.rpartition(":")[2])
        self.port = free_port()
        self.server = socket.create_server(("127.0.0.1", self.port))
        self.ends = []
        self._accept()

    def _accept(self):
        threading.Thread(target=self._serve, args=(self.server,), daemon=True).start()

    def _serve(self, server):
        with suppress(OSError):
            while True:
                near, _ = server.accept()
                far = socket.create_connection(("127.0.0.1", self.to))
                self.ends += near, far
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, one, other):
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def cut(self):
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        for each in self.ends:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self.ends.clear()

    def mend(self):
        self.server = socket.create_server(("127.0.0.1", self.port))
        self._accept()


def test_a_broken_connection_is_told_and_made_again_and_nothing_is_lost_or_doubled(sit, serving):
    proxy = Proxy(serving.url)
    env = {"AGENTCMD_URL": f"http://127.0.0.1:{proxy.port}"}
    script = "stty -echo; echo one; read x; echo two-$x; read y; echo three-$y"
    seat = sit("shell", "--", "sh", "-c", script, env=env)
    seat.until(rb"one\r\n")
    seat.type(b"a\r")
    seat.until(rb"two-a\r\n")
    proxy.cut()
    seat.until(rb"agentcmd: the connection broke; connecting again \(Ctrl-\] leaves\)")
    seat.type(b"typed meanwhile\r")
    proxy.mend()
    seat.until(rb"agentcmd: connected again")
    told = seat.ends(0)
    assert told.count(b"three-typed meanwhile\r\n") == 1
    assert b"one" not in told
    assert b"two" not in told
    proxy.cut()


def test_one_can_leave_while_the_connection_is_broken(sit, serving):
    proxy = Proxy(serving.url)
    seat = sit("shell", "--", "cat", env={"AGENTCMD_URL": f"http://127.0.0.1:{proxy.port}"})
    seat.type(b"here\r")
    seat.until(rb"here\r\nhere")
    proxy.cut()
    seat.until(rb"connection broke")
    seat.type(b"\x1d")
    assert b"comes back" in seat.ends(0)


def test_ctrl_c_works_at_once_on_a_terminal_that_is_slow(sit):
    seat = sit("shell", "--", *PROMPT)
    seat.until(rb"now> ")
    seat.type(b"yes flood\r")
    seat.until(rb"(?:flood\r\n){1000}")
    time.sleep(0.5)  # for once: what must not be there is much that waits for us
    seat.type(b"\x03")
    seen, seat.seen = len(seat.seen), b""
    while b"^C" not in seat.seen:
        seat.seen = seat.seen[-2:] + os.read(seat.fd, 65536)
        seen += len(seat.seen)
    assert seen < 1 << 20
    seat.until(rb"now> ")
    seat.type(b"exit\r")
    seat.ends(130)


def test_a_large_paste_arrives_whole_and_in_order(sit):
    paste = "".join(f"{number} é\n" for number in range(30_000)).encode()
    script = f"stty raw -echo; echo ready; head -c {len(paste)} | sha256sum"
    seat = sit("shell", "--", "sh", "-c", script)
    seat.until(rb"ready")
    seat.type(paste)
    seat.until(hashlib.sha256(paste).hexdigest().encode())
    seat.ends(0)


# Without one


def test_what_is_piped_in_is_typed_and_its_end_is_the_end(cli):
    code, out, err = cli("shell", "--", "sh", stdin=b"echo $((40+2)); exit 4\n")
    assert (code, err) == (4, "")
    assert "42\r\n" in out
    assert "\x1b" not in out
    code, out, err = cli("shell", "--", "sh", stdin=b"cat | tr a-z A-Z\nsome text\n")
    assert (code, err) == (0, "")
    assert "SOME TEXT\r\n" in out


def test_the_exit_code_is_that_of_the_program_or_of_its_signal(cli, folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "list").mkdir()
    done = cli("shell", "./list", "--", "sh", "-c", "pwd; kill -TERM $$")
    assert done == (128 + signal.SIGTERM, f"{folder}/list\r\n", "")


def test_who_reads_no_more_ends_a_terminal_that_nobody_else_knows(environ, folder, terminals):
    before = terminals()
    with subprocess.Popen(
        [sys.executable, "-m", "daemon", "shell", "--", "yes"],
        env=environ,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout.read(3) == b"y\r\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141
    (made,) = terminals().keys() - before.keys()
    assert terminals()[made]["reason"] == "closed"


def test_the_folder_becomes_a_project_where_it_is_in_none(cli, folder):
    (folder / ".git").mkdir()
    (folder / "deep").mkdir()
    for _ in range(2):
        out = cli("shell", str(folder / "deep"), "--", "pwd")[1]
        assert out == f"{folder}/deep\r\n"
    projects = json.loads(cli("project", "list", "--json")[1])
    assert [each["path"] for each in projects if str(folder) in each["path"]] == [str(folder)]


def test_attach_shows_an_ended_terminal_to_its_end(create, terminals, cli):
    wrote, silent = create("sh", "-c", "echo said; exit 6"), create("sh", "-c", "exit 7")
    end = time.monotonic() + 30
    while any(terminals()[each]["state"] == "running" for each in (wrote, silent)):
        assert time.monotonic() < end
    assert cli("attach", wrote) == (6, "said\r\n", "")
    assert cli("attach", silent) == (7, "", "")
    assert "exit 6" in cli("shell", "list")[1]


def test_who_looks_on_without_a_terminal_ends_nothing(create, terminals, cli):
    id_ = create("sh", "-c", "echo begun; sleep 0.5; echo over")
    assert cli("attach", id_)[1] == "begun\r\nover\r\n"
    assert terminals()[id_]["reason"] == "exited"


# All of them


def test_terminals_are_listed_and_closed(create, cli, terminals):
    one, two = create("cat"), create("sh", "-c", "sleep 70", "a\nb")
    code, out, _ = cli("shell", "list")
    assert code == 0
    assert out.startswith("ID ")
    assert re.search(rf"{one} +running +\ds +80x24 +0 +cat +/", out)
    assert re.search(rf"{two} .* sh -c 'sleep 70' 'a b' ", out)
    assert cli("shell", "close", one, two) == (0, "", "")
    assert {terminals()[each]["reason"] for each in (one, two)} == {"closed"}
    assert cli("shell", "close", one)[0] == 0  # it is closed
    code, out, err = cli("shell", "close", "nobody", one, "none")
    assert (code, out, err.count("\n")) == (1, "", 2)
    assert "nobody" in err


def test_a_terminal_is_recorded_and_the_recording_written_to_a_file(create, cli, tmp_path):
    id_ = create("sh", "-c", "echo begun; read x; echo got $x; read y")
    file = tmp_path / "it.cast"
    assert cli("shell", "record", id_, "-o", str(file))[0] == 1
    assert not file.exists()
    assert cli("shell", "record", "--input", id_)[:2] == (0, "")
    code, _, err = cli("shell", "record", id_)
    assert (code, err.count("\n")) == (1, 1)
    cli("call", "shell.input", json.dumps({"terminalId": id_, "data": "it\r"}))
    end = time.monotonic() + 30
    while "got it" not in cli("shell", "record", id_, "-o", "-")[1]:
        assert time.monotonic() < end
    assert cli("shell", "record", id_, "--stop", "-o", str(file)) == (0, "", "")
    head, *events = [json.loads(line) for line in file.read_text().splitlines()]
    assert (head["version"], head["term"]["cols"]) == (3, 80)
    assert "i" in {kind for _, kind, _ in events}


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("shell", "--"), 2, "nothing to run"),
        (("shell", "list", "--", "ls"), 2, "nothing may follow"),
        (("shell", "nowhere"), 2, "nowhere"),
        (("shell", "--", "/no/such/program"), 2, "/no/such/program"),
        (("shell", "close"), 2, "'agentcmd shell close --help'"),
        (("shell", "close", "nobody"), 1, "'agentcmd shell list'"),
        (("shell", "record", "x", "--input", "--stop"), 2, "--input"),
        (("shell", "record", "nobody"), 1, "'agentcmd shell list'"),
        (("attach", "nobody"), 1, "no terminal and no session"),
        (("shell", "list", "--state-dir", "/nonexistent/x"), 3, "agentcmd serve"),
    ],
)
def test_what_goes_wrong_is_one_line_and_its_code(cli, args, code, told):
    found, out, err = cli(*args)
    assert (found, out, err.count("\n")) == (code, "", 1), err
    assert err.startswith("agentcmd: ")
    assert told in err
