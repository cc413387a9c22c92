"""What goes wrong at terminals: ends that meet beginnings, a full disk, odd programs."""

from __future__ import annotations

import asyncio
import gc
import json

import pytest
from support import RawSocket, until
from viewers import Viewer

from daemon.core.frames import read_output
from domains.shell import service as module
from domains.shell.terminal import LiveTerminal


@pytest.fixture
def connect(running):
    return lambda **token: Viewer.connect(running, **token)


async def test_forgotten_terminals_are_no_subscriptions_and_nobody_holds_on_to_them(start_daemon):
    running = await start_daemon(SHELL__KEEP_ENDED="0.05", WEB__MAX_SUBSCRIPTIONS="4")
    watcher, viewer = await Viewer.connect(running), await Viewer.connect(running)
    await watcher.call("subscribe", channel="shell:*")
    before = terminals_held()
    for _ in range(8):
        viewer.events.clear()
        await viewer.create("true")
        await viewer.exit()
        await until(lambda: running.daemon._journal.get(viewer.channel) is None)
    await watcher.until(lambda: len(watcher.told("shell.exit")) == 8)
    assert terminals_held() <= before + 1  # the last one may be in somebody's hands


def terminals_held():
    gc.collect()
    return sum(1 for each in gc.get_objects() if isinstance(each, LiveTerminal))


async def test_ended_terminals_keep_only_so_much(start_daemon, monkeypatch):
    monkeypatch.setattr(module, "ENDED_BYTES", 300_000)
    running = await start_daemon()
    viewer = await Viewer.connect(running)
    for _ in range(4):
        viewer.events.clear()
        await viewer.create("head", "-c", "200000", "/dev/zero")
        await viewer.exit()
    kept = (await viewer.call("shell.list"))["data"]["terminals"]
    assert [each["id"] for each in kept] == [viewer.id]


async def test_one_that_ends_last_is_not_forgotten_before_that_is_told(start_daemon, monkeypatch):
    monkeypatch.setattr(module, "ENDED_BYTES", 300_000)
    running = await start_daemon()
    oldest, others = await Viewer.connect(running), await Viewer.connect(running)
    await oldest.create("sh", "-c", "stty -echo; echo ready; read go; head -c 250000 /dev/zero")
    await oldest.until(b"ready")
    await others.create("head", "-c", "250000", "/dev/zero")
    await others.exit()
    await oldest.type("\r")
    assert (await oldest.exit())["exitCode"] == 0
    assert len(oldest.output) > 250_000
    kept = (await oldest.call("shell.list"))["data"]["terminals"]
    assert [each["id"] for each in kept] == [oldest.id]


async def test_one_that_is_still_read_is_kept_though_there_are_too_many(start_daemon, monkeypatch):
    monkeypatch.setattr(module, "ENDED_BYTES", 300_000)
    running = await start_daemon(WEB__BUFFER_BYTES="4096")
    owner = await Viewer.connect(running)
    await owner.create("sh", "-c", "read go; head -c 1900000 /dev/zero; echo over")
    slow = await RawSocket.connect(running, receive_bytes=4096)
    data = {"encoding": "binary", "since": 0}
    slow.send(json.dumps({"type": "subscribe", "channel": owner.channel, "data": data}))
    await owner.type("\r")
    await owner.exit()
    last = owner.output[-100:]
    for _ in range(2):
        owner.events.clear()
        await owner.create("head", "-c", "250000", "/dev/zero")
        await owner.exit()
    output = b""
    async with asyncio.timeout(30):
        while not output.endswith(b"over\r\n"):
            opcode, payload = await slow.frame()
            assert opcode in (1, 2, 10)
            if opcode == 2:
                output += read_output(payload)[2]
    assert output[-100:] == last
    slow.close()


async def test_a_look_at_one_that_has_ended_does_not_keep_it_for_ever(start_daemon):
    running = await start_daemon(SHELL__IDLE_TIMEOUT="60", SHELL__KEEP_ENDED="0.1")
    viewer = await Viewer.connect(running)
    for _ in range(10):
        await viewer.call("shell.create", {"command": ["true"], "record": True})
    async with asyncio.timeout(30):
        while (await viewer.call("shell.list"))["data"]["terminals"]:
            await asyncio.sleep(0.02)


async def test_the_disk_may_be_full_and_keys_still_arrive(connect, running):
    viewer = await connect()
    await viewer.create("cat")
    running.daemon._journal.stalled = "disk full"
    try:
        refused = await viewer.call("shell.create", {"command": ["cat"]})
        assert refused["data"]["code"] == "unavailable"
        await viewer.type("df\r")
        await viewer.until(b"df\r\ndf")
        assert (await viewer.call("shell.signal", {"signal": "INT"}))["type"] == "shell.signal.ok"
        assert (await viewer.exit())["signal"] == 2
    finally:
        running.daemon._journal.stalled = None


async def test_a_recording_that_begins_with_the_end_ends_too(connect, running):
    viewer = await connect()
    for _ in range(20):
        answer = await viewer.call("shell.create", {"command": ["true"], "record": True})
        assert answer["type"] == "shell.create.ok", answer
    ids = [each["id"] for each in (await viewer.call("shell.list"))["data"]["terminals"]]
    for viewer.id in ids:
        await viewer.call("shell.close")

    async def recorded():
        terminals = (await viewer.call("shell.list"))["data"]["terminals"]
        return [each["id"] for each in terminals if each.get("recording")]

    def writers():
        names = [task.get_name() for task in running.daemon._supervisor._tasks]
        return [name for name in names if name.startswith("recording")]

    async with asyncio.timeout(30):
        while await recorded() or writers():
            await asyncio.sleep(0.01)


async def test_a_recording_that_cannot_begin_leaves_no_terminal(connect, running):
    (running.daemon.state_dir / "recordings").write_text("in the way")
    viewer = await connect()
    answer = await viewer.call("shell.create", {"command": ["cat"], "record": True})
    assert answer["data"]["code"] == "unavailable"
    assert len(running.daemon.tasks) == 0


async def test_only_one_of_many_recordings_begins(connect, running):
    viewer = await connect()
    await viewer.create("cat")
    for number in range(6):
        await viewer.send("shell.record") if number else None
    answer = await viewer.call("shell.record")
    assert answer["data"]["code"] == "conflict"
    await viewer.until("shell.record.ok")
    assert len(list((running.daemon.state_dir / "recordings").iterdir())) == 1


async def test_a_signal_reaches_a_pipeline_whose_first_program_has_ended(connect):
    viewer = await connect()
    await viewer.create("bash", "--norc", "-i", env={"PS1": "now> "})
    await viewer.type("true | sh -c 'echo go; exec sleep 60'\r")
    await viewer.until(b"go\r\n")
    viewer.output.clear()
    await viewer.send("shell.signal", signal="INT")
    await viewer.until(b"now> ")
    await viewer.type("exit 3\r")
    assert (await viewer.exit())["exitCode"] == 3


DEAF = """
exec </dev/null >/dev/null 2>&1
sleep 0.3
echo password? >/dev/tty
read answer </dev/tty
echo "got $answer" >/dev/tty
"""


async def test_a_program_may_come_back_to_its_terminal(connect):
    viewer = await connect()
    await viewer.create("sh", "-c", DEAF)
    await viewer.until(b"password?")
    await viewer.type("secret\r")
    await viewer.exit()
    assert b"got secret" in viewer.output


async def test_one_that_says_the_same_again_and_again_holds_nobody_for_long(connect, monkeypatch):
    monkeypatch.setattr("domains.shell.pace.STALL", 0.3)
    viewer = await connect()
    await viewer.create("sh", "-c", "read go; head -c 3000000 /dev/zero; echo over")
    await viewer.send("shell.ack", offset=0)
    await viewer.type("\n")
    async with asyncio.timeout(30):
        while b"over" not in viewer.output:
            await viewer.take()
            await viewer.send("shell.ack", offset=1)


async def test_many_may_close_one_at_once_and_all_learn_of_its_one_end(connect, running):
    viewer = await connect()
    await viewer.create("sh", "-c", "trap '' HUP TERM; echo ready; while :; do sleep 0.1; done")
    await viewer.until(b"ready")
    others = [await connect() for _ in range(3)]
    for each in others:
        each.id = viewer.id
    closing = [each.call("shell.close") for each in others]
    answers = await asyncio.gather(*closing, viewer.call("task.kill", {"taskId": viewer.id}))
    assert {each["data"].get("reason") for each in answers[:3]} == {"closed"}
    assert (await viewer.exit())["signal"] == 9
    assert len(running.daemon.tasks) == 0
