"""What systemd hands over is taken, what it is told is true, and a blocked loop is found out."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
import uuid
from contextlib import suppress

import pytest
from service_manager import Heard, begin, beginning, listening_line
from support import settings_for

from daemon import home
from daemon.app import CLOSING, Daemon
from daemon.client import Client
from daemon.sdnotify import ServiceManager, extension
from daemon.web.auth import Tokens, load_secret

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 1; done"


@pytest.fixture
def heard(tmp_path):
    manager = Heard(str(tmp_path / "notify"))
    yield manager
    manager.close()


@pytest.fixture
def serve(tmp_path, heard):
    """Start a daemon that tells `heard`; what is left of it is killed with the test."""
    with beginning(tmp_path / "state", NOTIFY_SOCKET=heard.address) as start:
        yield start


@pytest.fixture
def client(tmp_path):
    state_dir = tmp_path / "state"
    return Client(
        lambda: home.discover(state_dir),
        token=lambda: Tokens(load_secret(state_dir, "", {})).mint("tester"),
    )


def begins(text):
    return lambda state: state.startswith(text)


async def create(client, script):
    created = await client.call(
        "session.create", {"agent": "command", "argv": ["sh", "-c", script]}
    )
    return created["sessionId"]


async def output_of(client, session):
    """Read what a session writes, up to its end."""
    text = ""
    async for message in client.subscribe(f"session:{session}", since=0):
        text += message.data["content"] if message.type == "session.stream_output" else ""
        if message.type in ("session.completed", "session.error", "session.cancelled"):
            return text
    raise AssertionError(text)


# What is taken


def test_without_systemd_there_is_nothing_and_telling_has_no_effect():
    environ = {"PATH": "/bin"}
    manager = ServiceManager.taken_from(environ)
    assert manager == ServiceManager()
    manager.notify("READY=1")
    assert environ == {"PATH": "/bin"}


def test_what_is_for_this_process_is_taken_and_no_child_finds_it():
    ours = str(os.getpid())
    environ = {
        "NOTIFY_SOCKET": "/run/notify",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": ours,
        "LISTEN_FDS": "0",
        "LISTEN_PID": ours,
        "LISTEN_FDNAMES": "",
        "PATH": "/bin",
    }
    manager = ServiceManager.taken_from(environ)
    assert (manager.notify_socket, manager.watchdog, manager.sockets) == ("/run/notify", 30.0, ())
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("environ", "watchdog"),
    [
        ({"WATCHDOG_USEC": "2000000"}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
    ],
)
def test_the_watchdog_counts_only_where_it_is_ours_and_a_number(environ, watchdog):
    assert ServiceManager.taken_from(environ).watchdog == watchdog


def test_sockets_of_another_process_are_left_alone():
    assert ServiceManager.taken_from({"LISTEN_PID": "1", "LISTEN_FDS": "3"}).sockets == ()


# What is told


@pytest.mark.parametrize("abstract", [False, True])
async def test_states_go_as_one_datagram_to_a_path_or_a_name(tmp_path, abstract):
    address = f"@agentcmd-{uuid.uuid4()}" if abstract else str(tmp_path / "n")
    heard = Heard(address)
    ServiceManager(address).notify("READY=1", "STATUS=well")
    assert await heard.next() == ["READY=1", "STATUS=well"]
    heard.close()


def test_a_manager_that_is_gone_or_takes_nothing_harms_nobody(tmp_path):
    ServiceManager(str(tmp_path / "none")).notify("READY=1")
    ServiceManager("x" * 300).notify("READY=1")
    full = Heard(str(tmp_path / "full"))
    began = time.monotonic()
    for _ in range(2000):  # more than any socket holds
        ServiceManager(full.address).notify("STATUS=" + "x" * 500)
    assert time.monotonic() - began < 10
    full.close()


def test_an_extension_is_told_in_microseconds():
    assert extension(1.5) == "EXTEND_TIMEOUT_USEC=1500000"


async def test_only_what_has_changed_is_told_again(heard, monkeypatch):
    monkeypatch.setattr("daemon.sdnotify.PERIOD", 0.01)
    told = ["a", "a", "b", "b", "b", "c"]
    attending = asyncio.ensure_future(
        ServiceManager(heard.address).attend(lambda: (told.pop(0) if told else "c",))
    )
    assert [await heard.next() for _ in range(3)] == [["a"], ["b"], ["c"]]
    attending.cancel()
    with suppress(asyncio.CancelledError):
        await attending
    assert heard.waiting() == []


async def test_a_blocked_loop_misses_its_pings(tmp_path, heard):
    manager = ServiceManager(heard.address, watchdog=0.2)
    async with Daemon(settings_for(tmp_path / "state"), manager=manager):
        for _ in range(3):
            await heard.until(begins("WATCHDOG=1"))
        heard.waiting()
        time.sleep(0.5)  # the loop does nothing else meanwhile, and other threads could
        assert "WATCHDOG=1" not in heard.waiting()
        await heard.until(begins("WATCHDOG=1"))


# A daemon as a service


async def test_a_service_says_ready_when_it_answers_pings_and_tells_what_runs(serve, heard, client):
    process = serve(WATCHDOG_USEC="400000")
    assert await heard.next() == ["READY=1"]
    url = listening_line(process)
    await heard.until(f"STATUS={url}: 0 running, 0 queued".__eq__)
    await heard.until(begins("WATCHDOG=1"))
    async with client:
        session = await create(client, "exec sleep 300")
        await heard.until(f"STATUS={url}: 1 running, 0 queued".__eq__)
        await client.call("session.cancel", {"sessionId": session})
        await heard.until(f"STATUS={url}: 0 running, 0 queued".__eq__)
    process.terminate()
    await heard.until(begins("STOPPING=1"))
    assert await asyncio.to_thread(process.wait, 20) == 0


async def test_what_waits_for_a_slot_is_told_apart(serve, heard, client):
    serve(AGENTCMD_TASK__MAX_RUNNING="1")
    await heard.until(begins("READY=1"))
    async with client:
        for _ in range(2):
            await create(client, "exec sleep 300")
        await heard.until(lambda state: state.endswith(": 1 running, 1 queued"))


async def test_a_stopped_service_pings_no_more(serve, heard):
    process = serve(WATCHDOG_USEC="200000")
    await heard.until(begins("WATCHDOG=1"))
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    heard.waiting()
    with pytest.raises(TimeoutError):
        await heard.next(0.5)
    process.send_signal(signal.SIGCONT)
    await heard.until(begins("WATCHDOG=1"))


async def test_a_drain_says_what_it_waits_for_and_asks_for_time_and_a_second_sigterm_ends_it(
    serve, heard, client
):
    process = serve(AGENTCMD_SERVER__SHUTDOWN_TIMEOUT="60", AGENTCMD_TASK__STOP_GRACE="60")
    await heard.until(begins("READY=1"))
    async with client:
        session = await create(client, STUBBORN)
        async for message in client.subscribe(f"session:{session}", since=0):
            if message.type == "session.stream_output":
                break
        process.terminate()
        stopping, told, asked = await heard.until(begins("STOPPING=1"))
        assert (stopping, told, asked) == (
            "STOPPING=1",
            f"STATUS=draining: waits up to 60 s for session:{session}",
            extension(60 + CLOSING),
        )
        told, asked, *_ = await heard.until(lambda state: "draining" in state and state != told)
        left = int(told.split("up to ")[1].split()[0])
        assert left < 60
        assert told == f"STATUS=draining: waits up to {left} s for session:{session}"
        assert asked == extension(left + CLOSING)
        process.terminate()
        killing = f"STATUS=draining: kills session:{session}"
        assert extension(CLOSING) in await heard.until(killing.__eq__)
        last = "STATUS=draining: writes and delivers the rest"
        assert extension(CLOSING) in await heard.until(last.__eq__)
        _, err = await asyncio.to_thread(process.communicate, timeout=30)
    assert process.returncode == 0
    logged = {line["event"]: line for line in map(json.loads, err.splitlines())}
    assert logged["daemon.draining"]["waits_for"] == f"session:{session}"
    assert logged["daemon.draining"]["seconds"] == 60.0
    assert logged["daemon.killing"]["hurried"] is True
    assert logged["daemon.closing"]["seconds"] == CLOSING


async def test_no_child_gets_what_systemd_has_handed_to_the_daemon(heard, client, tmp_path):
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "agentcmd-secret").write_text("s" * 40)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process = begin(
            tmp_path / "state",
            listening,
            umask=0o027,
            NOTIFY_SOCKET=heard.address,
            WATCHDOG_USEC="30000000",
            LISTEN_FDNAMES="agentcmd.socket",
            CREDENTIALS_DIRECTORY=str(credentials),
        )
        try:
            await heard.until(begins("READY=1"))
            client = Client(
                lambda: home.discover(tmp_path / "state"),
                token=lambda: Tokens(b"s" * 40).mint("tester"),
            )
            async with client:
                session = await create(client, "env; echo; umask; ls /proc/self/fd")
                variables, rest = (await output_of(client, session)).split("\n\n")
        finally:
            process.kill()
            process.communicate()
    names = {line.partition("=")[0] for line in variables.splitlines()}
    assert not {
        name
        for name in names
        if name.startswith(("NOTIFY_", "WATCHDOG_", "LISTEN_", "CREDENTIALS_", "AGENTCMD_"))
    }
    assert rest.split() == ["0027", "0", "1", "2", "3"]  # 3 is the folder that ls reads


async def test_a_run_below_a_service_says_nothing_in_its_name(heard, tmp_path):
    process = begin(
        tmp_path / "state",
        argv=[os.sys.executable, "-m", "daemon", "run", "--", "echo", "hi"],
        NOTIFY_SOCKET=heard.address,
    )
    out, err = await asyncio.to_thread(process.communicate, timeout=30)
    assert (process.returncode, out) == (0, "hi\n"), err
    assert heard.waiting() == []
